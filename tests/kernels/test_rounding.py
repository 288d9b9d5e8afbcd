"""The bounds that kernels are held to: honest rounding is inside them whatever is drawn, mistakes are outside."""

from functools import partial

import pytest
import torch

from kernels.attention.flash2 import attention_reference
from kernels.attention.masks import Mask
from tests.kernels.attending import assert_exact, gradients, inputs
from tests.kernels.rounding import assert_product, assert_within, half_ulp, rounding, softmax_bound

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
OUTSIDE = pytest.raises(AssertionError, match="allowed error")


def factors(k, dtype=F32, seed=0):
    """a (20, k), b (k, 30)."""
    make = torch.Generator().manual_seed(seed)
    return torch.randn(20, k, generator=make).to(dtype), torch.randn(k, 30, generator=make).to(dtype)


def added_in(kind, a, b):
    """a @ b, the sum stored as `kind` after every 16 terms."""
    total = torch.zeros(len(a), b.shape[1], dtype=kind)
    for left, right in zip(a.float().split(16, 1), b.float().split(16, 0), strict=True):
        total = (total + left @ right).to(kind)
    return total


def test_the_allowance_is_the_formulas():
    assert rounding(4, F32) == 16 * 2.0**-24 and rounding(16, torch.float64) == 24 * 2.0**-53
    x = torch.tensor([1.0, 1.99, -2048.0, 3e-8, 0.0])
    assert half_ulp(x, F16).tolist() == [2.0**-11, 2.0**-11, 1.0, 2.0**-25, 2.0**-25]
    assert half_ulp(x, F32)[:3].tolist() == [2.0**-24, 2.0**-24, 2.0**-13]


@pytest.mark.parametrize("k", [1, 16, 257, 1024])
def test_honest_products_are_inside(k):
    for seed in range(30):
        a, b = factors(k, F32, seed)
        assert_product(a @ b, a, b)
        assert_product(a.abs() @ b.abs(), a.abs(), b.abs())  # whose partial sums are as large as they can be
        assert_product(added_in(F32, a, b), a, b)
        a, b = factors(k, F16, seed)
        assert_product((a.float() @ b.float()).half(), a, b)
        assert_product(a.float() @ b.float(), a, b, F32)


def changed(x, value):
    """x with another element [3, 5]."""
    x = x.clone()
    x[3, 5] = value
    return x


