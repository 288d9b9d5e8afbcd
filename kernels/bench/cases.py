"""What `python -m kernels.bench` measures: each kernel at its shapes, the least it must do, and its peers."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention.packed import packed_attention
from kernels.position.rotary import rotary, rotary_reference, tables
from kernels.softmax.online import softmax


@dataclass(frozen=True)
class Case:
    """One kernel at one shape. `flops` and `moved` (bytes) are the least that any method must do there."""

    kernel: str
    shape: str
    dtype: torch.dtype
    make: Callable[[], tuple]
    ours: Callable
    peers: Mapping[str, Callable] = field(default_factory=dict)
    flops: float = 0.0
    moved: float = 0.0


def cases(device: str) -> Iterator[Case]:
    """All of them: on a GPU at the sizes that the goals name, on a CPU smaller, to show that everything runs."""
    for part in (softmaxes, rotations, packed):
        yield from part(device)


def _dtype(device: str) -> torch.dtype:
    return torch.bfloat16 if device == "cuda" else torch.float32


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
