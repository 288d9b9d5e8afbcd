"""Softmax in three ways: naive, safe, and with the online normaliser (Milakov & Gimelshein 2018, arXiv 1805.02867).

Shapes: R rows, V columns. x (R, V) -> (R, V), each row a distribution. A row that is -inf throughout gives zeros.
Naive reads a row twice and overflows; safe reads it three times; online reads it twice and is as safe. Arithmetic is in
float32 (float64 for float64 input), whatever the dtype.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.dispatch import choose

METHODS = ("naive", "safe", "online")
BLOCK = 1024


def softmax_reference(x: Tensor) -> Tensor:
    """exp(x - max) / sum exp(x - max) along each row of x (R, V)."""
    top = x.amax(-1, keepdim=True)
    powers = torch.exp(x - torch.where(top == -torch.inf, 0.0, top))
    return powers / powers.sum(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


@triton.jit
def _exp(x):
    """exp(x) of float32 to the last places: a GPU's own multiplies by log2 e first, and errs with |x|.

    exp(x) = 2^n exp(x - n ln 2), the whole part n exactly; ln 2 in two parts, the first short enough that n of it is
    exact. Below -150 the result is 0.
    """
    x = tl.maximum(x, -150.0, propagate_nan=tl.PropagateNan.ALL)
    n = tl.floor(x * 1.4426950408889634 + 0.5)
    rest = (x - n * 0.693359375) + n * 2.12194440054690583e-4
    return tl.exp2(n) * tl.exp(rest)


@triton.jit
def _merge(m, d, m2, d2):
    """The pair of two parts of a row: Section 3.1, eq. 4. The maximum of nothing is -inf and shifts nothing."""
    top = tl.maximum(m, m2)
    shift = tl.where(top == float("-inf"), 0.0, top)
    return top, d * _exp(m - shift) + d2 * _exp(m2 - shift)


@triton.jit
def _softmax_kernel(x_ptr, out_ptr, V, METHOD: tl.constexpr, BLOCK: tl.constexpr):
    """One program: one row, BLOCK columns at a time, from memory in every pass."""
    row = tl.program_id(0).to(tl.int64) * V
    lanes = tl.arange(0, BLOCK)
    m = tl.full([BLOCK], float("-inf"), tl.float32)
    d = tl.zeros([BLOCK], tl.float32)
    if METHOD == "online":
        for start in range(0, V, BLOCK):
            x = _load(x_ptr + row, start + lanes, V)
            m, d = _merge(m, d, x, tl.where(x == float("-inf"), 0.0, 1.0))
        m, d = tl.reduce((m, d), 0, _merge)
    if METHOD == "safe":
        for start in range(0, V, BLOCK):
            m = tl.maximum(m, _load(x_ptr + row, start + lanes, V))
        m = tl.max(m, 0)
    if METHOD == "naive":
        m = 0.0
    shift = tl.where(m == float("-inf"), 0.0, m)
    if METHOD != "online":
        for start in range(0, V, BLOCK):
            d += _exp(_load(x_ptr + row, start + lanes, V) - shift)
        d = tl.sum(d, 0)
    d = tl.where(d == 0.0, 1.0, d)
    for start in range(0, V, BLOCK):
        y = _exp(_load(x_ptr + row, start + lanes, V) - shift) / d
        tl.store(out_ptr + row + start + lanes, y.to(out_ptr.dtype.element_ty), mask=start + lanes < V)


@triton.jit
def _load(row_ptr, cols, V):
    return tl.load(row_ptr + cols, mask=cols < V, other=float("-inf")).to(tl.float32)


def _softmax_triton(x: Tensor, method: str, block: int) -> Tensor:
    out = torch.empty_like(x)
    if x.numel():
        _softmax_kernel[(x.shape[0],)](x, out, x.shape[1], METHOD=method, BLOCK=block)
    return out


def merge(m: Tensor, d: Tensor, m2: Tensor, d2: Tensor) -> tuple[Tensor, Tensor]:
    """The pair (maximum, normaliser) of two parts of a row from theirs: associative and commutative (Section 3.1)."""
    top = torch.maximum(m, m2)
    shift = torch.where(top == -torch.inf, 0.0, top)
    return top, d * torch.exp(m - shift) + d2 * torch.exp(m2 - shift)


def normaliser(x: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """(m, d) of each row of x (R, V) in one pass: its maximum and the sum of exp(x - m), both (R, 1)."""
    m = x.new_full((x.shape[0], 1), -torch.inf)
    d = torch.zeros_like(m)
    for part in x.split(block, dim=1):
        top = part.amax(1, keepdim=True)
        shift = torch.where(top == -torch.inf, 0.0, top)
        m, d = merge(m, d, top, torch.exp(part - shift).sum(1, keepdim=True))
    return m, d


def _softmax_torch(x: Tensor, method: str, block: int) -> Tensor:
    """The same passes over blocks of columns."""
    wide = x if x.dtype == torch.float64 else x.float()
    if method == "online":
        m, d = normaliser(wide, block)
    else:
        m = wide.new_zeros(x.shape[0], 1)
        if method == "safe":
            m = m - torch.inf
            for part in wide.split(block, dim=1):
                m = torch.maximum(m, part.amax(1, keepdim=True))
        d = torch.zeros_like(m)
        for part in wide.split(block, dim=1):
            d += torch.exp(part - torch.where(m == -torch.inf, 0.0, m)).sum(1, keepdim=True)
    shift, d = torch.where(m == -torch.inf, 0.0, m), torch.where(d == 0, 1.0, d)
    out = torch.empty_like(x)
    for part, piece in zip(wide.split(block, dim=1), out.split(block, dim=1), strict=True):
        piece.copy_(torch.exp(part - shift) / d)
    return out


def softmax(x: Tensor, method: str = "online", impl: str = "auto", block: int = BLOCK) -> Tensor:
    """Softmax of each row of x (R, V) by "naive", "safe" or "online"; `block` columns at a time, a power of two.

    `impl`: "triton", "torch" (the same passes in PyTorch) or "auto". ValueError for anything else.
    """
    if x.dim() != 2 or not x.is_floating_point():
        raise ValueError(f"x: expected floating point (R, V), got {x.dtype} {tuple(x.shape)}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if block < 1 or block & (block - 1):
        raise ValueError(f"block: expected a power of two, got {block}")
    if choose(impl, x) == "torch":
        return _softmax_torch(x, method, block)
    if x.dtype == torch.float64:
        raise ValueError("impl='triton': expected float32, float16 or bfloat16, got torch.float64")
    return _softmax_triton(x.contiguous(), method, block)
