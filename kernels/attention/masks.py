"""Who sees whom in the library's attention: causal or not, the last keys only, the first keys always.

N queries, M keys. Query i of n stands at key i + m - n, so that the last query stands at the last key. A causal query
sees the keys up to where it stands; with a window of w the last w of them, and always the first `sinks` of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_Q, BLOCK_K = 128, 128  # of the walk in PyTorch operations


@dataclass(frozen=True)
class Mask:
    """`window` 0: no window. ValueError for a window or sinks that would mean nothing."""

    causal: bool = False
    window: int = 0
    sinks: int = 0

    def __post_init__(self):
        if self.window < 0 or self.sinks < 0:
            raise ValueError(f"expected window and sinks >= 0, got {self.window} and {self.sinks}")
        if (self.window and not self.causal) or (self.sinks and not self.window):
            raise ValueError(f"expected causal=True with a window, and a window with sinks, got {self}")

    def visible(self, i: Tensor, j: Tensor, n: int, m: int) -> Tensor:
        """(len(i), len(j)): whether query i of n sees key j of m."""
        at, j = i[:, None] + m - n, j[None, :]
        see = (j <= at) | torch.tensor(not self.causal, device=j.device)
        return see & ((j > at - self.window) | (j < self.sinks)) if self.window else see

    def seen_of(self, rows: slice, cols: slice, n: int, m: int) -> str:
        """How much of a tile is seen: "none", "all" or "some" of it."""
        first, last = rows.start + m - n, rows.stop - 1 + m - n
        if self.causal and cols.start > last:
            return "none"
        if self.window and cols.stop - 1 <= first - self.window and cols.start >= self.sinks:
            return "none"
        before = not self.causal or cols.stop - 1 <= first
        inside = not self.window or cols.start > last - self.window or cols.stop <= self.sinks
        return "all" if before and inside else "some"


def blocks_of(n: int, size: int) -> Iterator[slice]:
    """0 .. n-1 in blocks."""
    return (slice(first, min(first + size, n)) for first in range(0, n, size))


@triton.jit
def seen(i, j, n, m, window, sinks, CAUSAL: tl.constexpr, WINDOW: tl.constexpr):
    """`Mask.visible` for i and j of shapes that broadcast; keys beyond the end are seen by none."""
    see = j < m
    if CAUSAL:
        see = see & (j <= i + m - n)
    if WINDOW:
        see = see & ((j > i + m - n - window) | (j < sinks))
    return see


@triton.jit
def keys_of(start, n, m, window, sinks, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr):
    """Which keys a block of queries sees: blocks in 0..sunk (sinks) and left..end; whole..right need no mask."""
    left, whole, sunk, right, end = 0, 0, 0, m // BK * BK, m
    if CAUSAL:
        end = tl.minimum(m, tl.maximum(0, start + BQ + m - n))
        right = tl.minimum(right, tl.maximum(0, start + 1 + m - n) // BK * BK)
    if WINDOW:
        left = tl.maximum(0, start + 1 + m - n - window) // BK * BK
        whole = tl.cdiv(tl.maximum(0, start + BQ + m - n - window), BK) * BK
        sunk = tl.minimum(tl.cdiv(sinks, BK) * BK, left)
    return sunk, left, whole, right, tl.where(start < n, end, 0)


@triton.jit
def queries_of(
    start, n, m, window, sinks, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr
):
    """Which queries see a block of keys: blocks in top..end; whole..low need no mask."""
    top, whole, low, end = 0, 0, n // BQ * BQ, n
    if CAUSAL:
        top = tl.maximum(0, start + n - m) // BQ * BQ
        whole = tl.cdiv(tl.maximum(0, start + BK - 1 + n - m), BQ) * BQ
    if WINDOW:
        low = tl.minimum(low, tl.maximum(0, start + n - m + window) // BQ * BQ)
        last = tl.minimum(n, tl.maximum(0, start + BK - 1 + n - m + window))
        end = tl.where(start < sinks, n, last)
    return top, whole, low, tl.where(start < m, end, 0)
