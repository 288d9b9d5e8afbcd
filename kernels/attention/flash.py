"""FlashAttention (Dao et al. 2022, arXiv:2205.14135): exact attention, tile by tile, without the N x M matrix.

B batch, H heads, N queries, M keys, D head size. q (B, H, N, D), k and v (B, H, M, D) -> (B, H, N, D). Causal: query i
sees keys j <= i + M - N, so the last query sees every key. A query that sees no key gives 0, and so do its gradients.
Each query block walks over the key blocks (Algorithm 1 with its two loops exchanged: no partial result leaves the
chip). The maximum and the normaliser of each row are kept for the backward pass, in flash_backward.py.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.flash_backward import backward_torch, backward_triton
from kernels.attention.tiles import BLOCK_K, BLOCK_Q, LOG2E, seen, shape_of, visible, wide
from kernels.dispatch import choose

MAX_HEAD = 128


def attention_reference(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, scale: float | None = None) -> Tensor:
    """softmax(q k^T * scale) v with the whole matrix in memory: standard attention, Algorithm 0. Same arguments."""
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        n, m = scores.shape[-2:]
        see = visible(torch.arange(n, device=q.device), torch.arange(m, device=q.device), n, m)
        none = ~see.any(-1, keepdim=True)
        return scores.masked_fill(~see, -torch.inf).masked_fill(none, 0).softmax(-1).masked_fill(none, 0) @ v
    return scores.softmax(-1) @ v


@triton.jit
def _fold(
    top, total, acc, qs, k, v, first, i, N, M, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One block of keys folded into the running maximum, normaliser and output of a block of queries."""
    j, d = first + tl.arange(0, BK), tl.arange(0, DP)
    there = (j < M)[:, None] & (d < D)[None, :]
    place = j.to(tl.int64)[:, None] * D + d[None, :]
    ks = tl.load(k + place, mask=there, other=0.0)
    s = tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2
    if MASKED:
        s = tl.where(seen(i, j, N, M, CAUSAL), s, float("-inf"))
    higher = tl.maximum(top, tl.max(s, 1))
    shift = tl.where(higher == float("-inf"), 0.0, higher)
    p = tl.exp2(s - shift[:, None])
    fade = tl.exp2(top - shift)
    vs = tl.load(v + place, mask=there, other=0.0)
    acc = tl.dot(p.to(vs.dtype), vs, acc * fade[:, None], input_precision="ieee")
    return higher, total * fade + tl.sum(p, 1), acc


