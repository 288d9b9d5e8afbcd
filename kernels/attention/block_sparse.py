"""Block-sparse attention: a mask of whole tiles says which are computed; the others are neither read nor computed.

B batch, H heads, N queries, M keys, D head size, T = ceil(N / block) and U = ceil(M / block) tiles. q (B, H, N, D),
k and v (B, H, M, D), mask (B or 1, H or 1, T, U) bool -> (B, H, N, D). Causal as in flash.py, on top of the mask. A
query that sees no key gives 0, and so do its gradients. Each block of queries (in the backward pass, of keys too) walks
over a list of its tiles, which is made once a call.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.steps import LOG2E, finish, fold, load_rows, store_rows
from kernels.attention.tiles import seen, visible, wide
from kernels.dispatch import choose

BLOCKS, MAX_HEAD = (16, 32, 64, 128), 128


@triton.jit
def _forward(
    q, k, v, out, lses, tiles, counts, N, M, U, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: a block of queries of one head over the tiles in its list."""
    head = tl.program_id(1).to(tl.int64)
    at = head * tl.num_programs(0) + tl.program_id(0)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    qs = load_rows(q + head * N * D, i, N, D, DP, True)
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, DP], tl.float32)
    for n in range(0, tl.load(counts + at)):
        j = tl.load(tiles + at * U + n) * BLOCK + tl.arange(0, BLOCK)
        s = tl.dot(qs, tl.trans(load_rows(k + head * M * D, j, M, D, DP, True)), input_precision="ieee")
        s = tl.where(seen(i, j, N, M, CAUSAL), s, float("-inf"))
        top, total, acc = fold(top, total, acc, s, load_rows(v + head * M * D, j, M, D, DP, True), scale2)
    acc, lse = finish(top, total, acc, i < N, scale2)
    store_rows(out + head * N * D, i, N, acc, D, DP)
    tl.store(lses + head * N + i, lse, mask=i < N)


@triton.jit
def _tile(qs, gs, ks, vs, i, j, lses, deltas, N, M, scale2, CAUSAL: tl.constexpr):
    """P and dS / scale of a tile (queries, keys), computed again from L (+inf for a row that sees nothing)."""
    lse = tl.load(lses + i, mask=i < N, other=float("inf"))
    delta = tl.load(deltas + i, mask=i < N, other=0.0)
    p = tl.exp2(tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2 - lse[:, None] * 1.4426950408889634)
    p = tl.where(seen(i, j, N, M, CAUSAL), p, 0.0)
    return p, p * (tl.dot(gs, tl.trans(vs), input_precision="ieee") - delta[:, None])


