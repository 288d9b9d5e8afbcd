"""Exact attention where each query sees one run of keys, low <= j < high: tiles that no query sees are not computed.

H heads (of all the batch), N queries, M keys, D head size. q (H, N, D), k and v (H, M, D), low and high (H, N) int32,
both ascending along N among the queries that see anything -> (H, N, D). A query whose run is empty gives 0, and so do
its gradients. The walk is FlashAttention-2's; see flash2.py. Sorted tokens of sparse_flash.py make such runs.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.steps import LOG2E, finish, fold, load_rows, store_rows
from kernels.attention.tiles import wide

TILE = 128  # queries and keys, of the walk in PyTorch operations


@triton.jit
def _run(lows, highs, i, N):
    """(low, high, whether it sees any key) of queries i, some beyond the end."""
    low, high = tl.load(lows + i, mask=i < N, other=0), tl.load(highs + i, mask=i < N, other=0)
    return low, high, low < high


@triton.jit
def _fold(
    top, total, acc, qs, k, v, first, low, high, M, scale2,
    D: tl.constexpr, DP: tl.constexpr, EDGE: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    j = first + tl.arange(0, BK)
    s = tl.dot(qs, tl.trans(load_rows(k, j, M, D, DP, EDGE)), input_precision="ieee")
    if EDGE:
        s = tl.where((j[None, :] >= low[:, None]) & (j[None, :] < high[:, None]), s, float("-inf"))
    return fold(top, total, acc, s, load_rows(v, j, M, D, DP, EDGE), scale2)


@triton.jit
def _forward(
    q, k, v, out, lses, lows, highs, N, M, scale2,
    D: tl.constexpr, DP: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: BQ queries of one head over the tiles of their runs; only those on an edge are masked."""
    head = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BQ + tl.arange(0, BQ)
    low, high, live = _run(lows + head * N, highs + head * N, i, N)
    start, end = tl.min(tl.where(live, low, M), 0) // BK * BK, tl.max(tl.where(live, high, 0), 0)
    whole = tl.cdiv(tl.max(tl.where(live, low, 0), 0), BK) * BK
    right = tl.min(tl.where(live, high, M), 0) // BK * BK
    qs = load_rows(q + head * N * D, i, N, D, DP, True)
    k, v = k + head * M * D, v + head * M * D
    top = tl.full([BQ], float("-inf"), tl.float32)
    total = tl.zeros([BQ], tl.float32)
    acc = tl.zeros([BQ, DP], tl.float32)
    for at in range(start, tl.minimum(whole, end), BK):
        top, total, acc = _fold(top, total, acc, qs, k, v, at, low, high, M, scale2, D, DP, True, BK)
    for at in range(whole, tl.minimum(right, end), BK):
        top, total, acc = _fold(top, total, acc, qs, k, v, at, low, high, M, scale2, D, DP, False, BK)
    for at in range(tl.maximum(whole, right), end, BK):
        top, total, acc = _fold(top, total, acc, qs, k, v, at, low, high, M, scale2, D, DP, True, BK)
    acc, lse = finish(top, total, acc, live, scale2)
    store_rows(out + head * N * D, i, N, acc, D, DP)
    tl.store(lses + head * N + i, lse, mask=i < N)


@triton.jit
def _tile(qs, gs, ks, vs, i, j, lows, highs, lses, deltas, N, scale2):
    """P and dS / scale of a tile (keys, queries), computed again from L."""
    low, high, live = _run(lows, highs, i, N)
    lse = tl.load(lses + i, mask=live & (i < N), other=0.0)
    delta = tl.load(deltas + i, mask=i < N, other=0.0)
    p = tl.exp2(tl.dot(ks, tl.trans(qs), input_precision="ieee") * scale2 - lse[None, :] * 1.4426950408889634)
    p = tl.where((j[:, None] >= low[None, :]) & (j[:, None] < high[None, :]), p, 0.0)
    return p, p * (tl.dot(vs, tl.trans(gs), input_precision="ieee") - delta[None, :])