MISTAKES = {
    "the sign of one factor": lambda a, b: changed(a, -a[3, 5]) @ b,
    "a term left out": lambda a, b: changed(a, 0.0) @ b,
    "a scale": lambda a, b: 1.0001 * (a @ b),
    "one element": lambda a, b: changed(a @ b, (a.abs() @ b.abs())[3, 5] * 1e-4 + (a @ b)[3, 5]),
    "sums in float16": lambda a, b: added_in(F16, a, b).float(),
    "sums in bfloat16": lambda a, b: added_in(BF16, a, b).float(),
    "factors in bfloat16": lambda a, b: a.bfloat16().float() @ b.bfloat16().float(),
    "NaN": lambda a, b: changed(a @ b, torch.nan),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_products_are_outside(mistake):
    for seed in range(10):
        a, b = factors(1024, F32, seed)
        with OUTSIDE:
            assert_product(MISTAKES[mistake](a, b), a, b)


@pytest.mark.parametrize("kind", [F16, BF16])
def test_sums_in_16_bits_are_outside_when_the_result_has_no_more(kind):
    for seed in range(10):
        a, b = factors(1024, kind, seed)
        assert_product(added_in(F32, a, b).to(kind), a, b)
        with OUTSIDE:
            assert_product(added_in(kind, a, b), a, b)


def test_shape_dtype_and_the_place_of_the_worst_element():
    a, b = factors(16)
    with pytest.raises(AssertionError, match=r"expected torch.float32 \(20, 30\), got torch.float32 \(20, 29\)"):
        assert_product((a @ b)[:, :29], a, b)
    with pytest.raises(AssertionError, match="expected torch.float32 .*, got torch.float16"):
        assert_product((a @ b).half(), a, b)
    exact, bound = torch.ones(2, 3, dtype=torch.float64), torch.full((2, 3), 2.0**-10, dtype=torch.float64)
    out = exact.float()
    out[1, 2] += 2.5 * 2.0**-10
    with pytest.raises(AssertionError, match=r"got 2\.5 times it at \[1, 2\]: 1\.00244140625 for 1\.0"):
        assert_within(out, exact, bound, F32)


def test_softmax():
    for seed in range(30):
        x = 3 * torch.randn(5, 200, generator=torch.Generator().manual_seed(seed))
        exact = x.double().softmax(1)
        assert_within(x.softmax(1), exact, softmax_bound(x), F32)
        assert_within(x.exp() / x.exp().sum(1, keepdim=True), exact, softmax_bound(x), F32)
        for wrong in (x.bfloat16().float().softmax(1), (1.0001 * x).softmax(1), 1.0001 * x.softmax(1)):
            with OUTSIDE:
                assert_within(wrong, exact, softmax_bound(x), F32)
        half = x.half()
        assert_within(half.float().softmax(1).half(), half.double().softmax(1), softmax_bound(half), F16)


REFERENCE = partial(attention_reference, mask=Mask(True))
SHAPES = [(1, 1), (3, 3), (33, 70), (70, 33)]


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_pytorchs_own_attention_is_inside(n, m, dtype):
    for seed in range(10):
        torch.manual_seed(seed)
        given = [torch.randn_like(x) for x in inputs(n, m, dtype=dtype, h=4, g=2)]
        found = gradients(REFERENCE, *given)
        sums = dtype if dtype != F32 else None  # its heads share keys by copies, whose gradients are added in 16 bits
        assert_exact(found, REFERENCE, given, roundings=2, sums=sums)


EVERYWHERE = (Ellipsis,)
WRONG = {  # which of O, dQ, dK, dV; a factor that it should not have; where
    "the sign of one number": (0, -1.0, (0, 0, 3, 5)),
    "O": (0, 1.001, EVERYWHERE),
    "dQ": (1, 1.001, EVERYWHERE),
    "dK": (2, 1.001, EVERYWHERE),
    "dV": (3, 1.001, EVERYWHERE),
    "one row of dQ": (1, 2.0, (0, 1, 12)),
    "one row of dK": (2, 2.0, (0, 1, 12)),
    "one row of dV": (3, 2.0, (0, 1, 12)),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_attention_is_outside(mistake):
    which, factor, place = WRONG[mistake]
    for seed in range(5):
        torch.manual_seed(seed)
        given = [torch.randn_like(x) for x in inputs(33, 70, h=2, g=2)]
        found = gradients(REFERENCE, *given)
        found[which][place] *= factor
        with OUTSIDE:
            assert_exact(found, REFERENCE, given)


@pytest.mark.parametrize("dtype", [F32, F16])
def test_wrong_gradients_are_outside(dtype):
    """Fail gradients without delta, without the scale, or without a head that shares the keys."""
    given = inputs(33, 70, dtype=dtype, h=4, g=2)
    q, k, v, d_out = (x.double() for x in given)
    keys, values = (x.repeat_interleave(2, 1) for x in (k, v))
    p = REFERENCE(q, k, torch.eye(70, dtype=torch.float64).expand(1, 2, -1, -1))
    d_p = d_out @ values.mT
    d_s = p * (d_p - (p * d_p).sum(-1, keepdim=True))
    right = [p @ values, d_s @ keys / 4, *(x.mT @ y for x, y in ((d_s / 4, q), (p, d_out)))]
    right[2:] = (x.unflatten(1, (2, 2)).sum(2) for x in right[2:])
    assert_exact([x.to(dtype) for x in right], REFERENCE, given)
    wrong = {
        1: [p * d_p @ keys / 4, d_s @ keys],
        2: [((p * d_p).mT @ q / 4).unflatten(1, (2, 2)).sum(2), (d_s.mT @ q / 4)[:, ::2]],
        3: [(p.mT @ d_out)[:, ::2], p.mT.unflatten(1, (2, 2)).sum(2) @ d_out[:, ::2]],
    }
    for which, mistakes in wrong.items():
        for mistake in mistakes:
            found = [*right[:which], mistake, *right[which + 1 :]]
            with OUTSIDE:
                assert_exact([x.to(dtype) for x in found], REFERENCE, given)
