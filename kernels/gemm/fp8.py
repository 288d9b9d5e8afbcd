"""FP8 formats and products (Micikevicius et al. 2022, arXiv:2209.05433): E4M3 and E5M2, their products, a layer.

M, N, K. E4M3 has no infinities and one NaN pattern and so reaches 448; E5M2 is built like IEEE's formats. A value is
scaled, clamped to the largest finite one and rounded to nearest, ties to even: x8 = fp8(clamp(x * s)), with
s = largest / max |x|, a power of two not needed, kept in float32 for a whole tensor or for each row. The product of a
(M, K) and b (N, K), both with the summed dimension last, is divided by their scales: a8 b8^T / (s_a s_b) -> (M, N).
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from kernels.dispatch import choose


@dataclass(frozen=True)
class Format:
    """One sign bit, `exponent` bits with `bias`, `mantissa` bits; `ieee`: the highest exponent is infinity or NaN."""

    dtype: torch.dtype
    exponent: int
    mantissa: int
    bias: int
    ieee: bool

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return max(value for value in map(self.decode, range(128)) if math.isfinite(value))

    def decode(self, code: int) -> float:
        """The value of one of 256 bit patterns, from the rules of Section 3 alone."""
        sign = -1.0 if code >> 7 else 1.0
        exponent, fraction = (code & 127) >> self.mantissa, code & ((1 << self.mantissa) - 1)
        top = exponent == (1 << self.exponent) - 1
        if top and self.ieee:
            return math.nan if fraction else sign * math.inf
        if top and fraction == (1 << self.mantissa) - 1:
            return math.nan
        if exponent == 0:
            return sign * fraction * 2.0 ** (1 - self.bias - self.mantissa)
        return sign * (1 + fraction / 2**self.mantissa) * 2.0 ** (exponent - self.bias)


FORMATS = {
    "e4m3": Format(torch.float8_e4m3fn, 4, 3, 7, ieee=False),
    "e5m2": Format(torch.float8_e5m2, 5, 2, 15, ieee=True),
}
LEAST = 2.0**-100  # an amax below this is treated as this: the scale stays finite


def round_reference(x: Tensor, format: str) -> Tensor:
    """x (float64) at the nearest of the format's values, ties to the even code, beyond the largest at the largest."""
    grid = torch.tensor([v for v in map(FORMATS[format].decode, range(128)) if math.isfinite(v)], dtype=torch.float64)
    above = torch.searchsorted(grid, x.abs().clamp(max=grid[-1])).clamp(1)
    low, high = grid[above - 1], grid[above]
    middle, size = (low + high) / 2, x.abs()
    up = (size > middle) | ((size == middle) & (above % 2 == 0))
    return torch.where(up, high, low).copysign(x)


@triton.jit
def _round(x, MANTISSA: tl.constexpr, SMALLEST: tl.constexpr):
    """float32 at the nearest value of the format, ties to even, by its own bits; |x| is at most the largest."""
    drop: tl.constexpr = 23 - MANTISSA
    half: tl.constexpr = (1 << (drop - 1)) - 1
    mask: tl.constexpr = -(1 << drop)
    magic: tl.constexpr = 12582912.0 * SMALLEST  # 1.5 * 2^23: adding it leaves multiples of the smallest value
    bits = x.to(tl.int32, bitcast=True)
    normal = ((bits + half + ((bits >> drop) & 1)) & mask).to(tl.float32, bitcast=True)
    small = (x + magic) - magic
    return tl.where(tl.abs(x) < SMALLEST * (1 << MANTISSA), small, normal)


