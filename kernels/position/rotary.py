"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864): queries and keys turned by their positions.

B batch, H query heads, G key heads, N tokens, D head size, W width that is rotated (even, at most D; the rest passes).
q (B, H, N, D) and k (B, G, N, D) -> the same shapes. Pair i of a vector at position m is turned by the angle
m * base^(-2 i / W). Layout "pairs" pairs neighbours (x0, x1), (x2, x3), as the paper does; "halves" pairs x_i with
x_(i + W/2), as Llama does: weights of one do not fit the other. Angles are taken in float64, whatever their tables are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.dispatch import choose

LAYOUTS = ("pairs", "halves")
TOKENS, HEADS = 32, 4  # of one program


def tables(
    positions: Tensor, width: int, base: float = 10000.0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (N, width / 2), of the angles at `positions` (N,) (Section 3.2.2)."""
    powers = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
    angles = positions.double()[:, None] * base**-powers
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotary_reference(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, layout: str = "pairs") -> tuple[Tensor, Tensor]:
    """Each pair as a complex number, times exp(i angle) (equation 12). Same arguments as `rotary`."""
    return _by_complex(q, cos, sin, layout), _by_complex(k, cos, sin, layout)


def _by_complex(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    width = 2 * cos.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    pairs = turned.unflatten(-1, (-1, 2)) if layout == "pairs" else turned.unflatten(-1, (2, -1)).mT
    wide = torch.promote_types(x.dtype, torch.float32)
    product = torch.view_as_complex(pairs.to(wide).contiguous()) * torch.complex(cos.to(wide), sin.to(wide))
    real = torch.view_as_real(product)
    return torch.cat([(real if layout == "pairs" else real.mT).flatten(-2).to(x.dtype), rest], -1)


@triton.jit
def _turn(x, out, n, there, cos, sin, D: tl.constexpr, W: tl.constexpr, WP: tl.constexpr, PAIRS: tl.constexpr):
    """One head's block of tokens, from x to out."""
    i = tl.arange(0, WP)
    if PAIRS:
        j = tl.arange(0, 2 * WP)
        live = there[:, None] & (j < W)[None, :]
        place = n[:, None] * D + j[None, :]
        both = tl.load(x + place, mask=live, other=0.0).to(tl.float32)
        one, two = tl.split(tl.reshape(both, [both.shape[0], WP, 2]))
        turned = tl.join(one * cos - two * sin, two * cos + one * sin)
        tl.store(out + place, tl.reshape(turned, [both.shape[0], 2 * WP]).to(out.dtype.element_ty), mask=live)
    else:
        live = there[:, None] & (i < W // 2)[None, :]
        place = n[:, None] * D + i[None, :]
        one = tl.load(x + place, mask=live, other=0.0).to(tl.float32)
        two = tl.load(x + place + W // 2, mask=live, other=0.0).to(tl.float32)
        tl.store(out + place, (one * cos - two * sin).to(out.dtype.element_ty), mask=live)
        tl.store(out + place + W // 2, (two * cos + one * sin).to(out.dtype.element_ty), mask=live)


@triton.jit
def _pass(x, out, n, there, D: tl.constexpr, W: tl.constexpr, DP: tl.constexpr):
    """The columns that are not rotated."""
    j = tl.arange(0, DP)
    live = there[:, None] & ((j >= W) & (j < D))[None, :]
    place = n[:, None] * D + j[None, :]
    tl.store(out + place, tl.load(x + place, mask=live, other=0.0), mask=live)


@triton.jit
def _rotate(
    q, k, q_out, k_out, cos, sin, N, H, G, BACK: tl.constexpr, D: tl.constexpr, W: tl.constexpr, WP: tl.constexpr,
    DP: tl.constexpr, PAIRS: tl.constexpr, BN: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """A block of tokens of HEADS heads, query heads first: the tables are read once for all of them."""
    n, i = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, WP)
    there = n < N
    live = there[:, None] & (i < W // 2)[None, :]
    place = n[:, None] * (W // 2) + i[None, :]
    cosine, sine = tl.load(cos + place, mask=live, other=0.0), tl.load(sin + place, mask=live, other=0.0)
    if BACK:
        sine = -sine
    batch = tl.program_id(2).to(tl.int64)
    for step in range(HEADS):
        head = tl.program_id(1) * HEADS + step
        if head < H:
            first = (batch * H + head) * N * D
            _turn(q + first, q_out + first, n, there, cosine, sine, D, W, WP, PAIRS)
            if W < D:
                _pass(q + first, q_out + first, n, there, D, W, DP)
        elif head < H + G:
            first = (batch * G + head - H) * N * D
            _turn(k + first, k_out + first, n, there, cosine, sine, D, W, WP, PAIRS)
            if W < D:
                _pass(k + first, k_out + first, n, there, D, W, DP)


def _rotate_triton(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, layout: str, back: bool) -> tuple[Tensor, Tensor]:
    q, k = q.contiguous(), k.contiguous()
    (b, h, n, d), g, half = q.shape, k.shape[1], cos.shape[1]
    outs = torch.empty_like(q), torch.empty_like(k)
    if n and b:
        grid = triton.cdiv(n, TOKENS), triton.cdiv(h + g, HEADS), b
        _rotate[grid](
            q, k, *outs, cos.contiguous(), sin.contiguous(), n, h, g, BACK=back, D=d, W=2 * half,
            WP=triton.next_power_of_2(half), DP=triton.next_power_of_2(d), PAIRS=layout == "pairs", BN=TOKENS,
            HEADS=HEADS, num_warps=4,
        )  # fmt: skip
    return outs


def _rotate_torch(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, layout: str, back: bool) -> tuple[Tensor, Tensor]:
    """x * cos + (-x1, x0, -x3, x2, ...) * sin, equation 34."""
    return tuple(_turn_torch(x, cos, -sin if back else sin, layout) for x in (q, k))  # type: ignore[return-value]


def _turn_torch(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    width = 2 * cos.shape[-1]
    wide, rest = x[..., :width].to(torch.promote_types(x.dtype, torch.float32)), x[..., width:]
    if layout == "pairs":
        across = torch.stack([-wide[..., 1::2], wide[..., ::2]], -1).flatten(-2)
        cos, sin = cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1)
    else:
        across = torch.cat([-wide[..., width // 2 :], wide[..., : width // 2]], -1)
        cos, sin = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
    return torch.cat([(wide * cos + across * sin).to(x.dtype), rest], -1)


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, cos, sin, layout, chosen):
        ctx.save_for_backward(cos, sin)
        ctx.options = layout, chosen
        return (_rotate_triton if chosen == "triton" else _rotate_torch)(q, k, cos, sin, layout, False)

    @staticmethod
    def backward(ctx, d_q, d_k):
        layout, chosen = ctx.options
        turn = _rotate_triton if chosen == "triton" else _rotate_torch
        cos, sin = ctx.saved_tensors
        return *turn(d_q, d_k, cos, sin, layout, True), None, None, None, None


def rotary(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, layout: str = "pairs", impl: str = "auto"
) -> tuple[Tensor, Tensor]:
    """q and k rotated by `tables(positions, W)`; the gradient turns back. Rotate before keys enter a cache.

    `impl`: "triton" (float32, float16, bfloat16), "torch" (float64 too, with tables of any dtype) or "auto".
    ValueError says what was expected of shapes, dtypes and layout.
    """
    if q.dim() != 4 or k.dim() != 4 or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]) or q.dtype != k.dtype:
        raise ValueError(f"expected q (B, H, N, D) and k (B, G, N, D) alike, got {(*q.shape,)} and {(*k.shape,)}")
    if cos.shape != sin.shape or cos.dim() != 2 or len(cos) != q.shape[2] or not 1 <= cos.shape[1] <= q.shape[3] // 2:
        raise ValueError(f"expected cos and sin ({q.shape[2]}, W/2), W <= {q.shape[3]}, got {(*cos.shape,)}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    chosen = choose(impl, q)
    if chosen == "triton" and (q.dtype == torch.float64 or cos.dtype != torch.float32):
        raise ValueError(f"impl='triton': expected at most 32 bits, tables float32, got {q.dtype} and {cos.dtype}")
    return _Rotary.apply(q, k, cos, sin, layout, chosen)
