"""Element-wise steps of a transformer block in one kernel each (ByteTransformer, Zhai et al. 2022, Section III.C).

x (T, E), bias (E,). `bias_gelu`: gelu(x + bias). `bias_residual_norm`: LayerNorm(x + bias + residual), a row's sum and
its moments in registers, so that the row is read and written once. In PyTorch operations there is nothing to fuse:
there the two are their references.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from kernels.dispatch import choose

BLOCK = 1024
MAX_WIDTH = 16384


def bias_gelu_reference(x: Tensor, bias: Tensor) -> Tensor:
    """gelu(x + bias), by the error function."""
    return gelu(x + bias)


def bias_residual_norm_reference(
    x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, eps: float = 1e-12
) -> Tensor:
    """LayerNorm(x + bias + residual), in at least float32."""
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x.to(wide) + bias.to(wide) + residual.to(wide)
    return layer_norm(total, x.shape[-1:], weight.to(wide), shift.to(wide), eps).to(x.dtype)


@triton.jit
def _bias_gelu(x, bias, out, size, E: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y = tl.load(x + i, mask=i < size, other=0.0).to(tl.float32)
    y += tl.load(bias + i % E, mask=i < size, other=0.0).to(tl.float32)
    y = 0.5 * y * (1 + tl.erf(y * 0.7071067811865476))
    tl.store(out + i, y.to(out.dtype.element_ty), mask=i < size)


@triton.jit
def _bias_residual_norm(x, bias, residual, weight, shift, out, eps, E: tl.constexpr, EP: tl.constexpr):
    """One row."""
    e = tl.arange(0, EP)
    row = tl.program_id(0).to(tl.int64) * E
    y = tl.load(x + row + e, mask=e < E, other=0.0).to(tl.float32)
    y += tl.load(bias + e, mask=e < E, other=0.0).to(tl.float32)
    y += tl.load(residual + row + e, mask=e < E, other=0.0).to(tl.float32)
    off = tl.where(e < E, y - tl.sum(y, 0) / E, 0.0)
    off = off / tl.sqrt(tl.sum(off * off, 0) / E + eps)
    y = off * tl.load(weight + e, mask=e < E, other=0.0).to(tl.float32)
    y += tl.load(shift + e, mask=e < E, other=0.0).to(tl.float32)
    tl.store(out + row + e, y.to(out.dtype.element_ty), mask=e < E)


def bias_gelu(x: Tensor, bias: Tensor, impl: str = "auto") -> Tensor:
    """gelu(x + bias) for x (T, E) and bias (E,); ValueError for other shapes. No gradient."""
    _look(x, bias=bias)
    if choose(impl, x) == "torch":
        return bias_gelu_reference(x, bias)
    x, out = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    if x.numel():
        _bias_gelu[(triton.cdiv(x.numel(), BLOCK),)](x, bias, out, x.numel(), E=x.shape[1], BLOCK=BLOCK)
    return out


def bias_residual_norm(
    x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, eps: float = 1e-12, impl: str = "auto"
) -> Tensor:
    """LayerNorm(x + bias + residual) for x and residual (T, E), the others (E,). ValueError for other shapes, or E
    beyond MAX_WIDTH in Triton. No gradient."""
    _look(x, bias=bias, weight=weight, shift=shift)
    if residual.shape != x.shape:
        raise ValueError(f"residual: expected {(*x.shape,)}, got {(*residual.shape,)}")
    if choose(impl, x) == "torch":
        return bias_residual_norm_reference(x, bias, residual, weight, shift, eps)
    if x.shape[1] > MAX_WIDTH:
        raise ValueError(f"impl='triton': expected a width of at most {MAX_WIDTH}, got {x.shape[1]}")
    x, residual = x.contiguous(), residual.contiguous()
    out, padded = torch.empty_like(x), triton.next_power_of_2(x.shape[1])
    if x.numel():
        _bias_residual_norm[(len(x),)](
            x, bias, residual, weight, shift, out, eps, E=x.shape[1], EP=padded, num_warps=min(8, max(1, padded // 256))
        )
    return out


def _look(x: Tensor, **rows: Tensor) -> None:
    if x.dim() != 2:
        raise ValueError(f"x: expected (T, E), got {(*x.shape,)}")
    for name, row in rows.items():
        if row.shape != x.shape[1:]:
            raise ValueError(f"{name}: expected ({x.shape[1]},), got {(*row.shape,)}")
