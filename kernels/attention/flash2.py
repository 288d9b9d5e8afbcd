"""FlashAttention-2 (Dao 2023, arXiv:2307.08691): the library's exact attention, for every mask, head count and length.

B batch, H query heads, G key and value heads (H = G * R), N queries, M keys, D head size. q (B, H, N, D), k and v
(B, G, M, D) -> (B, H, N, D). Heads g R .. (g + 1) R - 1 of q share head g of k and v. Who sees whom: masks.py. A query
that sees no key gives 0, and so do its gradients.
Every block of queries is a program of its own (Section 3.2); its output stays unnormalised until the end, and only
L = logsumexp(scale * q k^T) of each row is kept for the backward pass, in flash2_backward.py (Section 3.1). Blocks that
no query sees are skipped, and only blocks on an edge are masked. How warps share a tile is the compiler's choice.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.flash2_backward import backward_torch, backward_triton
from kernels.attention.masks import BLOCK_K, BLOCK_Q, Mask, blocks_of, keys_of, seen
from kernels.attention.steps import LOG2E, finish, fold, load_rows, store_rows
from kernels.attention.tiles import wide
from kernels.dispatch import choose

MAX_HEAD = 256
EVERYTHING = Mask()

Lengths: TypeAlias = Sequence[int] | Tensor | None


def attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = EVERYTHING,
    scale: float | None = None,
    query_lengths: Lengths = None,
    key_lengths: Lengths = None,
) -> Tensor:
    """softmax(q k^T * scale) v with the whole matrix in memory and every mask written out."""
    (b, h, n, d), m = q.shape, k.shape[2]
    k, v = (x.repeat_interleave(h // k.shape[1], 1) for x in (k, v))
    see = torch.zeros(b, 1, n, m, dtype=torch.bool, device=q.device)
    for row, rows, cols in zip(see, *(_whole(x, b, y) for x, y in ((query_lengths, n), (key_lengths, m))), strict=True):
        i, j = torch.arange(rows, device=q.device), torch.arange(cols, device=q.device)
        row[0, :rows, :cols] = mask.visible(i, j, rows, cols)
    none = ~see.any(-1, keepdim=True)
    scores = (q @ k.mT * (d**-0.5 if scale is None else scale)).masked_fill(~see, -torch.inf).masked_fill(none, 0)
    return scores.softmax(-1).masked_fill(none, 0) @ v


def _whole(lengths: Lengths, b: int, size: int) -> list[int]:
    return [size] * b if lengths is None else [int(x) for x in lengths]


@triton.jit
def _step(
    top, total, acc, qs, k, v, first, see,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EDGE: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One block of keys, from memory into the output of a block of queries."""
    i, n, m, window, sinks, scale2 = see
    j = first + tl.arange(0, BK)
    s = tl.dot(qs, tl.trans(load_rows(k, j, m, D, DP, EDGE)), input_precision="ieee")
    if EDGE:
        s = tl.where(seen(i[:, None], j[None, :], n, m, window, sinks, CAUSAL, WINDOW), s, float("-inf"))
    return fold(top, total, acc, s, load_rows(v, j, m, D, DP, EDGE), scale2)


