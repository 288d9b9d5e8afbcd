"""The backward pass of FlashAttention-2 (arXiv:2307.08691, Algorithm 2): tiles are computed again from L alone.

Letters as in flash2.py. With P = exp(S - L) and delta = rowsum(dO * O) - dL: dV = P^T dO, dP = dO V^T,
dS = P * (dP - delta), dQ = scale dS K, dK = scale dS^T Q. One kernel is parallel over blocks of keys (dK, dV; its tiles
are transposed, so that the accumulators are their left side); dQ, which the paper adds up atomically in there, has a
kernel of its own, parallel over blocks of queries: two products more, and the same sum every time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.masks import BLOCK_K, BLOCK_Q, Mask, blocks_of, keys_of, queries_of, seen
from kernels.attention.steps import LOG2E, load_rows, store_rows


@triton.jit
def _keys_step(
    dk, dv, ks, vs, q, g, lses, deltas, first, see,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EDGE: tl.constexpr, BQ: tl.constexpr,
):  # fmt: skip
    """What one block of queries adds to dK and dV of a block of keys."""
    j, n, m, window, sinks, scale2 = see
    i = first + tl.arange(0, BQ)
    qs, gs = load_rows(q, i, n, D, DP, EDGE), load_rows(g, i, n, D, DP, EDGE)
    lse = tl.load(lses + i, mask=i < n, other=float("inf"))
    delta = tl.load(deltas + i, mask=i < n, other=0.0)
    p = tl.exp2(tl.dot(ks, tl.trans(qs), input_precision="ieee") * scale2 - lse[None, :])
    if EDGE:
        p = tl.where(seen(i[None, :], j[:, None], n, m, window, sinks, CAUSAL, WINDOW), p, 0.0)
    dv = tl.dot(p.to(gs.dtype), gs, dv, input_precision="ieee")
    ds = p * (tl.dot(vs, tl.trans(gs), input_precision="ieee") - delta[None, :])
    return tl.dot(ds.to(qs.dtype), qs, dk, input_precision="ieee"), dv


@triton.jit
def _backward_keys(
    q, k, v, d_out, lses, deltas, d_k, d_v, ns, ms, N, M, G, R, window, sinks, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, LENGTHS: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: dK and dV of BK keys of one head, over all the queries that see them in its R heads."""
    blocks = tl.cdiv(M, BK)
    head = (tl.program_id(0) // blocks).to(tl.int64)
    n, m = N, M
    if LENGTHS:
        n, m = tl.load(ns + head // G), tl.load(ms + head // G)
    start = tl.program_id(0) % blocks * BK
    j = start + tl.arange(0, BK)
    ks, vs = load_rows(k + head * M * D, j, m, D, DP, True), load_rows(v + head * M * D, j, m, D, DP, True)
    dk, dv = tl.zeros([BK, DP], tl.float32), tl.zeros([BK, DP], tl.float32)
    top, whole, low, end = queries_of(start, n, m, window, sinks, CAUSAL, WINDOW, BQ, BK)
    see = j, n, m, window, sinks, scale2
    for shared in range(R):
        at = (head * R + shared) * N
        qs, gs, ls, des = q + at * D, d_out + at * D, lses + at, deltas + at
        if CAUSAL:
            for first in range(top, tl.minimum(whole, end), BQ):
                dk, dv = _keys_step(dk, dv, ks, vs, qs, gs, ls, des, first, see, D, DP, CAUSAL, WINDOW, True, BQ)
        for first in range(whole, tl.minimum(low, end), BQ):
            dk, dv = _keys_step(dk, dv, ks, vs, qs, gs, ls, des, first, see, D, DP, CAUSAL, WINDOW, False, BQ)
        for first in range(tl.maximum(whole, low), end, BQ):
            dk, dv = _keys_step(dk, dv, ks, vs, qs, gs, ls, des, first, see, D, DP, CAUSAL, WINDOW, True, BQ)
    there = (j < m)[:, None]
    store_rows(d_k + head * M * D, j, M, tl.where(there, dk * scale, 0.0), D, DP)
    store_rows(d_v + head * M * D, j, M, tl.where(there, dv, 0.0), D, DP)


@triton.jit
def _queries_step(
    dq, qs, gs, lse, delta, k, v, first, see,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EDGE: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """What one block of keys adds to dQ of a block of queries."""
    i, n, m, window, sinks, scale2 = see
    j = first + tl.arange(0, BK)
    ks, vs = load_rows(k, j, m, D, DP, EDGE), load_rows(v, j, m, D, DP, EDGE)
    p = tl.exp2(tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2 - lse[:, None])
    if EDGE:
        p = tl.where(seen(i[:, None], j[None, :], n, m, window, sinks, CAUSAL, WINDOW), p, 0.0)
    ds = p * (tl.dot(gs, tl.trans(vs), input_precision="ieee") - delta[:, None])
    return tl.dot(ds.to(ks.dtype), ks, dq, input_precision="ieee")


@triton.jit
def _backward_queries(
    q, k, v, d_out, lses, deltas, d_q, ns, ms, N, M, H, R, window, sinks, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, LENGTHS: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: dQ of BQ queries of one head, over all the keys they see: the walk of the forward pass."""
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
    qs, gs = load_rows(q + head * N * D, i, n, D, DP, True), load_rows(d_out + head * N * D, i, n, D, DP, True)
    lse = tl.load(lses + head * N + i, mask=i < n, other=float("inf"))
    delta = tl.load(deltas + head * N + i, mask=i < n, other=0.0)
    k, v = k + head // R * M * D, v + head // R * M * D
    dq = tl.zeros([BQ, DP], tl.float32)
    sunk, left, whole, right, end = keys_of(start, n, m, window, sinks, CAUSAL, WINDOW, BQ, BK)
    see = i, n, m, window, sinks, scale2
    if WINDOW:
        for step in range(0, sunk + tl.minimum(whole, end) - left, BK):
            at = tl.where(step < sunk, step, step + left - sunk)
            dq = _queries_step(dq, qs, gs, lse, delta, k, v, at, see, D, DP, CAUSAL, WINDOW, True, BK)
    for at in range(whole, tl.minimum(right, end), BK):
        dq = _queries_step(dq, qs, gs, lse, delta, k, v, at, see, D, DP, CAUSAL, WINDOW, False, BK)
    for at in range(tl.maximum(whole, right), end, BK):
        dq = _queries_step(dq, qs, gs, lse, delta, k, v, at, see, D, DP, CAUSAL, WINDOW, True, BK)
    store_rows(d_q + head * N * D, i, N, dq * scale, D, DP)


def tile_sizes(d: int, itemsize: int, keys: bool) -> tuple[int, int, int, int]:
    """(rows a program keeps, rows it walks over, warps, stages) of the kernel for keys or queries, chosen for sm90."""
    if itemsize == 4:
        return (32, 32, 8, 2) if d <= 64 else (32, 16, 8, 2) if d <= 128 else (16, 16, 8, 2)
    if d <= 128:
        return 128, 32 if keys and d > 64 else 64, 8, 3
    return 64, 16 if keys else 32, 8, 2


def backward_triton(
    q: Tensor, k: Tensor, v: Tensor, lse: Tensor, delta: Tensor, d_out: Tensor, mask: Mask, scale: float, lengths
) -> tuple[Tensor, Tensor, Tensor]:
    """(dQ, dK, dV) from contiguous tensors, L and delta (B, H, N)."""
    (b, h, n, d), (g, m) = q.shape, k.shape[1:3]
    lse2 = (lse * LOG2E).masked_fill_(lse == -torch.inf, torch.inf)  # so that a row that sees nothing has P = 0
    d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    given, options = (q, k, v, d_out, lse2, delta), (mask.window, mask.sinks, scale, scale * LOG2E)
    constants = {
        "D": d, "DP": max(16, triton.next_power_of_2(d)), "CAUSAL": mask.causal, "WINDOW": mask.window > 0,
        "LENGTHS": lengths is not None,
    }  # fmt: skip
    ns, ms = lengths or (None, None)
    if k.numel():
        keep, walk, warps, stages = tile_sizes(d, q.element_size(), keys=True)
        _backward_keys[(triton.cdiv(m, keep) * b * g,)](
            *given, d_k, d_v, ns, ms, n, m, g, h // g, *options, **constants, BQ=walk, BK=keep, num_warps=warps,
            num_stages=stages,
        )  # fmt: skip
    if q.numel():
        keep, walk, warps, stages = tile_sizes(d, q.element_size(), keys=False)
        _backward_queries[(triton.cdiv(n, keep) * b * h,)](
            *given, d_q, ns, ms, n, m, h, h // g, *options, **constants, BQ=keep, BK=walk, num_warps=warps,
            num_stages=stages,
        )  # fmt: skip
    return d_q, d_k, d_v


def backward_torch(
    q: Tensor, k: Tensor, v: Tensor, lse: Tensor, delta: Tensor, d_out: Tensor, mask: Mask, scale: float, lengths
) -> tuple[Tensor, Tensor, Tensor]:
    """The same tiles in PyTorch operations: one walk over both, outer loop over keys; sequences of different lengths
    one by one."""
    found = [torch.zeros_like(x, dtype=lse.dtype) for x in (q, k, v)]
    lse = lse.masked_fill(lse == -torch.inf, torch.inf)
    parts = [(slice(None), q.shape[2], k.shape[2])]
    if lengths is not None:
        parts = [(slice(b, b + 1), n, m) for b, (n, m) in enumerate(zip(*(x.tolist() for x in lengths), strict=True))]
    for one, n, m in parts:
        queries = [x[one, :, :n].unflatten(1, (k.shape[1], -1)) for x in (q, d_out, lse, delta, found[0])]
        _walk(queries, [x[one, :, :m] for x in (k, v, found[1], found[2])], mask, scale)
    return found[0].to(q.dtype), found[1].to(k.dtype), found[2].to(v.dtype)


def _walk(queries: list[Tensor], keys: list[Tensor], mask: Mask, scale: float) -> None:
    """Add to d_q (B, G, R, N, D), d_k and d_v (B, G, M, D); lse and delta are (B, G, R, N)."""
    (q, d_out, lse, delta, d_q), (k, v, d_k, d_v) = queries, keys
    (_, _, r, n, _), m = q.shape, k.shape[2]
    for cols in blocks_of(m, BLOCK_K):
        ks, vs = k[:, :, cols].to(lse.dtype), v[:, :, cols].to(lse.dtype)
        for rows in blocks_of(n, BLOCK_Q):
            part = mask.seen_of(rows, cols, n, m)
            if part == "none":
                continue
            qs, gs = (x[:, :, :, rows].flatten(2, 3).to(lse.dtype) for x in (q, d_out))
            top, lost = (x[:, :, :, rows].flatten(2, 3)[..., None] for x in (lse, delta))
            p = (qs @ ks.mT).mul_(scale).sub_(top).exp_()
            if part == "some":
                i, j = (torch.arange(x.start, x.stop, device=q.device) for x in (rows, cols))
                p.masked_fill_(~mask.visible(i.repeat(r), j, n, m), 0)
            d_v[:, :, cols] += p.mT @ gs
            ds = p.mul_((gs @ vs.mT).sub_(lost)).mul_(scale)
            d_q[:, :, :, rows] += (ds @ ks).view_as(d_q[:, :, :, rows])
            d_k[:, :, cols] += ds.mT @ qs
