"""The backward pass of FlashAttention (arXiv:2205.14135, Appendix B.2 and Algorithm 4): tiles are computed again.

Letters as in flash.py. With P = exp(S - m) / l from the saved maximum m and normaliser l of each row, and with
delta = rowsum(dO * O): dV = P^T dO, dP = dO V^T, dS = P * (dP - delta), dQ = scale dS K, dK = scale dS^T Q. One kernel
walks over queries for a block of keys (dK, dV), one over keys for a block of queries (dQ), so that no two programs
write the same place.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.tiles import BLOCK_K, BLOCK_Q, LOG2E, seen, shape_of, visible


@triton.jit
def _load(base, rows, count, D: tl.constexpr, DP: tl.constexpr):
    """(rows, DP) of a (count, D) matrix, zero beyond its edges."""
    d = tl.arange(0, DP)
    place = rows.to(tl.int64)[:, None] * D + d[None, :]
    return tl.load(base + place, mask=(rows < count)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def _store(base, rows, count, value, D: tl.constexpr, DP: tl.constexpr):
    d = tl.arange(0, DP)
    place = rows.to(tl.int64)[:, None] * D + d[None, :]
    tl.store(base + place, value.to(base.dtype.element_ty), mask=(rows < count)[:, None] & (d < D)[None, :])


@triton.jit
def _tile(qs, ks, vs, gs, tops, totals, deltas, i, j, N, M, scale2, CAUSAL: tl.constexpr):
    """P and dS / scale of one tile (queries, keys), both computed again from what the forward pass kept."""
    s = tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2
    top = tl.load(tops + i, mask=i < N, other=0.0)
    total = tl.load(totals + i, mask=i < N, other=1.0)
    delta = tl.load(deltas + i, mask=i < N, other=0.0)
    p = tl.where(seen(i, j, N, M, CAUSAL), tl.exp2(s - top[:, None]) / total[:, None], 0.0)
    dp = tl.dot(gs, tl.trans(vs), input_precision="ieee")
    return p, p * (dp - delta[:, None])


@triton.jit
def _backward_keys(
    q, k, v, d_out, tops, totals, deltas, d_k, d_v, N, M, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: dK and dV of BK keys, over all the queries that see them."""
    head = tl.program_id(1).to(tl.int64)
    at = head * N
    j = tl.program_id(0) * BK + tl.arange(0, BK)
    ks, vs = _load(k + head * M * D, j, M, D, DP), _load(v + head * M * D, j, M, D, DP)
    dk, dv = tl.zeros([BK, DP], tl.float32), tl.zeros([BK, DP], tl.float32)
    start = 0
    if CAUSAL:
        start = tl.maximum(0, tl.program_id(0) * BK + N - M) // BQ * BQ
    for first in range(start, N, BQ):
        i = first + tl.arange(0, BQ)
        qs, gs = _load(q + at * D, i, N, D, DP), _load(d_out + at * D, i, N, D, DP)
        p, ds = _tile(qs, ks, vs, gs, tops + at, totals + at, deltas + at, i, j, N, M, scale2, CAUSAL)
        dv = tl.dot(tl.trans(p.to(gs.dtype)), gs, dv, input_precision="ieee")
        dk = tl.dot(tl.trans(ds.to(qs.dtype)), qs, dk, input_precision="ieee")
    _store(d_k + head * M * D, j, M, dk * scale, D, DP)
    _store(d_v + head * M * D, j, M, dv, D, DP)


@triton.jit
def _backward_queries(
    q, k, v, d_out, tops, totals, deltas, d_q, N, M, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: dQ of BQ queries, over all the keys they see."""
    head = tl.program_id(1).to(tl.int64)
    at = head * N
    i = tl.program_id(0) * BQ + tl.arange(0, BQ)
    qs, gs = _load(q + at * D, i, N, D, DP), _load(d_out + at * D, i, N, D, DP)
    dq = tl.zeros([BQ, DP], tl.float32)
    end = M
    if CAUSAL:
        end = tl.minimum(M, tl.maximum(0, tl.program_id(0) * BQ + BQ + M - N))
    for first in range(0, end, BK):
        j = first + tl.arange(0, BK)
        ks, vs = _load(k + head * M * D, j, M, D, DP), _load(v + head * M * D, j, M, D, DP)
        _, ds = _tile(qs, ks, vs, gs, tops + at, totals + at, deltas + at, i, j, N, M, scale2, CAUSAL)
        dq = tl.dot(ds.to(ks.dtype), ks, dq, input_precision="ieee")
    _store(d_q + at * D, i, N, dq * scale, D, DP)


def tile_sizes(d: int, itemsize: int) -> tuple[int, int, int, int]:
    """(queries, keys, warps, stages) of the two backward kernels."""
    if itemsize == 4:
        return 32, 32, 4, 2
    return (64, 64, 4, 2) if d <= 64 else (64, 64, 8, 2)


def backward_triton(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, top: Tensor, total: Tensor, d_out: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(dQ, dK, dV) from contiguous tensors and what the forward pass in Triton kept."""
    b, h, n, m, d = shape_of(q, k)
    bq, bk, warps, stages = tile_sizes(d, q.element_size())
    delta = (d_out.float() * out.float()).sum(-1)
    d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    constants = {"D": d, "DP": max(16, triton.next_power_of_2(d)), "CAUSAL": causal, "BQ": bq, "BK": bk}
    options = constants | {"num_warps": warps, "num_stages": stages}
    given = q, k, v, d_out, top, total, delta
    if k.numel():
        _backward_keys[(triton.cdiv(m, bk), b * h)](*given, d_k, d_v, n, m, scale, scale * LOG2E, **options)
    if q.numel():
        _backward_queries[(triton.cdiv(n, bq), b * h)](*given, d_q, n, m, scale, scale * LOG2E, **options)
    return d_q, d_k, d_v


def backward_torch(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, top: Tensor, total: Tensor, d_out: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same tiles in PyTorch operations, all heads at once: one walk over both."""
    _, _, n, m, _ = shape_of(q, k)
    d_q, d_k, d_v = (torch.zeros_like(x, dtype=top.dtype) for x in (q, k, v))
    for start in range(0, n, BLOCK_Q):
        rows = slice(start, min(start + BLOCK_Q, n))
        qs, gs, i = q[:, :, rows].to(top.dtype), d_out[:, :, rows].to(top.dtype), torch.arange(n, device=q.device)[rows]
        delta = (gs * out[:, :, rows]).sum(-1, keepdim=True)
        for first in range(0, min(m, rows.stop + m - n) if causal else m, BLOCK_K):
            cols = slice(first, min(first + BLOCK_K, m))
            ks, vs = k[:, :, cols].to(top.dtype), v[:, :, cols].to(top.dtype)
            s = (qs @ ks.mT).mul_(scale)
            if causal:
                s.masked_fill_(~visible(i, torch.arange(m, device=q.device)[cols], n, m), -torch.inf)
            p = s.sub_(top[:, :, rows]).exp_().div_(total[:, :, rows])
            d_v[:, :, cols] += p.mT @ gs
            ds = p.mul_((gs @ vs.mT).sub_(delta)).mul_(scale)
            d_q[:, :, rows] += ds @ ks
            d_k[:, :, cols] += ds.mT @ qs
    return d_q.to(q.dtype), d_k.to(k.dtype), d_v.to(v.dtype)
