"""Fused attention over packed sequences (ByteTransformer, Zhai et al. 2022, arXiv:2210.03052, Section III.E).

T packed rows of B sequences, `offsets` (B + 1,) their prefix sums, L_b rows each; H heads, D head size. q, k, v and the
output are (T, H, D), as a packed projection leaves them; no row sees another sequence. Sequences of up to SHORT keys go
by one kernel that holds the whole row of scores of a block of queries. Longer ones go by grouped products, a problem a
sequence and head: the first stores scores and leaves each tile's row maximum and sum, a small kernel completes them,
and the second takes exp(s - maximum) / sum while it loads. The work is that of sum L_b^2, not of B S^2.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.tiles import LOG2E, wide
from kernels.dispatch import choose

SHORT = 384  # the paper's threshold
HELD = 64 * 1024  # bytes of all keys of a sequence that a program may hold
BLOCK_Q, BLOCK_K = 32, 64
MAX_HEAD = 128


def packed_reference(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """One block-diagonal mask over the whole packed batch. Same arguments as `packed_attention`."""
    sequence = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=q.device), offsets.diff().long())
    scores = torch.einsum("ihd,jhd->hij", q, k) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(sequence[:, None] != sequence[None, :], -torch.inf)
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), v)


@triton.jit
def _rows(x, first, rows, length, head, H: tl.constexpr, D: tl.constexpr, DP: tl.constexpr):
    """Rows (of a sequence that starts at `first`) of one head: (BLOCK, DP), zeros beyond its length."""
    d = tl.arange(0, DP)
    place = ((first + rows).to(tl.int64) * H + head)[:, None] * D + d[None, :]
    return tl.load(x + place, mask=(rows < length)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def _store(out, tile, first, rows, length, head, H: tl.constexpr, D: tl.constexpr, DP: tl.constexpr):
    d = tl.arange(0, DP)
    place = ((first + rows).to(tl.int64) * H + head)[:, None] * D + d[None, :]
    tl.store(out + place, tile.to(out.dtype.element_ty), mask=(rows < length)[:, None] & (d < D)[None, :])


@triton.jit
def _short(
    q, k, v, out, offsets, scale2, H: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BQ: tl.constexpr,
    KEYS: tl.constexpr,
):  # fmt: skip
    """A block of queries of one sequence and head, all its keys at once."""
    sequence, head = tl.program_id(1) // H, tl.program_id(1) % H
    first = tl.load(offsets + sequence)
    length = tl.load(offsets + sequence + 1) - first
    i, j = tl.program_id(0) * BQ + tl.arange(0, BQ), tl.arange(0, KEYS)
    if tl.program_id(0) * BQ < length:
        qs, ks = _rows(q, first, i, length, head, H, D, DP), _rows(k, first, j, length, head, H, D, DP)
        s = tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2
        s = tl.where((j < length)[None, :], s, float("-inf"))
        p = tl.exp2(s - tl.max(s, 1)[:, None])
        vs = _rows(v, first, j, length, head, H, D, DP)
        o = tl.dot(p.to(vs.dtype), vs, input_precision="ieee") / tl.sum(p, 1)[:, None]
        _store(out, o, first, i, length, head, H, D, DP)


@triton.jit
def _scores(
    q, k, scores, tops, sums, offsets, places, scale2, rows, H: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """One tile of one problem's first product; its rows' maxima and sums are what the epilogue leaves."""
    sequence, head = tl.program_id(2) // H, tl.program_id(2) % H
    first = tl.load(offsets + sequence)
    length = tl.load(offsets + sequence + 1) - first
    i, j = tl.program_id(0) * BQ + tl.arange(0, BQ), tl.program_id(1) * BK + tl.arange(0, BK)
    if (tl.program_id(0) * BQ < length) & (tl.program_id(1) * BK < length):
        qs, ks = _rows(q, first, i, length, head, H, D, DP), _rows(k, first, j, length, head, H, D, DP)
        s = tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2
        s = tl.where((j < length)[None, :], s, float("-inf"))
        top = tl.max(s, 1)
        part = ((head * rows + first + i) * TILES + tl.program_id(1)).to(tl.int64)
        tl.store(tops + part, top, mask=i < length)
        tl.store(sums + part, tl.sum(tl.exp2(s - top[:, None]), 1), mask=i < length)
        start = tl.load(places + sequence) + head.to(tl.int64) * length * length
        place = start + i.to(tl.int64)[:, None] * length + j[None, :]
        tl.store(scores + place, s, mask=(i < length)[:, None] & (j < length)[None, :])


@triton.jit
def _complete(tops, sums, tiles, TILES: tl.constexpr, TP: tl.constexpr):
    """Of one row and head: the maximum and the sum of all its tiles, left in the first place of each."""
    row = tl.program_id(0).to(tl.int64)
    t = tl.arange(0, TP)
    live = t < tl.load(tiles + row)
    top = tl.load(tops + row * TILES + t, mask=live, other=float("-inf"))
    total = tl.load(sums + row * TILES + t, mask=live, other=0.0)
    whole = tl.max(top, 0)
    tl.store(sums + row * TILES, tl.sum(total * tl.exp2(top - whole), 0))
    tl.store(tops + row * TILES, whole)


@triton.jit
def _values(
    scores, tops, sums, v, out, offsets, places, rows, H: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """The second product of one block of queries; the softmax is finished as scores are loaded."""
    sequence, head = tl.program_id(1) // H, tl.program_id(1) % H
    first = tl.load(offsets + sequence)
    length = tl.load(offsets + sequence + 1) - first
    i = tl.program_id(0) * BQ + tl.arange(0, BQ)
    if tl.program_id(0) * BQ < length:
        part = ((head * rows + first + i) * TILES).to(tl.int64)
        top = tl.load(tops + part, mask=i < length, other=0.0)
        total = tl.load(sums + part, mask=i < length, other=1.0)
        start = tl.load(places + sequence) + head.to(tl.int64) * length * length
        acc = tl.zeros([BQ, DP], tl.float32)
        for begin in range(0, length, BK):
            j = begin + tl.arange(0, BK)
            there = (i < length)[:, None] & (j < length)[None, :]
            s = tl.load(scores + start + i.to(tl.int64)[:, None] * length + j[None, :], mask=there, other=float("-inf"))
            p = tl.exp2(s - top[:, None]) / total[:, None]
            vs = _rows(v, first, j, length, head, H, D, DP)
            acc = tl.dot(p.to(vs.dtype), vs, acc, input_precision="ieee")
        _store(out, acc, first, i, length, head, H, D, DP)


def _packed_triton(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, lengths: list[int], short: int) -> Tensor:
    (t, h, d), longest, out = q.shape, max(lengths), torch.empty_like(q)
    dp, blocks, scale2 = max(16, triton.next_power_of_2(d)), triton.cdiv(longest, BLOCK_Q), d**-0.5 * LOG2E
    shape = {"H": h, "D": d, "DP": dp, "BQ": BLOCK_Q}
    keys = max(16, triton.next_power_of_2(longest))
    if longest <= short and keys * dp * q.element_size() <= HELD:
        _short[(blocks, len(lengths) * h)](q, k, v, out, offsets, scale2, **shape, KEYS=keys, num_warps=8)
        return out
    tiles, square = triton.cdiv(longest, BLOCK_K), offsets.diff().long()
    places = torch.cat([square.new_zeros(1), (square**2 * h).cumsum(0)])
    scores = torch.empty(sum(length**2 for length in lengths) * h, device=q.device, dtype=torch.float32)
    tops = torch.empty(h, t, tiles, device=q.device, dtype=torch.float32)
    sums, tiled = torch.empty_like(tops), shape | {"BK": BLOCK_K, "TILES": tiles}
    _scores[(blocks, tiles, len(lengths) * h)](q, k, scores, tops, sums, offsets, places, scale2, t, **tiled)
    of_row = torch.repeat_interleave((square + BLOCK_K - 1) // BLOCK_K, square, output_size=t).repeat(h)
    _complete[(h * t,)](tops, sums, of_row, TILES=tiles, TP=triton.next_power_of_2(tiles), num_warps=1)
    _values[(blocks, len(lengths) * h)](scores, tops, sums, v, out, offsets, places, t, **tiled)
    return out


def _packed_torch(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, lengths: list[int], short: int) -> Tensor:
    """A problem a sequence, all heads at once: whole rows where they are short, else by tiles in two products."""
    out, start = torch.empty_like(q), 0
    for length in lengths:
        qs, ks, vs = (x[start : start + length].transpose(0, 1).to(wide(q.dtype)) for x in (q, k, v))
        s = (qs @ ks.mT).mul_(q.shape[-1] ** -0.5)
        if max(lengths) <= short:
            p = s.softmax(-1)
        else:
            tiles = s.split(BLOCK_K, -1)
            top = torch.stack([tile.amax(-1) for tile in tiles], -1)
            sums = torch.stack([(tile - t[..., None]).exp().sum(-1)
                                for tile, t in zip(tiles, top.unbind(-1), strict=True)], -1)  # fmt: skip
            whole = top.amax(-1, keepdim=True)
            p = (s - whole).exp_() / (sums * (top - whole).exp()).sum(-1, keepdim=True)
        out[start : start + length] = (p @ vs).transpose(0, 1).to(q.dtype)
        start += length
    return out


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, short: int = SHORT, impl: str = "auto",
    lengths: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    """Attention inside each packed sequence, no mask: q, k, v (T, H, D), offsets (B + 1,) int32 -> (T, H, D).

    `impl`: "triton" (float32, float16, bfloat16; D <= 128), "torch" or "auto". `lengths`: the B lengths, where the host
    knows them: offsets are then not read back, for which a GPU would be waited for. For inference: no gradient.
    ValueError says what was expected.
    """
    if q.dim() != 3 or not q.shape == k.shape == v.shape or not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"expected q, k and v (T, H, D) alike, got {', '.join(str((*x.shape,)) for x in (q, k, v))}")
    bounds = offsets.tolist() if lengths is None else [0, *accumulate(lengths)]
    if len(bounds) != len(offsets) or len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != len(q):
        raise ValueError(f"offsets: expected to rise from 0 to {len(q)}, got {bounds}")
    lengths = [after - before for before, after in pairwise(bounds)]
    if min(lengths) < 1:
        raise ValueError(f"offsets: expected to rise from 0 to {len(q)}, got {bounds}")
    chosen = choose(impl, q)
    if chosen == "triton" and (q.dtype == torch.float64 or q.shape[2] > MAX_HEAD):
        raise ValueError(f"impl='triton': expected at most 32 bits and D <= {MAX_HEAD}, got {q.dtype}, {q.shape[2]}")
    attend = _packed_triton if chosen == "triton" else _packed_torch
    with torch.no_grad():
        return attend(q.contiguous(), k.contiguous(), v.contiguous(), offsets.int(), lengths, short)
