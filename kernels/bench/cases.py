"""What `python -m kernels.bench` measures: each kernel at its shapes, the least it must do, and its peers."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention.flash2 import flash_attention_2
from kernels.attention.packed import packed_attention
from kernels.attention.paged import paged_attention
from kernels.attention.split_kv import split_kv_attention
from kernels.gemm.fp8 import quantise, scaled_matmul
from kernels.gemm.refined import refined_matmul
from kernels.position.rotary import rotary, rotary_reference, tables
from kernels.softmax.online import softmax


@dataclass(frozen=True)
class Case:
    """One kernel at one shape. `flops` and `moved` (bytes) are the least that any method must do there.

    `held`: whether the roof of `dtype` holds for it; products of smaller numbers may be faster.
    """

    kernel: str
    shape: str
    dtype: torch.dtype
    make: Callable[[], tuple]
    ours: Callable
    peers: Mapping[str, Callable] = field(default_factory=dict)
    flops: float = 0.0
    moved: float = 0.0
    held: bool = True


def cases(device: str) -> Iterator[Case]:
    """All of them: on a GPU at the sizes that the goals name, on a CPU smaller, to show that everything runs."""
    for part in (attention, decoding, softmaxes, rotations, products, packed):
        yield from part(device)


def _dtype(device: str) -> torch.dtype:
    return torch.bfloat16 if device == "cuda" else torch.float32


def attention(device: str) -> Iterator[Case]:
    """16K tokens in sequences of N, heads of D that make 2048: forward, and forward with backward."""
    lengths, tokens, width = ((1024, 4096, 16384), 16384, 2048) if device == "cuda" else ((256,), 256, 256)
    dtype = _dtype(device)
    for d in (64, 128):
        for n in lengths:
            for causal in (False, True):
                shape = tokens // n, width // d, n, d
                name = f"B {shape[0]}, H {shape[1]}, N {n}, D {d}{', causal' if causal else ''}"
                make = functools.partial(_draw, device, dtype, *[shape] * 3)
                ours = functools.partial(flash_attention_2, causal=causal)
                peers = {name: functools.partial(by_backend, one, causal) for name, one in backends(device).items()}
                product = 2 * shape[0] * shape[1] * n * n * d / (2 if causal else 1)
                yield Case("attention", name, dtype, make, ours, peers, flops=2 * product)
                both = {peer: functools.partial(_gradients, attend) for peer, attend in peers.items()}
                yield Case("attention and gradients", name, dtype, functools.partial(_trained, make),
                           functools.partial(_gradients, ours), both, flops=7 * product)  # fmt: skip


def _trained(make: Callable[[], tuple]) -> tuple[Tensor, ...]:
    q, k, v = make()
    return *(x.requires_grad_() for x in (q, k, v)), torch.randn_like(q)


def _gradients(attend: Callable, q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    out = attend(q, k, v)
    return out.detach(), *torch.autograd.grad(out, (q, k, v), g)


PAGE = 16


def decoding(device: str) -> Iterator[Case]:
    """One query of one sequence over M tokens: keys and values are read once, in one piece or in pages."""
    lengths, heads, groups, d = ((8192, 32768, 131072), 32, 8, 128) if device == "cuda" else ((1024,), 8, 2, 64)
    dtype = _dtype(device)
    for m in lengths:
        make = functools.partial(_draw, device, dtype, (1, heads, 1, d), *[(1, groups, m, d)] * 2)
        name, moved = f"{heads}/{groups} heads of {d}, M {m}", 2 * groups * m * d * dtype.itemsize
        fused = {name: functools.partial(by_backend, one, False) for name, one in backends(device).items()}
        yield Case("decoding", name, dtype, make, split_kv_attention, fused, moved=moved)
        table = torch.randperm(m // PAGE, device=device)[None].int()
        size = torch.tensor([m], device=device).int()
        paged = functools.partial(_draw, device, dtype, (1, heads, 1, d), *[(m // PAGE, PAGE, groups, d)] * 2)
        ours = functools.partial(paged_attention, table=table, lengths=size)
        gathered = functools.partial(_gathered, table=table[0].long())
        peers = {"copied, then decoding": gathered}
        yield Case("paged decoding", f"{name}, pages of {PAGE}", dtype, paged, ours, peers, moved=moved)


def _gathered(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """Decoding on a copy of the pages in their order."""
    k, v = (x[table].flatten(0, 1).transpose(0, 1)[None].contiguous() for x in (k, v))
    return split_kv_attention(q, k, v)


def products(device: str) -> Iterator[Case]:
    """Matrix products: float16, float32 from four of float16, and FP8 by tensor and by row."""
    n = 8192 if device == "cuda" else 256
    half = functools.partial(_draw, device, torch.float16, (n, n), (n, n))
    single = functools.partial(_draw, device, torch.float32, (n, n), (n, n))
    peers: dict[str, Callable] = {"torch": torch.matmul}
    yield Case("product of float16", f"{n}^3", torch.float16, half, functools.partial(refined_matmul, products=1),
               {"torch": _in_single}, flops=2 * n**3, held=device == "cuda")  # fmt: skip
    yield Case("product with residuals", f"{n}^3", torch.float32, single, refined_matmul, peers, flops=2 * n**3,
               held=False)  # fmt: skip
    for by in ("tensor", "row"):

        def make(by=by):
            (a, scale_a), (b, scale_b) = (quantise(x, by=by) for x in _draw(device, torch.float32, (n, n), (n, n)))
            return a, b, scale_a, scale_b

        yield Case(f"product of FP8, a scale a {by}", f"{n}^3", _dtype(device), make, scaled_matmul,
                   {"torch, in float32": _dequantised}, flops=2 * n**3, held=False)  # fmt: skip


def _in_single(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b).float()


def _dequantised(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
    rows, cols = (scale[:, None] if scale.dim() else scale for scale in (scale_a, scale_b))
    return (a.float() / rows) @ (b.float() / cols).T


def softmaxes(device: str) -> Iterator[Case]:
    """A row is read and written once."""
    rows, lengths = (4096, (8192, 32768, 131072)) if device == "cuda" else (64, (8192,))
    dtype = _dtype(device)
    for columns in lengths:
        make = functools.partial(_draw, device, dtype, (rows, columns))
        peers = {"torch": functools.partial(torch.softmax, dim=-1)}
        moved = 2 * rows * columns * dtype.itemsize
        yield Case("softmax", f"{rows} x {columns}", dtype, make, functools.partial(softmax, method="online"), peers,
                   moved=moved)  # fmt: skip


def rotations(device: str) -> Iterator[Case]:
    """Queries and keys are read and written once."""
    lengths, heads, groups, d = ((4096, 16384), 32, 8, 128) if device == "cuda" else ((512,), 4, 2, 64)
    dtype = _dtype(device)
    for n in lengths:
        cos, sin = tables(torch.arange(n, device=device), d)

        def make(n=n):
            return _draw(device, dtype, (1, heads, n, d))[0], _draw(device, dtype, (1, groups, n, d))[0]

        for layout in ("halves", "pairs"):
            options = {"cos": cos, "sin": sin, "layout": layout}
            ours, peer = (functools.partial(each, **options) for each in (rotary, rotary_reference))
            moved = 2 * (heads + groups) * n * d * dtype.itemsize
            yield Case(f"rope, {layout}", f"{heads}/{groups} heads, N {n}, D {d}", dtype, make, ours,
                       {"torch, as complex numbers": peer}, moved=moved)  # fmt: skip


def packed(device: str) -> Iterator[Case]:
    """Sequences from a fifth of the longest to all of it; the operations of real pairs alone."""
    longest, heads, d, count = ((256, 1024), 12, 64, 16) if device == "cuda" else ((64,), 4, 32, 4)
    dtype = torch.float16 if device == "cuda" else torch.float32
    for most in longest:
        lengths = [most * (20 + 80 * i // (count - 1)) // 100 for i in range(count)]
        offsets = torch.tensor([0, *lengths], device=device).cumsum(0).int()
        make = functools.partial(_draw, device, dtype, *[(sum(lengths), heads, d)] * 3)
        ours = functools.partial(packed_attention, offsets=offsets)
        peers = {"torch, padded": functools.partial(_padded, lengths=lengths)}
        shape = f"{count} sequences up to {most}, {heads} heads of {d}"
        flops = 4 * heads * d * sum(n * n for n in lengths)
        yield Case("packed attention", shape, dtype, make, ours, peers, flops=flops)


def _padded(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    """PyTorch's fused attention on a padded batch, packed again."""
    wide = [
        torch.nn.utils.rnn.pad_sequence(list(x.split(lengths)), batch_first=True).transpose(1, 2) for x in (q, k, v)
    ]
    there = torch.arange(max(lengths), device=q.device) < torch.tensor(lengths, device=q.device)[:, None]
    out = scaled_dot_product_attention(wide[0], wide[1], wide[2], attn_mask=there[:, None, None])
    return out.transpose(1, 2)[there]


def backends(device: str) -> dict[str, SDPBackend]:
    """PyTorch's own attention kernels that can be asked for by name."""
    if device != "cuda":
        return {"torch's fused": SDPBackend.FLASH_ATTENTION}
    return {"torch's flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}


def by_backend(backend: SDPBackend, causal: bool, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's attention by that kernel and no other."""
    with sdpa_kernel(backend):
        return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


def _draw(device: str, dtype: torch.dtype, *shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(shape, device=device).to(dtype) for shape in shapes)
