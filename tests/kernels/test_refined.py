"""Products of float16 with residuals against float64: every form, awkward sizes, wrong variants, the compiler."""

import pytest
import torch

from kernels.gemm import refined
from kernels.gemm.refined import refined_matmul, refined_reference, split
from kernels.gemm.small import PER_PROGRAM, SIDES, small_matmul
from kernels.testing import error
from tests.environment import DEVICE
from tests.kernels.compiling import compile_for_sm90, ptx
from tests.kernels.rounding import assert_product, assert_within, rounding

IMPLS = ["torch", "triton"]
SIZES = [(1, 1, 1), (16, 16, 16), (33, 70, 17), (130, 65, 100), (5, 300, 64)]


SEEDS = range(3)


def inputs(m, n, k, dtype=torch.float32, batch=(), size=1.0, seed=0):
    draw = torch.Generator().manual_seed(m + n + k + 1000 * seed)
    shapes = ((*batch, m, k), (*batch, k, n))
    return [((torch.rand(shape, generator=draw) * 2 - 1) * size).to(DEVICE, dtype) for shape in shapes]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("products", [1, 2, 3, 4])
@pytest.mark.parametrize(("scale", "outside"), [(1.0, False), (2048.0, True)])
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_every_form_is_the_sum_of_its_terms(m, n, k, scale, outside, products, impl):
    for seed in SEEDS:
        a, b = inputs(m, n, k, seed=seed)
        exact = refined_reference(a, b, products, scale)
        # One sum of all terms' products; residuals are so small that the sizes of A and B are those of their halves
        bound = rounding(products * k, torch.float32) * (a.double().abs() @ b.double().abs())
        assert_within(refined_matmul(a, b, products, scale, outside, impl), exact, bound, torch.float32)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("products", "scale"), [(3, 1.0), (4, 1.0), (3, 2048.0)])
def test_with_both_refined_it_is_as_exact_as_float32(products, scale, impl):
    for seed in SEEDS:
        a, b = inputs(70, 65, 300, seed=seed)
        assert_product(refined_matmul(a, b, products, scale, impl=impl), a, b)
        with pytest.raises(AssertionError, match="allowed error"):
            assert_product(refined_matmul(a, b, 2, scale, impl=impl), a, b)


@pytest.mark.parametrize("impl", IMPLS)
def test_scaled_residuals_do_not_underflow(impl):
    a, b = inputs(64, 64, 64, size=2.0**-12)
    exact = a.double() @ b.double()
    assert error(refined_matmul(a, b, 3, 2048.0, impl=impl), exact) < 1e-6
    assert error(refined_matmul(a, b, 3, impl=impl), exact) > 1e-5


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_batches_and_strides(dtype, impl):
    a, b = (x.mT.contiguous().mT for x in inputs(20, 30, 40, dtype, batch=(3,)))
    assert_product(refined_matmul(a, b, 1, impl=impl), a.half(), b.half(), torch.float32)


@pytest.mark.parametrize("impl", IMPLS)
def test_half_has_no_residual(impl):
    a, b = inputs(20, 30, 40, torch.float16)
    assert not split(a)[1].any()
    torch.testing.assert_close(refined_matmul(a, b, 4, impl=impl), refined_matmul(a, b, 1, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 4), (3, 4, 0)])
def test_nothing_to_do(m, n, k, impl):
    out = refined_matmul(*inputs(m, n, k), impl=impl)
    assert out.shape == (m, n) and (out == 0).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("batch", [0, 1, 37])
def test_small_products(batch, side, impl):
    for seed in SEEDS:
        a, b = inputs(side, side, side, torch.float16, batch=(batch,), seed=seed)
        assert_product(small_matmul(a, b, impl=impl), a, b, torch.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": torch.zeros(2, 3, dtype=torch.float64)}, "a: expected float16 or float32"),
        ({"b": torch.zeros(3, 2, dtype=torch.float16)}, "b: expected float16 or float32, the same"),
        ({"b": torch.zeros(4, 2)}, "expected a"),
        ({"b": torch.zeros(1, 3, 2)}, "expected a"),
        ({"products": 5}, "1 to 4 products"),
        ({"scale": 0.0}, "scale >= 1"),
        ({"impl": "cuda"}, "expected one of"),
    ],
)
def test_what_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        refined_matmul(**{"a": torch.zeros(2, 3), "b": torch.zeros(3, 2)} | change)


@pytest.mark.parametrize(("shape", "dtype"), [((2, 8, 8), torch.float16), ((2, 16, 16), torch.float32)])
def test_what_small_refuses(shape, dtype):
    with pytest.raises(ValueError, match="expected"):
        small_matmul(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype))


def test_every_kernel_compiles_for_sm90():
    cases = []
    integers = dict.fromkeys(["M", "N", "K", "a_b", "a_m", "b_b", "b_k"], "i32")
    forms = [(products, 1.0, False) for products in (1, 2, 3, 4)] + [(3, 2048.0, True)]
    for dtype, size, (products, scale, outside) in [("fp16", 2, forms[0]), *(("fp32", 4, form) for form in forms)]:
        bm, bn, bk, warps, stages = refined.tile_sizes(products, size)
        constants = {"PRODUCTS": products, "SCALE": scale, "OUTSIDE": outside, "GROUP": refined.GROUP} | {
            "a_k": 1,
            "b_n": 1,
        }
        pointers = {"a": f"*{dtype}", "b": f"*{dtype}", "out": "*fp32"}
        options = {"num_warps": warps, "num_stages": stages}
        cases.append(("_refined", pointers | integers, constants | {"BM": bm, "BN": bn, "BK": bk}, options))
    compile_for_sm90("kernels.gemm.refined", cases)
    pointers = {"a": "*fp16", "b": "*fp16", "out": "*fp32", "BATCH": "i32"}
    small = [("_small", pointers, {"S": s, "G": PER_PROGRAM // s**2}, {"num_warps": 4}) for s in SIDES]
    compile_for_sm90("kernels.gemm.small", small)


def test_sums_outside_the_tensor_core_are_not_moved_back_into_it():
    """The compiler may make one product of `acc += dot(x, y)`; then the additions are gone from the code."""
    constants = {"PRODUCTS": 3, "SCALE": 2048.0, "GROUP": refined.GROUP, "a_k": 1, "b_n": 1}
    bm, bn, bk, warps, stages = refined.tile_sizes(3, 4)
    constants |= {"BM": bm, "BN": bn, "BK": bk}
    signature = dict.fromkeys(["a", "b", "out"], "*fp32") | dict.fromkeys(
        ["M", "N", "K", "a_b", "a_m", "b_b", "b_k"], "i32"
    )
    options = {"num_warps": warps, "num_stages": stages}
    cases = [("_refined", signature, constants | {"OUTSIDE": outside}, options) for outside in (False, True)]
    inside, outside = (text.count("add.f32") + text.count("add.rn.f32") for text in ptx("kernels.gemm.refined", cases))
    assert outside >= inside + bm * bn // (32 * warps)