@triton.jit
def _backward_keys(
    q, k, v, d_out, lses, deltas, tiles, counts, d_k, d_v, N, M, T, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: dK and dV of a block of keys over the tiles of queries in its list."""
    head = tl.program_id(1).to(tl.int64)
    at = head * tl.num_programs(0) + tl.program_id(0)
    j = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ks, vs = load_rows(k + head * M * D, j, M, D, DP, True), load_rows(v + head * M * D, j, M, D, DP, True)
    dk, dv = tl.zeros([BLOCK, DP], tl.float32), tl.zeros([BLOCK, DP], tl.float32)
    for n in range(0, tl.load(counts + at)):
        i = tl.load(tiles + at * T + n) * BLOCK + tl.arange(0, BLOCK)
        qs, gs = load_rows(q + head * N * D, i, N, D, DP, True), load_rows(d_out + head * N * D, i, N, D, DP, True)
        p, ds = _tile(qs, gs, ks, vs, i, j, lses + head * N, deltas + head * N, N, M, scale2, CAUSAL)
        dv = tl.dot(tl.trans(p.to(gs.dtype)), gs, dv, input_precision="ieee")
        dk = tl.dot(tl.trans(ds.to(qs.dtype)), qs, dk, input_precision="ieee")
    store_rows(d_k + head * M * D, j, M, dk * scale, D, DP)
    store_rows(d_v + head * M * D, j, M, dv, D, DP)


@triton.jit
def _backward_queries(
    q, k, v, d_out, lses, deltas, tiles, counts, d_q, N, M, U, scale, scale2,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: dQ of a block of queries over the tiles in its list."""
    head = tl.program_id(1).to(tl.int64)
    at = head * tl.num_programs(0) + tl.program_id(0)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    qs, gs = load_rows(q + head * N * D, i, N, D, DP, True), load_rows(d_out + head * N * D, i, N, D, DP, True)
    dq = tl.zeros([BLOCK, DP], tl.float32)
    for n in range(0, tl.load(counts + at)):
        j = tl.load(tiles + at * U + n) * BLOCK + tl.arange(0, BLOCK)
        ks, vs = load_rows(k + head * M * D, j, M, D, DP, True), load_rows(v + head * M * D, j, M, D, DP, True)
        _, ds = _tile(qs, gs, ks, vs, i, j, lses + head * N, deltas + head * N, N, M, scale2, CAUSAL)
        dq = tl.dot(ds.to(ks.dtype), ks, dq, input_precision="ieee")
    store_rows(d_q + head * N * D, i, N, dq * scale, D, DP)


def _lists(mask: Tensor) -> tuple[Tensor, Tensor]:
    """(places of the tiles of each row, those that are there first; how many) of mask (H, T, U), int32."""
    order = (~mask).to(torch.uint8).argsort(dim=-1, stable=True)
    return order.to(torch.int32).contiguous(), mask.sum(-1, dtype=torch.int32).contiguous()


def _constants(d: int, block: int, causal: bool) -> dict:
    size = max(16, triton.next_power_of_2(d))
    return {"D": d, "DP": size, "CAUSAL": causal, "BLOCK": block, "num_warps": 8 if block * size > 8192 else 4,
            "num_stages": 2}  # fmt: skip


def _forward_triton(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block: int, causal: bool, scale: float):
    (h, n, d), m = q.shape, k.shape[1]
    out, lse = torch.empty_like(q), torch.empty(h, n, device=q.device, dtype=torch.float32)
    if out.numel():
        given = q, k, v, out, lse, *_lists(mask), n, m, mask.shape[2], scale * LOG2E
        _forward[(mask.shape[1], h)](*given, **_constants(d, block, causal))
    return out, lse


def _backward_triton(q, k, v, lse, delta, g, mask: Tensor, block: int, causal: bool, scale: float) -> list[Tensor]:
    (h, n, d), m = q.shape, k.shape[1]
    d_q, d_k, d_v = (torch.empty_like(x) for x in (q, k, v))
    given, ends, constants = (q, k, v, g, lse, delta), (scale, scale * LOG2E), _constants(d, block, causal)
    if k.numel():
        grid = mask.shape[2], h
        _backward_keys[grid](*given, *_lists(mask.mT), d_k, d_v, n, m, mask.shape[1], *ends, **constants)
    if q.numel():
        grid = mask.shape[1], h
        _backward_queries[grid](*given, *_lists(mask), d_q, n, m, mask.shape[2], *ends, **constants)
    return [d_q, d_k, d_v]


def _rows(q: Tensor, k: Tensor, mask: Tensor, block: int, causal: bool):
    """(head, queries, the keys in their tiles, who does not see whom), block by block, where there is any key."""
    n, m = q.shape[1], k.shape[1]
    j = torch.arange(m, device=q.device)
    for head in range(q.shape[0]):
        for t in range(mask.shape[1]):
            rows = slice(t * block, min((t + 1) * block, n))
            cols = j[mask[head, t].repeat_interleave(block)[:m]]
            if len(cols):
                i = torch.arange(rows.start, rows.stop, device=q.device)
                yield head, rows, cols, ~visible(i, cols, n, m) if causal else None


def _forward_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block: int, causal: bool, scale: float):
    """The tiles of a block of queries gathered, in PyTorch operations."""
    out, lse = torch.zeros_like(q), q.new_full(q.shape[:2], -torch.inf, dtype=wide(q.dtype))
    for head, rows, cols, unseen in _rows(q, k, mask, block, causal):
        s = (q[head, rows].to(lse.dtype) @ k[head, cols].to(lse.dtype).mT).mul_(scale)
        s = s if unseen is None else s.masked_fill_(unseen, -torch.inf)
        found = s.logsumexp(-1)
        p = s.sub_(found.masked_fill(found == -torch.inf, torch.inf)[:, None]).exp_()
        out[head, rows], lse[head, rows] = (p @ v[head, cols].to(lse.dtype)).to(out.dtype), found
    return out, lse


