"""Softmax with one maximum for all (Hong et al. 2023, FlashDecoding++, arXiv:2311.01282, Section 3): decode attention.

B batch, H query heads, G key heads (H = G * R), N queries, M keys, D head size, S splits of the keys. q (B, H, N, D),
k and v (B, G, M, D) -> (B, H, N, D), no mask. Instead of each split's maximum a constant phi is subtracted from every
score, so partial sums of exp(s - phi) and of exp(s - phi) v only need adding up: nothing is rescaled, nothing waits. A
row whose largest score, less phi, leaves the window (low, high) would overflow or vanish, and is computed again as
usual, whole. Small scores of a row are harmless: only its largest is held to `low`.
The reference is `grouped_query_reference` of grouped_query.py.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.flash import _fold
from kernels.attention.tiles import LOG2E, wide
from kernels.dispatch import choose

MAX_HEAD, MAX_ROWS = 128, 64
WINDOWS = {torch.float16: (-6.0, 10.0)}  # exp(s - phi) is rounded to float16 before it meets v
WINDOW = (-60.0, 60.0)  # float32's exponents, with room for sums
LEAST_KEYS = 256  # a split


@triton.jit
def _unified(
    q, k, v, sums, totals, tops, M, S, G, ROWS, phi2, scale2, kb, kh, vb, vh,
    D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: the queries of one key head over one split. The largest score is kept for the test alone."""
    head, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, d = tl.arange(0, BM), tl.arange(0, DP)
    live = (row < ROWS)[:, None] & (d < D)[None, :]
    qs = tl.load(q + (head * ROWS + row)[:, None] * D + d[None, :], mask=live, other=0.0)
    k, v = k + head // G * kb + head % G * kh, v + head // G * vb + head % G * vh
    chunk = tl.cdiv(tl.cdiv(M, S), BK) * BK
    end = tl.minimum(M, split * chunk + chunk)
    top = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, DP], tl.float32)
    for first in range(split * chunk, end, BK):
        j = first + tl.arange(0, BK)
        there = (j < end)[:, None] & (d < D)[None, :]
        place = j.to(tl.int64)[:, None] * D + d[None, :]
        ks = tl.load(k + place, mask=there, other=0.0)
        s = tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2
        s = tl.where((j < end)[None, :], s, float("-inf"))
        p = tl.exp2(s - phi2)
        vs = tl.load(v + place, mask=there, other=0.0)
        acc = tl.dot(p.to(vs.dtype), vs, acc, input_precision="ieee")
        total += tl.sum(p, 1)
        top = tl.maximum(top, tl.max(s, 1))
    place = (head * S + split) * ROWS + row
    tl.store(totals + place, total, mask=row < ROWS)
    tl.store(tops + place, top, mask=row < ROWS)
    tl.store(sums + place[:, None] * D + d[None, :], acc, mask=live)


