"""FP8 against its bit rules: every code, rounding, scales, products, gradients, wrong variants, the compiler."""

import math

import pytest
import torch

from kernels.gemm import fp8
from kernels.gemm.fp8 import FORMATS, FP8Linear, fp8_linear, quantise, round_reference, scaled_matmul
from tests.environment import DEVICE
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.rounding import assert_product

IMPLS = ["torch", "triton"]
SIZES = [(1, 1, 1), (33, 70, 17), (130, 65, 100), (5, 300, 130)]


@pytest.mark.parametrize("name", FORMATS)
def test_every_code_is_what_pytorch_reads(name):
    codes = torch.arange(256, dtype=torch.uint8)
    ours = torch.tensor([FORMATS[name].decode(code) for code in range(256)])
    torch.testing.assert_close(codes.view(FORMATS[name].dtype).float(), ours, rtol=0, atol=0, equal_nan=True)


def values(largest):
    """Random over all magnitudes, every value of both formats, and the middles between them."""
    draw = torch.Generator().manual_seed(0)
    random = torch.randn(4000, generator=draw) * 2.0 ** torch.randint(-20, 18, (4000,), generator=draw)
    grid = torch.tensor([v for of in FORMATS.values() for v in map(of.decode, range(256)) if math.isfinite(v)])
    middles = (grid[1:] + grid[:-1]) / 2
    return torch.cat([random, grid, middles, torch.tensor([largest * 1.0001, 1e30, -1e30, 0.0, -0.0])])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", FORMATS)