def _backward_torch(q, k, v, lse, delta, g, mask: Tensor, block: int, causal: bool, scale: float) -> list[Tensor]:
    grads = [torch.zeros_like(x, dtype=lse.dtype) for x in (q, k, v)]
    for head, rows, cols, unseen in _rows(q, k, mask, block, causal):
        qs, gs, ks, vs = (x.to(lse.dtype) for x in (q[head, rows], g[head, rows], k[head, cols], v[head, cols]))
        s = (qs @ ks.mT).mul_(scale)
        p = (s if unseen is None else s.masked_fill_(unseen, -torch.inf)).sub_(lse[head, rows, None]).exp_()
        ds = p * (gs @ vs.mT - delta[head, rows, None]) * scale
        grads[0][head, rows] = ds @ ks
        grads[1][head].index_add_(0, cols, ds.mT @ qs)
        grads[2][head].index_add_(0, cols, p.mT @ gs)
    return [x.to(y.dtype) for x, y in zip(grads, (q, k, v), strict=True)]


class _BlockSparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, mask, block, causal, scale, chosen):
        out, lse = (_forward_triton if chosen == "triton" else _forward_torch)(q, k, v, mask, block, causal, scale)
        ctx.save_for_backward(q, k, v, mask, out, lse)
        ctx.options = block, causal, scale, chosen
        return out

    @staticmethod
    def backward(ctx, g):
        q, k, v, mask, out, lse = ctx.saved_tensors
        *options, chosen = ctx.options
        delta = (g.to(lse.dtype) * out).sum(-1)
        lse = lse.masked_fill(lse == -torch.inf, torch.inf)
        backward = _backward_triton if chosen == "triton" else _backward_torch
        return *backward(q, k, v, lse, delta, g.contiguous(), mask, *options), None, None, None, None, None


def expanded(mask: Tensor, n: int, m: int, block: int) -> Tensor:
    """(.., T, U) as (.., N, M): what the mask lets each query see."""
    return mask.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :n, :m]


def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    block: int = 64,
    causal: bool = False,
    scale: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """Attention over the tiles (`block` x `block`, 16 to 128) that `mask` names, differentiable in q, k and v.

    `scale` > 0 is D^-0.5 unless given. `impl`: "triton" (float32 with blocks of at most 64, float16, bfloat16,
    D <= 128), "torch" (float64 too) or "auto". ValueError says what was expected.
    """
    if q.dim() != 4 or not q.is_floating_point() or k.shape != v.shape or k.dim() != 4:
        raise ValueError(f"expected floating point (B, H, N, D), got {q.dtype}, {[tuple(x.shape) for x in (q, k, v)]}")
    (b, h, n, d), m = q.shape, k.shape[2]
    if (*k.shape[:2], k.shape[3]) != (b, h, d) or not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"expected k and v (B, H, M, D) of {q.dtype} for q {(*q.shape,)}, got {k.dtype} {(*k.shape,)}")
    if block not in BLOCKS:
        raise ValueError(f"block: expected one of {BLOCKS}, got {block}")
    wanted = (triton.cdiv(n, block), triton.cdiv(m, block))
    if mask.dtype != torch.bool or mask.dim() != 4 or mask.shape[0] not in (1, b) or mask.shape[1] not in (1, h) or (
        mask.shape[2:] != wanted
    ):  # fmt: skip
        raise ValueError(f"mask: expected bool (1 or {b}, 1 or {h}, *{wanted}), got {mask.dtype} {(*mask.shape,)}")
    scale = d**-0.5 if scale is None else scale
    chosen = choose(impl, q)
    if not scale > 0 or (chosen == "triton" and (q.dtype == torch.float64 or not 1 <= d <= MAX_HEAD)):
        raise ValueError(
            f"expected scale > 0 and, in Triton, at most 32 bits and D <= 128, got {scale}, {q.dtype}, {d}"
        )
    if chosen == "triton" and q.dtype == torch.float32 and block > 64:
        raise ValueError(f"impl='triton': expected blocks of at most 64 in float32, got {block}")
    given = (x.flatten(0, 1).contiguous() for x in (q, k, v))
    mask = mask.expand(b, h, *wanted).flatten(0, 1).contiguous()
    return _BlockSparse.apply(*given, mask, block, causal, scale, chosen).view_as(q)