@triton.jit
def _add(
    q, k, v, sums, totals, tops, out, again, M, S, G, ROWS, low2, high2, scale2, kb, kh, vb, vh,
    D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: the splits of one key head added up; if a row left the window, an ordinary walk over its keys."""
    head = tl.program_id(0).to(tl.int64)
    row, d = tl.arange(0, BM), tl.arange(0, DP)
    live = (row < ROWS)[:, None] & (d < D)[None, :]
    top = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, DP], tl.float32)
    for split in range(0, S):
        place = (head * S + split) * ROWS + row
        top = tl.maximum(top, tl.load(tops + place, mask=row < ROWS, other=float("-inf")))
        total += tl.load(totals + place, mask=row < ROWS, other=0.0)
        acc += tl.load(sums + place[:, None] * D + d[None, :], mask=live, other=0.0)
    bad = ((top <= low2) | (top >= high2)) & (row < ROWS)
    if tl.sum(bad.to(tl.int32), 0) > 0:
        qs = tl.load(q + (head * ROWS + row)[:, None] * D + d[None, :], mask=live, other=0.0)
        k, v = k + head // G * kb + head % G * kh, v + head // G * vb + head % G * vh
        higher = tl.full([BM], float("-inf"), tl.float32)
        sure, exact = tl.zeros([BM], tl.float32), tl.zeros([BM, DP], tl.float32)
        for first in range(0, M, BK):
            higher, sure, exact = _fold(
                higher, sure, exact, qs, k, v, first, row, ROWS, M, scale2, D, DP, False, True, BK
            )
        total = tl.where(bad, sure, total)
        acc = tl.where(bad[:, None], exact, acc)
    place = head * ROWS + row
    tl.store(again + place, bad, mask=row < ROWS)
    total = tl.where(total > 0.0, total, 1.0)
    tl.store(out + place[:, None] * D + d[None, :], (acc / total[:, None]).to(out.dtype.element_ty), mask=live)


def tile_sizes(d: int, itemsize: int) -> tuple[int, int, int]:
    """(keys, warps, stages)."""
    return (32, 4, 2) if itemsize == 4 else (64, 4, 3)


def _triton(q: Tensor, k: Tensor, v: Tensor, phi: float, window: tuple, splits: int, scale: float) -> tuple:
    (b, h, n, d), (_, g, m, _) = q.shape, k.shape
    k, v = (x if x.stride()[2:] == (d, 1) else x.contiguous() for x in (k, v))
    q, rows, device = q.contiguous(), h // g * n, q.device
    out, again = torch.empty_like(q), torch.zeros(b, h, n, device=device, dtype=torch.bool)
    if not out.numel():
        return out, again
    sums = torch.empty(b * g, splits, rows, d, device=device, dtype=torch.float32)
    totals, tops = torch.empty(2, b * g, splits, rows, device=device, dtype=torch.float32)
    block, warps, stages = tile_sizes(d, q.element_size())
    low2, high2, phi2 = (x * LOG2E for x in (phi + window[0], phi + window[1], phi))
    strides = (*k.stride()[:2], *v.stride()[:2])
    sizes = {"D": d, "DP": max(16, triton.next_power_of_2(d)), "BM": max(16, triton.next_power_of_2(rows)), "BK": block}
    options = {"num_warps": warps, "num_stages": stages}
    _unified[(b * g, splits)](
        q, k, v, sums, totals, tops, m, splits, g, rows, phi2, scale * LOG2E, *strides, **sizes, **options
    )
    _add[(b * g,)](
        q, k, v, sums, totals, tops, out, again, m, splits, g, rows, low2, high2, scale * LOG2E, *strides, **sizes,
        **options,
    )  # fmt: skip
    return out, again


def _torch(q: Tensor, k: Tensor, v: Tensor, phi: float, window: tuple, splits: int, scale: float) -> tuple:
    """The same in PyTorch operations, one split after the other."""
    (b, h, n, d), (_, g, m, _) = q.shape, k.shape
    rows = (q.to(wide(q.dtype)) * scale).reshape(b, g, h // g * n, d)
    acc, total = torch.zeros_like(rows), torch.zeros_like(rows[..., :1])
    top = torch.full_like(total, -torch.inf)
    for part in range(0, m, max(1, -(-m // splits))):
        cols = slice(part, part + max(1, -(-m // splits)))
        s = rows @ k[:, :, cols].to(rows.dtype).mT
        top = torch.maximum(top, s.amax(-1, keepdim=True))
        p = s.sub_(phi).exp_()
        acc, total = acc + p @ v[:, :, cols].to(rows.dtype), total + p.sum(-1, keepdim=True)
    bad = ((top <= phi + window[0]) | (top >= phi + window[1]))[..., 0]
    out = acc / torch.where(total > 0, total, 1)
    for i, j in bad.any(-1).nonzero().tolist():
        out[i, j, bad[i, j]] = recompute(rows[i, j, bad[i, j]], k[i, j], v[i, j])
    return out.reshape(b, h, n, d).to(q.dtype), bad.reshape(b, h, n)


def recompute(rows: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled queries (n, D) to keys and values (M, D) with a maximum of their own: (n, D)."""
    return (rows @ k.to(rows.dtype).mT).softmax(-1) @ v.to(rows.dtype) if len(k) else torch.zeros_like(rows)


def unified_max_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    phi: float = 0.0,
    window: tuple[float, float] | None = None,
    splits: int | None = None,
    scale: float | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """(attention (B, H, N, D), whether each row was computed again (B, H, N)). Forward only.

    `window`: where a row's largest score less `phi` must lie; unless given, what the dtype holds. `impl`: "triton",
    "torch" or "auto". ValueError says what was expected.
    """
    shapes = [tuple(x.shape) for x in (q, k, v)]
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape or k.shape[::3] != q.shape[::3]:
        raise ValueError(f"expected q (B, H, N, D), k and v (B, G, M, D); got {shapes}")
    if not k.shape[1] or q.shape[1] % k.shape[1] or not q.is_floating_point():
        raise ValueError(f"expected floating point and query heads that the key heads divide, got {q.dtype} {shapes}")
    if any(x.dtype != q.dtype or x.device != q.device for x in (k, v)) or (splits is not None and splits < 1):
        raise ValueError(f"expected k and v of {q.dtype} as q, splits >= 1; got {k.dtype}, {v.dtype}, {splits}")
    chosen, rows = choose(impl, q), q.shape[1] // k.shape[1] * q.shape[2]
    if chosen == "triton" and (q.dtype == torch.float64 or q.shape[3] > MAX_HEAD or rows > MAX_ROWS):
        raise ValueError(f"impl='triton': expected at most 32 bits, D <= {MAX_HEAD} and {MAX_ROWS} queries a key head, "
                         f"got {q.dtype}, {q.shape[3]} and {rows}")  # fmt: skip
    window = window or (WINDOWS.get(q.dtype, WINDOW) if chosen == "triton" else WINDOW)
    if not window[0] < window[1]:
        raise ValueError(f"window: expected (low, high) with low < high, got {window}")
    if splits is None:
        fill = 2 * torch.cuda.get_device_properties(q.device).multi_processor_count if q.is_cuda else 8
        splits = max(1, min(fill // max(1, k.shape[0] * k.shape[1]), k.shape[2] // LEAST_KEYS))
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return (_triton if chosen == "triton" else _torch)(q, k, v, phi, window, splits, scale)
