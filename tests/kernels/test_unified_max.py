"""Attention with one maximum for all, and flat products: float64, scores outside the window, sizes, the compiler."""

import pytest
import torch

from kernels.attention import unified_max
from kernels.attention.grouped_query import grouped_query_reference
from kernels.attention.unified_max import unified_max_attention
from kernels.gemm import flat
from kernels.gemm.flat import METHODS, best_static, dataflow, flat_linear
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device
from tests.kernels.rounding import assert_product

IMPLS = ["torch", "triton"]


def inputs(n, m, d=16, dtype=torch.float32, b=2, h=8, g=2, seed=0):
    make = torch.Generator().manual_seed(1000 * n + m + 10**6 * seed)
    sizes = ((h, n), (g, m), (g, m))
    return [torch.randn(b, heads, size, d, generator=make).to(DEVICE, dtype) for heads, size in sizes]


def check(q, k, v, impl, **options):
    found, again = unified_max_attention(q, k, v, impl=impl, **options)
    assert_exact([found], grouped_query_reference, (q, k, v))
    return again


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("n", "m", "d", "splits"), [(1, 1, 16, 1), (1, 70, 24, 3), (3, 130, 64, None), (2, 5, 1, 9)])
def test_rows_inside_the_window_are_exact_and_not_computed_again(n, m, d, splits, dtype, impl):
    assert not check(*inputs(n, m, d, dtype), impl, splits=splits, phi=1.0).any()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("phi", [-300.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_that_overflow_or_vanish_are_computed_again(phi, dtype, impl):
    assert check(*inputs(2, 90, 32, dtype), impl, splits=2, phi=phi).all()


@pytest.mark.parametrize("impl", IMPLS)
def test_only_the_rows_that_need_it_are_computed_again(impl):
    """Head 3 overflows, head 4 vanishes; a score far below the others of its row is harmless.

    A score is a quarter of 16 products: the first is set, and the other 15 add at most 15 / 4 to it, whatever is drawn.
    """
    expected = torch.tensor([head in (3, 4) for head in range(8)], device=DEVICE).expand(2, 8)
    for seed in range(3):
        q, k, v = inputs(1, 80, 16, seed=seed)
        q, k = q.clamp(-1, 1), k.clamp(-1, 1)
        first = torch.tensor([1.0, 1.0, 1.0, 400.0, 0.4, 0.0, 0.0, 0.0], device=DEVICE)
        q[..., 0] = first[:, None]
        k[:, 0, :, 0], k[:, 0, 7, 0] = 1.0, -400.0  # scores of 1 / 4, of 100 in head 3, and key 7 far below them
        k[:, 1, :, 0] = -100.0  # -10 in head 4, and 0 in the others
        assert check(q, k, v, impl, splits=2, window=(-5.0, 60.0))[:, :, 0].equal(expected)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_window_of_ones_own_and_a_view_of_a_larger_cache(impl):
    q, k, v = inputs(1, 50)
    assert check(q, k[:, :, 3:30], v[:, :, 3:30], impl, window=(-0.001, 0.001), splits=2, scale=16**-0.5).all()
    assert not check(q, *(x.transpose(2, 3).contiguous().transpose(2, 3) for x in (k, v)), impl).any()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("b", "n", "m"), [(0, 1, 5), (1, 0, 5), (1, 2, 0)])
def test_no_rows_or_no_keys(b, n, m, impl):
    out, again = unified_max_attention(*inputs(n, m, b=b), impl=impl)
    assert out.shape == (b, 8, n, 16) and again.shape == (b, 8, n) and (out == 0).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (3, 45, 70), (8, 130, 300), (70, 33, 64), (0, 5, 4)])
def test_products_of_few_rows(m, n, k, method, impl):
    for seed, dtype in enumerate((torch.float32, torch.float32, torch.float32, torch.float16)):
        make = torch.Generator().manual_seed(1000 * m + n + 10**6 * seed)
        x, w = (torch.randn(rows, k, generator=make).to(DEVICE, dtype) for rows in (m, n))
        assert_product(flat_linear(x, w, method, impl), x, w.mT)


def test_the_table_takes_the_fastest_and_the_static_choice_the_least_loss():
    times = {(1, 8, 8): {"gemv": 1.0, "flat": 2.0, "padded": 9.0}, (8, 8, 8): {"gemv": 8.0, "flat": 2.0, "padded": 9.0}}
    assert dataflow(times) == {(1, 8, 8): "gemv", (8, 8, 8): "flat"} and best_static(times) == "flat"


Q, K, X = torch.zeros(1, 4, 1, 8), torch.zeros(1, 2, 4, 8), torch.zeros(2, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(3, 4)}, "expected q"),
        ({"k": torch.zeros(1, 3, 4, 8), "v": torch.zeros(1, 3, 4, 8)}, "heads divide"),
        ({"v": K.half()}, "of torch.float32 as q"),
        ({"splits": 0}, "splits >= 1"),
        ({"window": (1.0, 1.0)}, "low < high"),
        ({"impl": "cuda"}, "expected one of"),
        ({"q": torch.zeros(1, 4, 33, 8), "impl": "triton"}, "64 queries a key head"),
    ],
)
def test_bad_attention_input_is_refused(change, words):
    given = {"q": Q, "k": K, "v": K} | change
    with pytest.raises(ValueError, match=words):
        unified_max_attention(**on_device(given))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w": torch.zeros(3, 7)}, "expected x"),
        ({"method": "fast"}, "method: expected one of"),
        ({"x": X.double(), "w": X.double(), "impl": "triton"}, "at most 32 bits"),
    ],
)
def test_a_bad_product_is_refused(change, words):
    given = {"x": X, "w": X} | change
    with pytest.raises(ValueError, match=words):
        flat_linear(**on_device(given))


def test_every_kernel_compiles_for_sm90():
    attention, products = [], []
    for dtype, size in (("fp32", 4), ("fp16", 2), ("bf16", 2)):
        pointers = dict.fromkeys(["q", "k", "v", "out", "x", "w"], f"*{dtype}")
        pointers |= dict.fromkeys(["sums", "totals", "tops"], "*fp32") | {"again": "*i1"}
        pointers |= dict.fromkeys(["M", "N", "K", "S", "G", "ROWS", "kb", "kh", "vb", "vh"], "i32")
        pointers |= dict.fromkeys(["phi2", "low2", "high2", "scale2"], "fp32")
        keys, warps, stages = unified_max.tile_sizes(128, size)
        for rows in (16, 64) if dtype == "fp16" else (16,):
            constants = {"D": 128, "DP": 128, "BM": rows, "BK": keys}
            for kernel in ("_unified", "_add"):
                attention.append((kernel, pointers, constants, {"num_warps": warps, "num_stages": stages}))
        for n, rows in ((1024, 8), (2**17, 64)):
            bn, bk, stages = flat.tile_sizes(n, 132)
            options = {"num_warps": 4, "num_stages": stages}
            products.append(("_flat", pointers, {"BM": rows, "BN": bn, "BK": bk}, options))
        products.append(("_gemv", pointers, {"BN": 8, "BK": 256}, {}))
    compile_for_sm90("kernels.attention.unified_max", attention)
    compile_for_sm90("kernels.gemm.flat", products)
