"""What every attention kernel of the library does with a tile: load and store rows, and fold scores into an output."""

import triton
import triton.language as tl

LOG2E = 1.4426950408889634


@triton.jit
def load_rows(base, rows, count, D: tl.constexpr, DP: tl.constexpr, EDGE: tl.constexpr):
    """(rows, DP) of a (count, D) matrix; EDGE: rows may lie beyond its end, and are zero there."""
    d = tl.arange(0, DP)
    place = base + rows[:, None] * D + d[None, :]
    if EDGE:
        return tl.load(place, mask=(rows < count)[:, None] & (d < D)[None, :], other=0.0)
    elif D != DP:
        return tl.load(place, mask=(d < D)[None, :], other=0.0)
    else:
        return tl.load(place)


@triton.jit
def store_rows(base, rows, count, value, D: tl.constexpr, DP: tl.constexpr):
    d = tl.arange(0, DP)
    there = (rows < count)[:, None] & (d < D)[None, :]
    tl.store(base + rows[:, None] * D + d[None, :], value.to(base.dtype.element_ty), mask=there)


@triton.jit
def fold(top, total, acc, s, vs, scale2):
    """Scores s (queries, keys), -inf where unseen, folded into the running maximum, normaliser and output of a block of
    queries. The output stays unnormalised; scale2 = scale * log2(e) turns exp(scale s) into exp2."""
    higher = tl.maximum(top, tl.max(s, 1))
    shift = tl.where(higher == float("-inf"), 0.0, higher) * scale2
    p = tl.exp2(s * scale2 - shift[:, None])
    fade = tl.exp2(top * scale2 - shift)
    acc = tl.dot(p.to(vs.dtype), vs, acc * fade[:, None], input_precision="ieee")
    return higher, total * fade + tl.sum(p, 1), acc


@triton.jit
def finish(top, total, acc, live, scale2):
    """(output, logsumexp) of a block of queries; rows that see nothing, or are not live, give 0 and -inf."""
    some = live & (total > 0.0)
    lse = tl.where(some, (top * scale2 + tl.log2(tl.where(some, total, 1.0))) / 1.4426950408889634, float("-inf"))
    return tl.where(some[:, None], acc / tl.where(some, total, 1.0)[:, None], 0.0), lse
