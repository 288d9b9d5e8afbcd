"""Attention over parts of the keys put together: o = sum_s e^(t_s - t) a_s / sum_s e^(t_s - t) l_s, t = max_s t_s.

Of a query and part s: t_s its largest score, l_s the sum of e^(score - t_s), a_s the sum of e^(score - t_s) v; S parts,
D head size, any number of queries. A part that sees no key has t_s = -inf and l_s = 0, and counts nothing. The last
step of Flash-Decoding (Dao et al. 2023), which keeps t_s + log l_s and a_s / l_s instead: the same, rounded once more.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

AT_ONCE = 16  # parts


@triton.jit
def _combine(parts, tops, totals, out, S, D: tl.constexpr, DP: tl.constexpr, SP: tl.constexpr, BS: tl.constexpr):
    """One program a query; scores are to base 2."""
    at, s, d = tl.program_id(0).to(tl.int64), tl.arange(0, SP), tl.arange(0, DP)
    top = tl.max(tl.load(tops + at * S + s, mask=s < S, other=float("-inf")), 0)
    shift = tl.where(top == float("-inf"), 0.0, top)
    total, acc = 0.0, tl.zeros([DP], tl.float32)
    for first in range(0, S, BS):
        some = first + tl.arange(0, BS)
        weight = tl.exp2(tl.load(tops + at * S + some, mask=some < S, other=float("-inf")) - shift)
        total += tl.sum(weight * tl.load(totals + at * S + some, mask=some < S, other=0.0), 0)
        seen = (weight > 0)[:, None] & (d < D)[None, :]
        part = tl.load(parts + (at * S + some)[:, None] * D + d[None, :], mask=seen, other=0.0)
        acc += tl.sum(weight[:, None] * part, 0)
    acc = acc / tl.where(total == 0.0, 1.0, total)
    tl.store(out + at * D + d, acc.to(out.dtype.element_ty), mask=d < D)


def padded(d: int) -> int:
    """The head size of a tile."""
    return max(16, triton.next_power_of_2(d))


def combine_triton(parts: Tensor, tops: Tensor, totals: Tensor, out: Tensor) -> Tensor:
    """Into `out`, D numbers a query: parts (queries, S, D), tops (to base 2) and totals (queries, S), all float32."""
    queries, s, d = parts.shape
    sp = triton.next_power_of_2(s)
    _combine[(queries,)](parts, tops, totals, out, s, D=d, DP=padded(d), SP=sp, BS=min(sp, AT_ONCE), num_warps=4)
    return out


def combine(parts: list[Tensor], tops: list[Tensor], totals: list[Tensor]) -> Tensor:
    """The same in PyTorch: parts (..., D), tops and totals (..., 1) -> (..., D)."""
    every = torch.stack(tops)
    weights = (every - every.amax(0).clamp_min(torch.finfo(every.dtype).min)).exp()
    total = (weights * torch.stack(totals)).sum(0)
    return (weights * torch.stack(parts)).sum(0) / torch.where(total == 0, 1, total)