@triton.jit
def _forward(
    q, k, v, out, lses, ns, ms, N, M, H, R, window, sinks, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, LENGTHS: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: BQ queries of one head over all the keys they see. Causal: the longest walks start first."""
    blocks = tl.cdiv(N, BQ)
    head = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    if CAUSAL:
        block = blocks - 1 - block
    n, m = N, M
    if LENGTHS:
        n, m = tl.load(ns + head // H), tl.load(ms + head // H)
    start = block * BQ
    i = start + tl.arange(0, BQ)
    qs = load_rows(q + head * N * D, i, n, D, DP, True)
    k, v = k + head // R * M * D, v + head // R * M * D
    top = tl.full([BQ], float("-inf"), tl.float32)
    total = tl.zeros([BQ], tl.float32)
    acc = tl.zeros([BQ, DP], tl.float32)
    sunk, left, whole, right, end = keys_of(start, n, m, window, sinks, CAUSAL, WINDOW, BQ, BK)
    see = i, n, m, window, sinks, scale2
    if WINDOW:
        for step in range(0, sunk + tl.minimum(whole, end) - left, BK):
            at = tl.where(step < sunk, step, step + left - sunk)
            top, total, acc = _step(top, total, acc, qs, k, v, at, see, D, DP, CAUSAL, WINDOW, True, BK)
    for at in range(whole, tl.minimum(right, end), BK):
        top, total, acc = _step(top, total, acc, qs, k, v, at, see, D, DP, CAUSAL, WINDOW, False, BK)
    for at in range(tl.maximum(whole, right), end, BK):
        top, total, acc = _step(top, total, acc, qs, k, v, at, see, D, DP, CAUSAL, WINDOW, True, BK)
    acc, lse = finish(top, total, acc, i < n, scale2)
    store_rows(out + head * N * D, i, N, acc, D, DP)
    tl.store(lses + head * N + i, lse, mask=i < N)


def tile_sizes(d: int, itemsize: int) -> tuple[int, int, int, int]:
    """(queries, keys, warps, stages) of the forward kernel, chosen for sm90."""
    if itemsize == 4:
        return (64, 32, 8, 2) if d <= 64 else (32, 16, 8, 2)
    if d <= 64:
        return 128, 128, 8, 3
    return (128, 128, 8, 2) if d <= 128 else (128, 64, 8, 2)


def _forward_triton(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, lengths) -> tuple[Tensor, Tensor]:
    """(O, L): L (B, H, N) in float32."""
    (b, h, n, d), (g, m) = q.shape, k.shape[1:3]
    bq, bk, warps, stages = tile_sizes(d, q.element_size())
    out, lse = torch.empty_like(q), torch.empty(b, h, n, device=q.device, dtype=torch.float32)
    ns, ms = lengths or (None, None)
    if out.numel():
        _forward[(triton.cdiv(n, bq) * b * h,)](
            q, k, v, out, lse, ns, ms, n, m, h, h // g, mask.window, mask.sinks, scale * LOG2E, D=d,
            DP=max(16, triton.next_power_of_2(d)), CAUSAL=mask.causal, WINDOW=mask.window > 0,
            LENGTHS=lengths is not None, BQ=bq, BK=bk, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return out, lse


def _forward_torch(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, lengths) -> tuple[Tensor, Tensor]:
    """The same walk in PyTorch operations; sequences of different lengths one by one."""
    out, lse = torch.zeros_like(q), q.new_full(q.shape[:3], -torch.inf, dtype=wide(q.dtype))
    if lengths is None:
        _walk(q, k, v, out, lse, mask, scale)
    else:
        for b, (n, m) in enumerate(zip(*(x.tolist() for x in lengths), strict=True)):
            one = slice(b, b + 1)
            _walk(q[one, :, :n], k[one, :, :m], v[one, :, :m], out[one, :, :n], lse[one, :, :n], mask, scale)
    return out, lse


def _walk(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, mask: Mask, scale: float) -> None:
    """Fill `out` and `lse`; the R heads that share keys are rows of one matrix product."""
    (_, h, n, _), (g, m) = q.shape, k.shape[1:3]
    for rows in blocks_of(n, BLOCK_Q):
        shared = q[:, :, rows].unflatten(1, (g, h // g))
        qs = shared.flatten(2, 3).to(lse.dtype) * scale
        top = qs.new_full((*qs.shape[:3], 1), -torch.inf)
        total, acc = torch.zeros_like(top), torch.zeros_like(qs)
        for cols in blocks_of(m, BLOCK_K):
            part = mask.seen_of(rows, cols, n, m)
            if part == "none":
                continue
            s = qs @ k[:, :, cols].to(qs.dtype).mT
            if part == "some":
                i, j = (torch.arange(x.start, x.stop, device=q.device) for x in (rows, cols))
                s.masked_fill_(~mask.visible(i.repeat(h // g), j, n, m), -torch.inf)
            higher = torch.maximum(top, s.amax(-1, keepdim=True))
            shift = higher.masked_fill(higher == -torch.inf, 0)
            p, fade = s.sub_(shift).exp_(), torch.exp(top - shift)
            total = total.mul_(fade).add_(p.sum(-1, keepdim=True))
            acc = acc.mul_(fade).add_(p @ v[:, :, cols].to(qs.dtype))
            top = higher
        acc /= total.masked_fill(total == 0, 1)
        out[:, :, rows] = acc.to(out.dtype).view_as(shared).flatten(1, 2)
        lse[:, :, rows] = (top + total.log()).view(shared.shape[:4]).flatten(1, 2)


class _Flash2(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, mask, scale, lengths, chosen):
        out, lse = (_forward_triton if chosen == "triton" else _forward_torch)(q, k, v, mask, scale, lengths)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.options = mask, scale, lengths, chosen
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx, d_out, d_lse):
        mask, scale, lengths, chosen = ctx.options
        q, k, v, out, lse = ctx.saved_tensors
        d_out = torch.zeros_like(out) if d_out is None else d_out.contiguous()
        delta = (d_out.to(lse.dtype) * out).sum(-1)
        delta = delta if d_lse is None else delta - d_lse
        backward = backward_triton if chosen == "triton" else backward_torch
        return *backward(q, k, v, lse, delta, d_out, mask, scale, lengths), None, None, None, None


def _lengths(q: Tensor, k: Tensor, query_lengths: Lengths, key_lengths: Lengths) -> tuple[Tensor, Tensor] | None:
    """Both as (B,) int32 on the device of q, or None if every sequence is whole."""
    if query_lengths is None and key_lengths is None:
        return None
    found = []
    for name, given, size in (("query", query_lengths, q.shape[2]), ("key", key_lengths, k.shape[2])):
        counts = _whole(given, q.shape[0], size)
        if len(counts) != q.shape[0] or any(not 0 <= x <= size for x in counts):
            raise ValueError(f"{name}_lengths: expected {q.shape[0]} numbers from 0 to {size}, got {counts}")
        found.append(torch.tensor(counts, dtype=torch.int32, device=q.device))
    return found[0], found[1]


def flash_attention_2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    scale: float | None = None,
    window: int = 0,
    sinks: int = 0,
    query_lengths: Lengths = None,
    key_lengths: Lengths = None,
    with_lse: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Exact attention in O(N) extra memory, forward and backward; `scale` > 0 is D^-0.5 unless given.

    `window`, `sinks`: a causal query sees its last `window` keys and the first `sinks` ones. `query_lengths`,
    `key_lengths` (B numbers): how much of each sequence is there; the rest is padding and gives 0. `with_lse`: also L
    (B, H, N), differentiable, -inf where nothing is seen. `impl`: "triton" (float32, float16, bfloat16), "torch" (the
    same tiles in PyTorch; float64 too) or "auto". ValueError says what was expected of shapes, dtype and D (<= 256).
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 4 or not x.is_floating_point():
            raise ValueError(f"{name}: expected floating point of 4 dimensions, got {x.dtype} {tuple(x.shape)}")
        if x.dtype != q.dtype or x.device != q.device:
            raise ValueError(f"{name}: expected {q.dtype} on {q.device} as q, got {x.dtype} on {x.device}")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}"
    if k.shape != v.shape or k.shape[::3] != q.shape[::3] or not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ValueError(f"expected q (B, H, N, D), k and v (B, G, M, D) where G divides H, got {shapes}")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if not scale > 0:
        raise ValueError(f"scale: expected > 0, got {scale}")
    chosen = choose(impl, q)
    if chosen == "triton" and (q.dtype == torch.float64 or not 1 <= q.shape[3] <= MAX_HEAD):
        raise ValueError(f"impl='triton': expected at most 32 bits and D <= {MAX_HEAD}, got {q.dtype} and {q.shape[3]}")
    mask, lengths = Mask(causal, window, sinks), _lengths(q, k, query_lengths, key_lengths)
    out, lse = _Flash2.apply(q.contiguous(), k.contiguous(), v.contiguous(), mask, scale, lengths, chosen)
    return (out, lse) if with_lse else out
