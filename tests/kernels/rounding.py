"""How far from float64 a kernel may be: what its own sums round, element by element. No other kernel is a yardstick.

A product of K terms: |out - ref| <= (4 sqrt(K) + 8) u (|A| |B|) + half an ulp of the output. u is the unit roundoff of
the accumulator: 2^-24 in float32, in which 16-bit inputs are added too, 2^-53 in float64. Whatever the order, each of K
additions rounds a partial sum, which is at most |A| |B|, by a share of -u to u: K of them walk sqrt(K) u / sqrt(3) far,
and 4 sqrt(K) u is seven times that. The 8 is for the few roundings beside a sum: scale, division, exponential. (A
Tensor Core cuts, always towards zero, at most 2 u each 16 terms: K / 8 u, less than 4 sqrt(K) u up to K = 1024.)
Through a chain of sums each bound is carried on in absolute values, to first order: errors times errors are left out.
"""

import torch
from torch import Tensor

from kernels.attention.tiles import wide


def unit(dtype: torch.dtype) -> float:
    """The unit roundoff: the most that rounding to `dtype` changes a number, relative to it."""
    return torch.finfo(dtype).eps / 2


def rounding(terms: int, dtype: torch.dtype) -> float:
    """(4 sqrt(K) + 8) u: what a sum of K `terms` with an accumulator of `dtype` loses, relative to their sizes' sum."""
    return (4 * terms**0.5 + 8) * unit(dtype)


def half_ulp(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Half the distance of the numbers of `dtype` where x lies; that of the smallest ones near zero. Float64."""
    least = torch.full_like(x, torch.finfo(dtype).smallest_normal, dtype=torch.float64)
    _, exponent = torch.frexp(x.double().abs().maximum(least))  # 2^(exponent - 1) <= |x|
    return torch.ldexp(torch.full_like(least, unit(dtype)), exponent - 1)


def stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The most that storing x as `dtype` loses: u |x|, and half the smallest number near zero; zero stays zero."""
    return (unit(dtype) * x.abs()).clamp_min(unit(dtype) * torch.finfo(dtype).smallest_normal) * (x != 0)


def shares(out: Tensor, exact: Tensor, bound: Tensor) -> Tensor:
    """|out - exact| over `bound` and half an ulp of out's dtype, element by element: at most 1 where all is well."""
    exact = exact.double()
    return (out.double() - exact).abs() / (bound + half_ulp(exact, out.dtype))


def assert_within(out: Tensor, exact: Tensor, bound: Tensor, dtype: torch.dtype) -> None:
    """Check that `out` is of `dtype` and of the shape of `exact`, and nowhere further off than `bound` and half an ulp.

    `exact` and `bound` float64. AssertionError says how far the worst element is off.
    """
    if out.shape != exact.shape or out.dtype != dtype:
        raise AssertionError(f"expected {dtype} {tuple(exact.shape)}, got {out.dtype} {tuple(out.shape)}")
    found = shares(out, exact, bound)
    if not (found <= 1).all():  # NaN too
        worst = int(found.nan_to_num(torch.inf).argmax())
        at = [int(i) for i in torch.unravel_index(torch.tensor(worst), found.shape)]
        off, got, true = (x.flatten()[worst].item() for x in (found, out, exact))
        raise AssertionError(f"expected at most the allowed error, got {off:.3g} times it at {at}: {got} for {true}")


def assert_product(out: Tensor, a: Tensor, b: Tensor, dtype: torch.dtype | None = None) -> None:
    """Check that `out` is a (..., M, K) @ b (..., K, N) in `dtype`, a's unless given, summed in at least float32."""
    dtype = dtype or a.dtype
    a, b = a.double(), b.double()
    assert_within(out, a @ b, rounding(a.shape[-1], wide(dtype)) * (a.abs() @ b.abs()), dtype)


def weights_bound(p: Tensor, off: Tensor, dtype: torch.dtype) -> Tensor:
    """How far weights P = softmax(s) (..., M) may be off, when scores s are off by `off` (..., M).

    e^s is off by `off`, relative to it, and the sum it is divided by, by the mean of `off`, weighted with P; the sum
    itself has M terms.
    """
    return p * (off + (p * off).sum(-1, keepdim=True) + rounding(p.shape[-1], wide(dtype)))


def softmax_bound(x: Tensor) -> Tensor:
    """How far softmax(x) (..., V) may be off: x less its maximum is rounded once. Finite x only."""
    p, below = x.double().softmax(-1), x.double().amax(-1, keepdim=True) - x.double()
    return weights_bound(p, unit(wide(x.dtype)) * below, x.dtype)


def attention_bounds(
    p: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    d_out: Tensor | None = None,
    scale: float | None = None,
    roundings: int = 0,
    sums: torch.dtype | None = None,
) -> list[Tensor]:
    """How far O may be off, and for dO = `d_out` also dQ, dK and dV: [O] or [O, dQ, dK, dV], float64.

    B batch, H query heads, G key heads (H = G R), N queries, M keys, D head size. P (B, H, N, M) are the weights in
    float64, 0 where a key is not seen; q, `d_out` (B, H, N, D), k, v (B, G, M, D). O = P V, dP = dO V^T,
    delta = rowsum(dO * O), dS = P * (dP - delta), dQ = scale dS K, dK = scale dS^T Q, dV = P^T dO. With 16-bit inputs
    methods round to their dtype what enters a product, P and dS, and the O that delta is taken of.
    `roundings`: how often scores are rounded to it, too, and their gradients; `sums`: what dK and dV are added up in,
    unless in at least float32.
    """
    (h, n, d), (g, m) = q.shape[1:], k.shape[1:3]
    dtype, inner = v.dtype, wide(v.dtype)
    scale = d**-0.5 if scale is None else scale
    q, k, v = (x.double() for x in (q, k, v))
    keys, values = (x.repeat_interleave(h // g, 1) for x in (k, v))

    def product_off(a: Tensor, b: Tensor) -> Tensor:
        """Of a b^T, sums of D terms: scores and dP."""
        return rounding(d, inner) * (a.abs() @ b.abs().mT) + roundings * unit(dtype) * (a @ b.mT).abs()

    p_off = weights_bound(p, scale * product_off(q, keys), inner) + stored(p, dtype)
    out, out_off = p @ values, (p_off + rounding(m, inner) * p) @ values.abs()
    if d_out is None:
        return [out_off]

    d_out = d_out.double()
    dp, dp_off = d_out @ values.mT, product_off(d_out, values)
    # delta is summed over D from dO and the O that was stored, or over M from P and dP: both are allowed.
    delta = (d_out * out).sum(-1, keepdim=True)
    stored_off = (d_out.abs() * (out_off + stored(out, dtype))).sum(-1, keepdim=True)
    delta_off = stored_off + (p * dp_off).sum(-1, keepdim=True)
    # The product rule. Where a lone key makes dP - delta zero, what is left of it is rounding, and allowed here.
    ds = p * (dp - delta)
    ds_off = p_off * (dp - delta).abs() + p * (dp_off + delta_off) + (1 + roundings) * stored(ds, dtype)

    down = rounding(n * h // g, sums or inner)  # sums over the queries of the R heads that share a key
    dq_off = scale * (ds_off + rounding(m, inner) * ds.abs()) @ keys.abs()
    dk_off = scale * (ds_off + down * ds.abs()).mT @ q.abs()
    dv_off = (p_off + down * p).mT @ d_out.abs()
    return [out_off, dq_off, *(x.unflatten(1, (g, h // g)).sum(2) for x in (dk_off, dv_off))]
