"""Softmax followed by top-k, fused into one pass over each row (Milakov & Gimelshein 2018, Section 4, Algorithm 4).

Shapes: R rows, V columns, K kept. x (R, V) -> probabilities (R, K), largest first, and their columns (R, K), int64.
Where a probability is 0, as for an entry that is -inf, its column says nothing.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.dispatch import choose
from kernels.softmax.online import BLOCK, _exp, _load, _merge, merge, softmax, softmax_reference

LARGEST_K = 64


def softmax_topk_reference(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The K largest of softmax(x), x (R, V), with their columns."""
    return softmax_reference(x).topk(k, dim=1)


@triton.jit
def _topk_kernel(x_ptr, out_ptr, column_ptr, V, K, SLOTS: tl.constexpr, FUSED: tl.constexpr, BLOCK: tl.constexpr):
    """One program: one row, read once. Keeps K values in no order, and with FUSED the pair (m, d) beside them."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    slots = tl.arange(0, SLOTS)
    kept = tl.where(slots < K, float("-inf"), float("inf"))  # slots beyond K are never the lowest
    columns = tl.zeros([SLOTS], tl.int64)
    m = tl.full([BLOCK], float("-inf"), tl.float32)
    d = tl.zeros([BLOCK], tl.float32)
    for start in range(0, V, BLOCK):
        x = _load(x_ptr + row * V, start + lanes, V)
        if FUSED:
            m, d = _merge(m, d, x, tl.where(x == float("-inf"), 0.0, 1.0))
        best, lowest = tl.max(x, 0), tl.min(kept, 0)
        while best > lowest:  # seldom true once the first blocks have been read
            at = tl.argmax(x, 0)
            slot = tl.argmin(kept, 0)
            kept = tl.where(slots == slot, best, kept)
            columns = tl.where(slots == slot, start + at, columns)
            x = tl.where(lanes == at, float("-inf"), x)
            best, lowest = tl.max(x, 0), tl.min(kept, 0)
    if FUSED:
        m, d = tl.reduce((m, d), 0, _merge)
        shift = tl.where(m == float("-inf"), 0.0, m)
        d = tl.where(d == 0.0, 1.0, d)
    kept = tl.where(slots < K, kept, float("-inf"))
    taken = slots >= K
    for place in range(K):
        slot = tl.argmax(tl.where(taken, float("-inf"), kept), 0)
        slot = tl.where(
            tl.max(tl.where(taken, float("-inf"), kept), 0) == float("-inf"), tl.argmin(taken.to(tl.int32), 0), slot
        )  # only -inf left: any slot not taken
        value = tl.sum(tl.where(slots == slot, kept, 0.0), 0)
        column = tl.sum(tl.where(slots == slot, columns, 0), 0)
        if FUSED:
            value = _exp(value - shift) / d
        else:
            value = tl.maximum(value, 0.0)  # probabilities came in
        tl.store(out_ptr + row * K + place, value.to(out_ptr.dtype.element_ty))
        tl.store(column_ptr + row * K + place, column)
        taken = taken | (slots == slot)


def _topk_triton(x: Tensor, k: int, fused: bool, block: int) -> tuple[Tensor, Tensor]:
    out = torch.empty(x.shape[0], k, dtype=x.dtype, device=x.device)
    columns = torch.empty(x.shape[0], k, dtype=torch.int64, device=x.device)
    if x.shape[0]:
        slots = triton.next_power_of_2(k)
        _topk_kernel[(x.shape[0],)](x, out, columns, x.shape[1], k, SLOTS=slots, FUSED=fused, BLOCK=block)
    return out, columns


def _fused_torch(x: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    """One pass over blocks of columns: the running pair (m, d) and the K largest so far."""
    wide = x if x.dtype == torch.float64 else x.float()
    m = wide.new_full((x.shape[0], 1), -torch.inf)
    d = torch.zeros_like(m)
    kept = wide.new_full((x.shape[0], k), -torch.inf)
    columns = torch.zeros(x.shape[0], k, dtype=torch.int64, device=x.device)
    for start in range(0, x.shape[1], block):
        part = wide[:, start : start + block]
        largest, at = part.topk(min(k, part.shape[1]), dim=1)
        top = largest[:, :1]
        shift = torch.where(top == -torch.inf, 0.0, top)
        m, d = merge(m, d, top, torch.exp(part - shift).sum(1, keepdim=True))
        kept, order = torch.cat([kept, largest], 1).topk(k, dim=1)
        columns = torch.cat([columns, at + start], 1).gather(1, order)
    shift, d = torch.where(m == -torch.inf, 0.0, m), torch.where(d == 0, 1.0, d)
    return (torch.exp(kept - shift) / d).to(x.dtype), columns


def _unfused(x: Tensor, k: int, impl: str, block: int) -> tuple[Tensor, Tensor]:
    """Safe softmax to memory, then top-k from there."""
    y = softmax(x, "safe", impl, block)
    if impl == "triton":
        return _topk_triton(y, k, False, block)
    return y.topk(k, dim=1)


def softmax_topk(
    x: Tensor, k: int, fused: bool = True, impl: str = "auto", block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """The K largest probabilities of each row of x (R, V) and their columns, both (R, K).

    `fused`: one pass with the online normaliser; otherwise safe softmax, then top-k. `impl` as in `softmax`.
    """
    if x.dim() != 2 or not x.is_floating_point():
        raise ValueError(f"x: expected floating point (R, V), got {x.dtype} {tuple(x.shape)}")
    if not 1 <= k <= min(LARGEST_K, x.shape[1]):
        raise ValueError(f"k: expected 1 to {min(LARGEST_K, x.shape[1])}, got {k}")
    chosen = choose(impl, x)
    if not fused:
        return _unfused(x, k, chosen, block)
    if chosen == "torch":
        return _fused_torch(x, k, block)
    return _topk_triton(x.contiguous(), k, True, block)