@triton.jit
def _quantise(
    x, out, scales, K, LARGEST: tl.constexpr, SMALLEST: tl.constexpr, MANTISSA: tl.constexpr, LEAST: tl.constexpr,
    ROW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: one row, with its own scale (a first pass for its maximum) or with the one given for all."""
    row = tl.program_id(0)
    x, out = x + row.to(tl.int64) * K, out + row.to(tl.int64) * K
    k = tl.arange(0, BLOCK)
    if ROW:
        top = tl.zeros([BLOCK], tl.float32)
        for start in range(0, K, BLOCK):
            value = tl.load(x + start + k, mask=start + k < K, other=0.0).to(tl.float32)
            top = tl.maximum(top, tl.abs(value), propagate_nan=tl.PropagateNan.ALL)
        scale = LARGEST / tl.maximum(tl.max(top, 0), LEAST, propagate_nan=tl.PropagateNan.ALL)
        tl.store(scales + row, scale)
    else:
        scale = tl.load(scales)
    for start in range(0, K, BLOCK):
        value = tl.load(x + start + k, mask=start + k < K, other=0.0).to(tl.float32) * scale
        inside = tl.minimum(tl.maximum(value, -LARGEST), LARGEST)
        code = _round(inside, MANTISSA, SMALLEST).to(out.dtype.element_ty)
        code = tl.where(value == value, code.to(tl.uint8, bitcast=True), 127)  # NaN stays NaN
        tl.store(out + start + k, code.to(out.dtype.element_ty, bitcast=True), mask=start + k < K)


def amax_scale(x: Tensor, format: str, by: str = "tensor") -> Tensor:
    """largest / max |x| in float32: () for "tensor", (M,) for the "row"s of x (M, K)."""
    size = x.abs().amax(-1) if by == "row" else x.abs().amax()
    return FORMATS[format].largest / size.float().clamp_min(LEAST)


def quantise(
    x: Tensor, format: str = "e4m3", by: str = "tensor", scale: Tensor | None = None, impl: str = "auto"
) -> tuple[Tensor, Tensor]:
    """(x8 (M, K) in FP8, scale float32: () for `by` = "tensor", (M,) for "row"); x (M, K) floating point, M and K >= 1.

    A `scale` () given is used for the whole tensor; what then lies beyond the largest value saturates. ValueError says
    what was expected.
    """
    if x.dim() != 2 or not x.is_floating_point() or not x.numel():
        raise ValueError(f"x: expected floating point (M, K) with elements, got {x.dtype} {tuple(x.shape)}")
    if format not in FORMATS or by not in ("tensor", "row") or (scale is not None and (by == "row" or scale.dim())):
        raise ValueError(f"expected {', '.join(FORMATS)} by tensor or row, a scale () by tensor, got {format}, {by}")
    of = FORMATS[format]
    if choose(impl, x) == "torch":
        scale = amax_scale(x, format, by) if scale is None else scale
        wide = x.float() * (scale[:, None] if by == "row" else scale)
        return wide.clamp(-of.largest, of.largest).to(of.dtype), scale
    out = torch.empty(x.shape, device=x.device, dtype=of.dtype)
    if scale is None:
        scale = torch.empty(len(x), device=x.device) if by == "row" else amax_scale(x, format)
    block = min(4096, max(128, triton.next_power_of_2(x.shape[1])))
    _quantise[(len(x),)](
        x.contiguous(), out, scale, x.shape[1], LARGEST=of.largest, SMALLEST=of.decode(1), MANTISSA=of.mantissa,
        LEAST=LEAST, ROW=by == "row", BLOCK=block, num_warps=4 if block <= 1024 else 8,
    )  # fmt: skip
    return out, scale


@triton.jit
def _product(
    a, b, out, scale_a, scale_b, M, N, K, a_step, b_step,
    GROUP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: a BM x BN tile; sums leave the Tensor Core, which adds FP8 products coarsely, every BK terms."""
    pid = tl.program_id(0)
    down, across = tl.cdiv(M, BM), tl.cdiv(N, BN)
    first = pid // (GROUP * across) * GROUP
    rows = tl.minimum(down - first, GROUP)
    i = (first + pid % (GROUP * across) % rows) * BM + tl.arange(0, BM)
    j = pid % (GROUP * across) // rows * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    left = a + i.to(tl.int64)[:, None] * K + k[None, :]
    right = b + j.to(tl.int64)[None, :] * K + k[:, None]
    acc = tl.zeros([BM, BN], tl.float32)
    for start in range(0, K, BK):
        x = tl.load(left + start, mask=(i < M)[:, None] & (start + k < K)[None, :], other=0.0)
        y = tl.load(right + start, mask=(start + k < K)[:, None] & (j < N)[None, :], other=0.0)
        acc = tl.dot(x, y, acc, max_num_imprecise_acc=BK)
    sa = tl.load(scale_a + i * a_step, mask=i < M, other=1.0)
    sb = tl.load(scale_b + j * b_step, mask=j < N, other=1.0)
    place = out + i.to(tl.int64)[:, None] * N + j[None, :]
    done = acc / sa[:, None] / sb[None, :]
    tl.store(place, done.to(out.dtype.element_ty), mask=(i < M)[:, None] & (j < N)[None, :])


TILE = {"GROUP": 8, "BM": 128, "BN": 128, "BK": 128}
OPTIONS = {"num_warps": 8, "num_stages": 3}


def scaled_matmul(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, dtype: torch.dtype = torch.float32, impl: str = "auto"
) -> Tensor:
    """a b^T / (scale_a scale_b) -> (M, N) in `dtype`; a (M, K), b (N, K) in FP8 formats, scales () or a number a row.

    `impl`: "triton" (on a GPU of compute capability 8.9 or more), "torch" (FP8 values multiplied in float32, the
    paper's own simulation) or "auto". ValueError says what was expected.
    """
    kinds = [of.dtype for of in FORMATS.values()]
    if a.dtype not in kinds or b.dtype not in kinds or a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        got = f"{a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        raise ValueError(f"expected FP8 a (M, K) and b (N, K), got {got}")
    for name, scale, rows in (("scale_a", scale_a, len(a)), ("scale_b", scale_b, len(b))):
        if scale.dtype != torch.float32 or tuple(scale.shape) not in ((), (rows,)):
            raise ValueError(f"{name}: expected float32 () or ({rows},), got {scale.dtype} {tuple(scale.shape)}")
    (m, k), n = a.shape, len(b)
    if choose(impl, a) == "torch":
        by_row = scale_a[:, None] if scale_a.dim() else scale_a
        return (a.float() @ b.float().T / by_row / scale_b).to(dtype)
    out = torch.empty(m, n, device=a.device, dtype=dtype)
    if out.numel():
        _product[(triton.cdiv(m, TILE["BM"]) * triton.cdiv(n, TILE["BN"]),)](
            a.contiguous(), b.contiguous(), out, scale_a.contiguous(), scale_b.contiguous(), m, n, k, scale_a.dim(),
            scale_b.dim(), **TILE, **OPTIONS,
        )  # fmt: skip
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, impl):
        (x8, sx), (w8, sw) = (quantise(part, "e4m3", impl=impl) for part in (x, weight))
        ctx.save_for_backward(x8, sx, w8, sw)
        ctx.kind = x.dtype, impl
        return scaled_matmul(x8, w8, sx, sw, x.dtype, impl)

    @staticmethod
    def backward(ctx, grad):
        x8, sx, w8, sw = ctx.saved_tensors
        dtype, impl = ctx.kind
        g8, sg = quantise(grad, "e5m2", impl=impl)
        d_x = scaled_matmul(g8, w8.T.contiguous(), sg, sw, dtype, impl)
        return d_x, scaled_matmul(g8.T.contiguous(), x8.T.contiguous(), sg, sx, dtype, impl), None


def fp8_linear(x: Tensor, weight: Tensor, impl: str = "auto") -> Tensor:
    """x (..., K) weight (N, K)^T -> (..., N) with both in E4M3 and gradients in E5M2, a scale a tensor (Section 4.1).

    All three products of a layer, forward and backward, have FP8 inputs; what is rounded passes gradients straight.
    """
    return _Linear.apply(x.flatten(0, -2), weight, impl).unflatten(0, x.shape[:-1])


class FP8Linear(nn.Linear):
    """A linear layer whose products have FP8 inputs."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) -> (..., N)."""
        out = fp8_linear(x, self.weight)
        return out if self.bias is None else out + self.bias