@triton.jit
def _backward_keys(
    q, k, v, d_out, lses, deltas, lows, highs, froms, tos, d_k, d_v, N, M, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: dK and dV of BK keys, over the queries froms .. tos, which are all that see any of them."""
    head, tile = tl.program_id(1).to(tl.int64), tl.program_id(0)
    at = head * tl.num_programs(0) + tile
    j = tile * BK + tl.arange(0, BK)
    ks, vs = load_rows(k + head * M * D, j, M, D, DP, True), load_rows(v + head * M * D, j, M, D, DP, True)
    dk, dv = tl.zeros([BK, DP], tl.float32), tl.zeros([BK, DP], tl.float32)
    for first in range(tl.load(froms + at) // BQ * BQ, tl.load(tos + at), BQ):
        i = first + tl.arange(0, BQ)
        qs, gs = load_rows(q + head * N * D, i, N, D, DP, True), load_rows(d_out + head * N * D, i, N, D, DP, True)
        p, ds = _tile(
            qs, gs, ks, vs, i, j, lows + head * N, highs + head * N, lses + head * N, deltas + head * N, N, scale2
        )
        dv = tl.dot(p.to(gs.dtype), gs, dv, input_precision="ieee")
        dk = tl.dot(ds.to(qs.dtype), qs, dk, input_precision="ieee")
    store_rows(d_k + head * M * D, j, M, dk * scale, D, DP)
    store_rows(d_v + head * M * D, j, M, dv, D, DP)


@triton.jit
def _backward_queries(
    q, k, v, d_out, lses, deltas, lows, highs, d_q, N, M, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: dQ of BQ queries, over the tiles of their runs."""
    head = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BQ + tl.arange(0, BQ)
    low, high, live = _run(lows + head * N, highs + head * N, i, N)
    qs, gs = load_rows(q + head * N * D, i, N, D, DP, True), load_rows(d_out + head * N * D, i, N, D, DP, True)
    dq = tl.zeros([BQ, DP], tl.float32)
    for first in range(tl.min(tl.where(live, low, M), 0) // BK * BK, tl.max(tl.where(live, high, 0), 0), BK):
        j = first + tl.arange(0, BK)
        ks, vs = load_rows(k + head * M * D, j, M, D, DP, True), load_rows(v + head * M * D, j, M, D, DP, True)
        _, ds = _tile(
            qs, gs, ks, vs, i, j, lows + head * N, highs + head * N, lses + head * N, deltas + head * N, N, scale2
        )
        dq = tl.dot(tl.trans(ds.to(ks.dtype)), ks, dq, input_precision="ieee")
    store_rows(d_q + head * N * D, i, N, dq * scale, D, DP)


def tile_sizes(d: int, itemsize: int, backward: bool = False) -> tuple[int, int, int, int]:
    """(queries, keys, warps, stages), chosen for sm90: tiles are small, for runs are short."""
    if itemsize == 4:
        return 32, 32, 4, 2
    if backward:
        return (64, 64, 4, 2) if d <= 64 else (64, 64, 8, 2)
    return (128, 64, 4, 3) if d <= 64 else (128, 64, 8, 3)


def _constants(d: int, tiles: tuple[int, int, int, int]) -> dict:
    bq, bk, warps, stages = tiles
    size = max(16, triton.next_power_of_2(d))
    return {"D": d, "DP": size, "BQ": bq, "BK": bk, "num_warps": warps, "num_stages": stages}


def _forward_triton(q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    (h, n, d), m = q.shape, k.shape[1]
    constants = _constants(d, tile_sizes(d, q.element_size()))
    out, lse = torch.empty_like(q), torch.empty(h, n, device=q.device, dtype=torch.float32)
    if out.numel():
        grid = triton.cdiv(n, constants["BQ"]), h
        _forward[grid](q, k, v, out, lse, low, high, n, m, scale * LOG2E, **constants)
    return out, lse


def _backward_triton(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, lse: Tensor, delta: Tensor, g: Tensor, scale: float
) -> list[Tensor]:
    (h, n, d), m = q.shape, k.shape[1]
    constants = _constants(d, tile_sizes(d, q.element_size(), backward=True))
    bq, bk = constants["BQ"], constants["BK"]
    starts = torch.arange(0, m, bk, device=q.device, dtype=torch.int32).expand(h, -1).contiguous()
    froms = torch.searchsorted(high, starts, right=True, out_int32=True)
    tos = torch.searchsorted(low, starts + bk, out_int32=True)
    grads = [torch.empty_like(x) for x in (q, k, v)]
    given, ends = (q, k, v, g, lse, delta, low, high), (n, m, scale, scale * LOG2E)
    if k.numel():
        _backward_keys[(triton.cdiv(m, bk), h)](*given, froms, tos, *grads[1:], *ends, **constants)
    if q.numel():
        _backward_queries[(triton.cdiv(n, bq), h)](*given, grads[0], *ends, **constants)
    return grads


def _walks(low: Tensor, high: Tensor) -> Iterator[tuple[int, slice, list[tuple[slice, Tensor | None]]]]:
    """(head, queries, tiles of keys) where somebody sees a key; each with who does not, or None."""
    for head, (lows, highs) in enumerate(zip(low.cpu(), high.cpu(), strict=True)):
        for first in range(0, len(lows), TILE):
            rows = slice(first, first + TILE)
            a, z = lows[rows, None], highs[rows, None]
            live = a < z
            if not live.any():
                continue
            (start, whole), (right, end) = a[live].aminmax(), z[live].aminmax()
            whole, right = (int(whole), int(right)) if live.all() else (int(end), 0)
            tiles: list[tuple[slice, Tensor | None]] = []
            for at in range(int(start) // TILE * TILE, int(end), TILE):
                j = torch.arange(at, min(at + TILE, int(end)))
                every = whole <= at and at + len(j) <= right
                tiles.append((slice(at, at + len(j)), None if every else ((j < a) | (j >= z)).to(low.device)))
            yield head, rows, tiles


def _forward_torch(q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The same tiles in PyTorch operations, one head after the other."""
    out, lse = torch.zeros_like(q), q.new_full(q.shape[:2], -torch.inf, dtype=wide(q.dtype))
    k, v = k.to(lse.dtype), v.to(lse.dtype)
    for head, rows, tiles in _walks(low, high):
        qs = q[head, rows].to(lse.dtype) * scale
        top, acc = torch.full_like(qs[:, :1], -torch.inf), torch.zeros_like(qs)
        total = torch.zeros_like(top)
        for cols, unseen in tiles:
            s = qs @ k[head, cols].mT
            if unseen is not None:
                s.masked_fill_(unseen, -torch.inf)
            higher = torch.maximum(top, s.amax(-1, keepdim=True))
            shift = higher.masked_fill(higher == -torch.inf, 0)
            p, fade = s.sub_(shift).exp_(), torch.exp(top - shift)
            total = total.mul_(fade).add_(p.sum(-1, keepdim=True))
            acc = acc.mul_(fade).add_(p @ v[head, cols])
            top = higher
        out[head, rows] = acc.div_(total.masked_fill(total == 0, 1)).to(out.dtype)
        lse[head, rows] = (top + total.log()).squeeze(-1)
    return out, lse


def _backward_torch(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, lse: Tensor, delta: Tensor, g: Tensor, scale: float
) -> list[Tensor]:
    kinds = [x.dtype for x in (q, k, v)]
    q, k, v, g = (x.to(lse.dtype) for x in (q, k, v, g))
    lse = lse.masked_fill(lse == -torch.inf, torch.inf)
    d_q, d_k, d_v = (torch.zeros_like(x) for x in (q, k, v))
    for head, rows, tiles in _walks(low, high):
        qs, gs, top, lost = q[head, rows], g[head, rows], lse[head, rows, None], delta[head, rows, None]
        for cols, unseen in tiles:
            ks = k[head, cols]
            p = (qs @ ks.mT).mul_(scale).sub_(top).exp_()
            if unseen is not None:
                p.masked_fill_(unseen, 0)
            d_v[head, cols].addmm_(p.mT, gs)
            ds = p.mul_((gs @ v[head, cols].mT).sub_(lost)).mul_(scale)
            d_q[head, rows].addmm_(ds, ks)
            d_k[head, cols].addmm_(ds.mT, qs)
    return [x.to(kind) for x, kind in zip((d_q, d_k, d_v), kinds, strict=True)]


class Runs(torch.autograd.Function):
    """`Runs.apply(q, k, v, low, high, scale, "triton" or "torch")`, contiguous tensors: the output."""

    @staticmethod
    def forward(ctx, q, k, v, low, high, scale, chosen):
        out, lse = (_forward_triton if chosen == "triton" else _forward_torch)(q, k, v, low, high, scale)
        ctx.save_for_backward(q, k, v, low, high, out, lse)
        ctx.options = scale, chosen
        return out

    @staticmethod
    def backward(ctx, g):
        q, k, v, low, high, out, lse = ctx.saved_tensors
        scale, chosen = ctx.options
        delta = (g.to(lse.dtype) * out).sum(-1)
        backward = _backward_triton if chosen == "triton" else _backward_torch
        return *backward(q, k, v, low, high, lse, delta, g.contiguous(), scale), None, None, None, None