def test_rounding_is_to_nearest_even_and_saturates(name, impl):
    x = values(FORMATS[name].largest).to(DEVICE)
    found, _ = quantise(x[None], name, scale=torch.ones((), device=DEVICE), impl=impl)
    expected = round_reference(x.double().cpu(), name).float()
    torch.testing.assert_close(found[0].float().cpu(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("by", ["tensor", "row"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_largest_becomes_the_largest(name, by, dtype, impl):
    x = torch.randn(7, 300, device=DEVICE).to(dtype)
    x[3] = 0
    x8, scale = quantise(x, name, by, impl=impl)
    top = x8.float().abs().amax(1)
    assert scale.shape == ((7,) if by == "row" else ()) and (x8[3].float() == 0).all()
    expected = torch.full((7,), FORMATS[name].largest).index_fill(0, torch.tensor(3), 0) if by == "row" else None
    assert torch.equal(top.cpu(), expected) if by == "row" else top.max() == FORMATS[name].largest
    back = x8.float() / (scale[:, None] if by == "row" else scale)
    step = 2.0 ** -(FORMATS[name].mantissa + 1)
    big = x.float().abs() > 2.0**-6 * x.float().abs().max()
    assert ((back - x.float()).abs() <= 1.01 * step * x.float().abs())[big].all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("by", ["tensor", "row"])
def test_nan_stays_nan(by, impl):
    x = torch.tensor([[1.0, math.nan, 2.0]], device=DEVICE)
    assert quantise(x, by=by, impl=impl)[0].float()[0, 1].isnan()


def eights(m, n, k, kinds, by, seed=0):
    draw = torch.Generator().manual_seed(m + n + k + 1000 * seed)
    shapes = ((m, k), (n, k))
    made = [torch.randn(shape, generator=draw).to(DEVICE) for shape in shapes]
    (a, sa), (b, sb) = (quantise(x, kind, by, impl="torch") for x, kind in zip(made, kinds, strict=True))
    return a, b, sa, sb


def unscaled(x, scale, dtype):
    return x.to(dtype) / (scale[:, None] if scale.dim() else scale)


def assert_added_in_14_bits(found, left, right):
    """left @ right as Hopper's Tensor Core adds it: FP8 products cut at 2^-13 of the largest, and their sum again."""
    exact, size = left @ right, left.abs() @ right.abs()
    assert found.shape == exact.shape and ((found - exact).abs() <= 2.0**-12 * size).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("by", ["tensor", "row"])
@pytest.mark.parametrize("kinds", [("e4m3", "e4m3"), ("e5m2", "e4m3"), ("e5m2", "e5m2")])
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_products(m, n, k, kinds, by, impl):
    for seed in range(3):
        a, b, sa, sb = eights(m, n, k, kinds, by, seed)
        found = scaled_matmul(a, b, sa, sb, impl=impl)
        left, right = unscaled(a, sa, torch.float64), unscaled(b, sb, torch.float64).T
        if impl == "triton" and DEVICE == "cuda":
            assert_added_in_14_bits(found, left, right)
        else:
            assert_product(found, left, right, torch.float32)


@pytest.mark.parametrize("impl", IMPLS)
def test_half_precision_out_and_nothing_to_add(impl):
    a, b, sa, sb = eights(20, 30, 40, ("e4m3", "e4m3"), "row")
    full = scaled_matmul(a, b, sa, sb, impl=impl)
    assert torch.equal(scaled_matmul(a, b, sa, sb, torch.float16, impl), full.half())
    assert (scaled_matmul(a[:, :0], b[:, :0], sa, sb, impl=impl) == 0).all()
    assert scaled_matmul(a[:0], b, sa[:0], sb, impl=impl).shape == (0, 30)


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_are_the_products_of_what_was_rounded(impl):
    draw = torch.Generator().manual_seed(0)
    x, weight, grad = (torch.randn(shape, generator=draw).to(DEVICE) for shape in ((2, 9, 24), (17, 24), (2, 9, 17)))
    out = fp8_linear(x.requires_grad_(), weight.requires_grad_(), impl)
    out.backward(grad)
    x8, w8 = (unscaled(*quantise(t.flatten(0, -2), impl="torch"), torch.float64).detach() for t in (x, weight))
    g8 = unscaled(*quantise(grad.flatten(0, 1), "e5m2", impl="torch"), torch.float64)
    products = (out.flatten(0, 1), x8, w8.T), (x.grad.flatten(0, 1), g8, w8), (weight.grad, g8.T, x8)
    for found, left, right in products:
        if impl == "triton" and DEVICE == "cuda":
            assert_added_in_14_bits(found, left, right)
        else:
            torch.testing.assert_close(found.double(), left @ right, rtol=1e-5, atol=1e-5)


def test_the_layer_is_near_the_ordinary_one():
    layer = FP8Linear(64, 32)
    x = torch.randn(100, 64)
    plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert 1e-4 < (layer(x) - plain).norm() / plain.norm() < 0.05


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantise(torch.zeros(3)), "x: expected"),
        (lambda: quantise(torch.zeros(0, 3)), "x: expected"),
        (lambda: quantise(torch.zeros(3, 3, dtype=torch.int32)), "x: expected"),
        (lambda: quantise(torch.zeros(3, 3), "e3m4"), "got e3m4"),
        (lambda: quantise(torch.ones(3, 3), by="row", scale=torch.ones(())), "a scale"),
        (lambda: scaled_matmul(torch.ones(2, 3), torch.ones(2, 3), torch.ones(()), torch.ones(())), "expected FP8 a"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_scales_of_another_shape_are_refused():
    a, b, sa, sb = eights(4, 5, 6, ("e4m3", "e4m3"), "row")
    with pytest.raises(ValueError, match="scale_b: expected float32"):
        scaled_matmul(a, b, sa, sa)
    with pytest.raises(ValueError, match="scale_a: expected float32"):
        scaled_matmul(a, b, sa.double(), sb)


def test_every_kernel_compiles_for_sm90():
    kinds, cases = {"e4m3": "fp8e4nv", "e5m2": "fp8e5"}, []
    for a, b, out in (("e4m3", "e4m3", "fp32"), ("e5m2", "e4m3", "fp32"), ("e4m3", "e4m3", "bf16")):
        pointers = {"a": f"*{kinds[a]}", "b": f"*{kinds[b]}", "out": f"*{out}"}
        others = dict.fromkeys(["scale_a", "scale_b"], "*fp32") | dict.fromkeys(["M", "N", "K"], "i32")
        cases.append(
            ("_product", pointers | others | dict.fromkeys(["a_step", "b_step"], "i32"), fp8.TILE, fp8.OPTIONS)
        )
    for name, of in FORMATS.items():
        for row, dtype in ((True, "bf16"), (False, "fp32")):
            constants = {"LARGEST": of.largest, "SMALLEST": of.decode(1), "MANTISSA": of.mantissa, "LEAST": fp8.LEAST}
            pointers = {"x": f"*{dtype}", "out": f"*{kinds[name]}", "scales": "*fp32", "K": "i32"}
            cases.append(("_quantise", pointers, constants | {"ROW": row, "BLOCK": 4096}, {"num_warps": 8}))
    compile_for_sm90("kernels.gemm.fp8", cases)