@triton.jit
def _forward(
    q, k, v, out, tops, totals, N, M, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: BQ queries of one head over all the keys they see; only blocks on the edge are masked."""
    head = tl.program_id(1).to(tl.int64)
    start = tl.program_id(0) * BQ
    i, d = start + tl.arange(0, BQ), tl.arange(0, DP)
    live = (i < N)[:, None] & (d < D)[None, :]
    place = (head * N + i)[:, None] * D + d[None, :]
    qs = tl.load(q + place, mask=live, other=0.0)
    k, v = k + head * M * D, v + head * M * D
    top = tl.full([BQ], float("-inf"), tl.float32)
    total = tl.zeros([BQ], tl.float32)
    acc = tl.zeros([BQ, DP], tl.float32)
    end, whole = M, M // BK * BK
    if CAUSAL:
        end = tl.minimum(M, tl.maximum(0, start + BQ + M - N))
        whole = tl.minimum(whole, tl.maximum(0, start + 1 + M - N) // BK * BK)
    for first in range(0, whole, BK):
        top, total, acc = _fold(top, total, acc, qs, k, v, first, i, N, M, scale2, D, DP, CAUSAL, False, BK)
    for first in range(whole, end, BK):
        top, total, acc = _fold(top, total, acc, qs, k, v, first, i, N, M, scale2, D, DP, CAUSAL, True, BK)
    total = tl.where(total == 0.0, 1.0, total)
    tl.store(out + place, (acc / total[:, None]).to(out.dtype.element_ty), mask=live)
    tl.store(tops + head * N + i, tl.where(top == float("-inf"), 0.0, top), mask=i < N)
    tl.store(totals + head * N + i, total, mask=i < N)


def tile_sizes(d: int, itemsize: int) -> tuple[int, int, int, int]:
    """(queries, keys, warps, stages) of the forward kernel."""
    if itemsize == 4:
        return 64, 32, 4, 2
    return (128, 64, 4, 3) if d <= 64 else (128, 64, 8, 3)


def _forward_triton(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, ...]:
    """(O, maxima of scale * log2(e) * q k^T, normalisers)."""
    b, h, n, m, d = shape_of(q, k)
    bq, bk, warps, stages = tile_sizes(d, q.element_size())
    out, top = torch.empty_like(q), torch.empty(b, h, n, device=q.device, dtype=torch.float32)
    total = torch.empty_like(top)
    if out.numel():
        _forward[(triton.cdiv(n, bq), b * h)](
            q, k, v, out, top, total, n, m, scale * LOG2E, D=d, DP=max(16, triton.next_power_of_2(d)), CAUSAL=causal,
            BQ=bq, BK=bk, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return out, top, total


def _forward_torch(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, ...]:
    """The same walk in PyTorch operations, all heads at once: (O, maxima of scale * q k^T, normalisers)."""
    b, h, n, m, _ = shape_of(q, k)
    out, tops = torch.empty_like(q), torch.empty(b, h, n, 1, device=q.device, dtype=wide(q.dtype))
    totals = torch.empty_like(tops)
    for start in range(0, n, BLOCK_Q):
        rows = slice(start, min(start + BLOCK_Q, n))
        qs, i = q[:, :, rows].to(tops.dtype), torch.arange(n, device=q.device)[rows]
        top = torch.full_like(qs[..., :1], -torch.inf)
        total, acc = torch.zeros_like(top), torch.zeros_like(qs)
        for first in range(0, min(m, rows.stop + m - n) if causal else m, BLOCK_K):
            cols = slice(first, min(first + BLOCK_K, m))
            s = (qs @ k[:, :, cols].to(qs.dtype).mT).mul_(scale)
            if causal:
                s.masked_fill_(~visible(i, torch.arange(m, device=q.device)[cols], n, m), -torch.inf)
            higher = torch.maximum(top, s.amax(-1, keepdim=True))
            shift = torch.where(higher == -torch.inf, 0.0, higher)
            p, fade = s.sub_(shift).exp_(), torch.exp(top - shift)
            total = total * fade + p.sum(-1, keepdim=True)
            acc = acc * fade + p @ v[:, :, cols].to(qs.dtype)
            top = higher
        totals[:, :, rows] = torch.where(total == 0, 1.0, total)
        tops[:, :, rows] = torch.where(top == -torch.inf, 0.0, top)
        out[:, :, rows] = (acc / totals[:, :, rows]).to(out.dtype)
    return out, tops, totals


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, causal, scale, chosen):
        forward = _forward_triton if chosen == "triton" else _forward_torch
        out, top, total = forward(q, k, v, causal, scale)
        ctx.save_for_backward(q, k, v, out, top, total)
        ctx.options = causal, scale, chosen
        return out

    @staticmethod
    def backward(ctx, d_out):
        causal, scale, chosen = ctx.options
        q, k, v, out, top, total = ctx.saved_tensors
        backward = backward_triton if chosen == "triton" else backward_torch
        return *backward(q, k, v, out, top, total, d_out.contiguous(), causal, scale), None, None, None


def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, scale: float | None = None, impl: str = "auto"
) -> Tensor:
    """Exact attention in O(N) extra memory, forward and backward; `scale` is D^-0.5 unless given.

    `impl`: "triton" (float32, float16, bfloat16), "torch" (the same tiles in PyTorch; float64 too) or "auto".
    ValueError says what was expected of shapes, dtype and D (at most 128).
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 4 or not x.is_floating_point():
            raise ValueError(f"{name}: expected floating point (B, H, N, D), got {x.dtype} {tuple(x.shape)}")
        if x.dtype != q.dtype or x.device != q.device:
            raise ValueError(f"{name}: expected {q.dtype} on {q.device} as q, got {x.dtype} on {x.device}")
    if k.shape != v.shape or (*k.shape[:2], k.shape[3]) != (*q.shape[:2], q.shape[3]):
        raise ValueError(f"expected k and v (B, H, M, D) for q {tuple(q.shape)}, got {(*k.shape,)} and {(*v.shape,)}")
    chosen = choose(impl, q)
    if chosen == "triton" and (q.dtype == torch.float64 or not 1 <= q.shape[3] <= MAX_HEAD):
        raise ValueError(f"impl='triton': expected at most 32 bits and D <= {MAX_HEAD}, got {q.dtype} and {q.shape[3]}")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return _Flash.apply(q.contiguous(), k.contiguous(), v.contiguous(), causal, scale, chosen)
