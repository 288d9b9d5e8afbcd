"""Flat products of decoding (Hong et al. 2023, FlashDecoding++, arXiv:2311.01282, Sections 4 and 5), and which to take.

M rows (the batch), N, K. x (M, K), w (N, K) as a layer keeps it -> x w^T (M, N). "flat" pads M to 8 and no more: the
product is taken as w x^T, whose narrow side a Tensor Core takes 8 at a time. Narrow tiles along N where N is small, so
that every multiprocessor has one; two buffers a tile where N is large. "gemv" multiplies without Tensor Cores.
"padded" pads M to 64, which libraries did. A table, made once by timing, says which is best for an M and a weight.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.tiles import wide
from kernels.dispatch import choose

METHODS = ("gemv", "flat", "padded", "library")
PAD = {"flat": 8, "padded": 64}
MULTIPROCESSORS = 132  # of an H100, where no GPU tells


def flat_reference(x: Tensor, w: Tensor) -> Tensor:
    """x w^T."""
    return x @ w.mT


@triton.jit
def _flat(x, w, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """One program: BN columns of the result for BM rows, as (BN, K) times (K, BM)."""
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    m, k = tl.program_id(1) * BM + tl.arange(0, BM), tl.arange(0, BK)
    acc = tl.zeros([BN, BM], tl.float32)
    for first in range(0, K, BK):
        there = k < K - first
        ws = tl.load(w + n[:, None] * K + first + k[None, :], mask=(n < N)[:, None] & there[None, :], other=0.0)
        xs = tl.load(x + m[None, :] * K + first + k[:, None], mask=(m < M)[None, :] & there[:, None], other=0.0)
        acc = tl.dot(ws, xs, acc, input_precision="ieee")
    place = out + m.to(tl.int64)[None, :] * N + n[:, None]
    tl.store(place, acc.to(out.dtype.element_ty), mask=(n < N)[:, None] & (m < M)[None, :])


@triton.jit
def _gemv(x, w, out, N, K, BN: tl.constexpr, BK: tl.constexpr):
    """One program: BN columns of the result for one row, without Tensor Cores."""
    n, m, k = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN), tl.program_id(1).to(tl.int64), tl.arange(0, BK)
    acc = tl.zeros([BN, BK], tl.float32)
    for first in range(0, K, BK):
        there = k < K - first
        ws = tl.load(w + n[:, None] * K + first + k[None, :], mask=(n < N)[:, None] & there[None, :], other=0.0)
        xs = tl.load(x + m * K + first + k, mask=there, other=0.0)
        acc += ws.to(tl.float32) * xs.to(tl.float32)[None, :]
    tl.store(out + m * N + n, tl.sum(acc, 1).to(out.dtype.element_ty), mask=n < N)


def tile_sizes(n: int, multiprocessors: int) -> tuple[int, int, int]:
    """(BN, BK, stages) of the flat product."""
    return (128, 64, 2) if n >= 128 * multiprocessors else (32, 128, 3)


def _triton(x: Tensor, w: Tensor, method: str) -> Tensor:
    (m, k), n = x.shape, len(w)
    out = torch.empty(m, n, device=x.device, dtype=x.dtype)
    if not out.numel():
        return out
    if method == "gemv":
        _gemv[(triton.cdiv(n, 8), m)](x, w, out, n, k, BN=8, BK=256, num_warps=4)
        return out
    count = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else MULTIPROCESSORS
    bn, bk, stages = tile_sizes(n, count)
    rows = 64 if method == "padded" else min(64, max(PAD["flat"], triton.next_power_of_2(m)))
    grid = (triton.cdiv(n, bn), triton.cdiv(m, rows))
    _flat[grid](x, w, out, m, n, k, BM=rows, BN=bn, BK=bk, num_warps=4, num_stages=stages)
    return out


def _torch(x: Tensor, w: Tensor, method: str) -> Tensor:
    """The same in PyTorch operations: a product a row, or of padded rows."""
    x, w = x.to(wide(x.dtype)), w.to(wide(x.dtype))
    if method == "gemv":
        return torch.stack([w @ row for row in x]) if len(x) else x.new_zeros(0, len(w))
    pad = PAD[method]
    padded = x.new_zeros(-(-len(x) // pad) * pad, x.shape[1])
    padded[: len(x)] = x
    return (padded @ w.mT)[: len(x)]


def flat_linear(x: Tensor, w: Tensor, method: str = "flat", impl: str = "auto") -> Tensor:
    """x (M, K) times w (N, K) transposed, by one of METHODS: (M, N), sums in float32. "library" is PyTorch's own.

    `impl`: "triton", "torch" or "auto". ValueError says what was expected.
    """
    if x.dim() != 2 or w.dim() != 2 or x.shape[1] != w.shape[1] or x.dtype != w.dtype or not x.is_floating_point():
        raise ValueError(f"expected x (M, K) and w (N, K), got {x.dtype} {(*x.shape,)} and {w.dtype} {(*w.shape,)}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    chosen = choose(impl, x)
    if method == "library":
        return torch.nn.functional.linear(x, w)
    if chosen == "torch":
        return _torch(x, w, method).to(x.dtype)
    if x.dtype == torch.float64:
        raise ValueError("impl='triton': expected at most 32 bits, got torch.float64")
    return _triton(x.contiguous(), w.contiguous(), method)


def dataflow(times: dict[tuple, dict[str, float]]) -> dict[tuple, str]:
    """The table: the fastest method of each (M, N, K) that was timed."""
    return {case: min(found, key=lambda name: found[name]) for case, found in times.items()}


def best_static(times: dict[tuple, dict[str, float]]) -> str:
    """The one method whose times, over the best of each case, have the least product."""
    best = {case: min(found.values()) for case, found in times.items()}
    loss: dict[str, float] = {}
    for case, found in times.items():
        for name, ms in found.items():
            loss[name] = loss.get(name, 1.0) * ms / best[case]
    return min(loss, key=lambda name: loss[name])
