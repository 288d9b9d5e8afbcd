"""Tiled attention against float64, forward and backward: awkward sizes, empty rows, wrong variants, the compiler."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.attention import flash, flash_backward
from kernels.attention.flash import attention_reference, flash_attention
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact, gradients, inputs
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device

IMPLS = ["torch", "triton"]
SIZES = [(1, 1), (1, 70), (31, 33), (64, 64), (65, 32), (130, 63), (63, 130)]


def check(q, k, v, g, impl, **options):
    found = gradients(partial(flash_attention, impl=impl, **options), q, k, v, g)
    assert_exact(found, partial(attention_reference, **options), (q, k, v, g), scale=options.get("scale"))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_output_and_gradients_are_exact_but_for_rounding(n, m, causal, impl):
    check(*inputs(n, m), impl, causal=causal)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("d", [1, 24, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_head_sizes_and_half_precision(d, dtype, impl):
    check(*inputs(70, 80, d, dtype), impl, causal=True)


@pytest.mark.parametrize("impl", IMPLS)
def test_scale_and_several_batches(impl):
    check(*inputs(40, 50, 32, torch.float16, b=2, h=3), impl, scale=0.3)


@pytest.mark.parametrize("impl", ["torch", "triton"] if DEVICE == "cuda" else ["torch"])
def test_bfloat16(impl):  # which Triton's interpreter multiplies as integers
    check(*inputs(200, 300, 64, torch.bfloat16), impl, causal=True)


@pytest.mark.parametrize("causal", [False, True])
def test_the_walk_in_pytorch_crosses_its_own_tiles(causal):
    given = inputs(300, 520, dtype=torch.float64)
    found = gradients(lambda *x: flash_attention(*x, causal, impl="torch"), *given)
    for ours, exact in zip(found, gradients(lambda *x: attention_reference(*x, causal), *given), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_query_that_sees_no_key_gives_zero_and_zero_gradients(impl):
    q, k, v, g = inputs(100, 40)
    out, dq, dk, dv = gradients(lambda *x: flash_attention(*x, causal=True, impl=impl), q, k, v, g)
    assert (out[:, :, :60] == 0).all() and (dq[:, :, :60] == 0).all()
    assert out[:, :, 60:].abs().min() > 0 and dk.isfinite().all() and dv.isfinite().all()


@pytest.mark.parametrize("impl", IMPLS)
def test_large_scores_do_not_overflow(impl):
    q, k, v, g = inputs(70, 70)
    found = gradients(lambda *x: flash_attention(*x, True, impl=impl), 100 * q, k, v, g)
    exact = gradients(lambda *x: attention_reference(*x, True), 100 * q, k, v, g, torch.float64)
    for ours, true in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("b", "n", "m"), [(0, 5, 5), (1, 0, 5), (1, 5, 0)])
def test_nothing_to_do(b, n, m, impl):
    out, *grads = gradients(lambda *x: flash_attention(*x, impl=impl), *inputs(n, m, b=b))
    assert (out == 0).all() and [tuple(x.shape) for x in grads] == [(b, 8, x, 16) for x in (n, m, m)]
    assert all((x == 0).all() for x in grads)


@pytest.mark.parametrize("impl", IMPLS)
def test_strided_inputs(impl):
    q, k, v, _ = (x.transpose(1, 2) for x in inputs(2, 2, h=40))
    torch.testing.assert_close(flash_attention(q, k, v, impl=impl), attention_reference(q, k, v))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.booleans(), st.floats(-40, 40))
def test_adding_one_score_to_all_keys_changes_nothing(n, m, causal, shift):
    q, k, v, _ = inputs(n, m, dtype=torch.float64)
    q[..., 0], k[..., 0] = 4.0, k[..., 0] * 0
    moved = k.clone()
    moved[..., 0] = shift
    expected = attention_reference(q, k, v, causal)
    torch.testing.assert_close(flash_attention(q, moved, v, causal, impl="torch"), expected)


def test_the_reference_is_pytorchs_own_attention():
    q, k, v, _ = inputs(50, 50, dtype=torch.float64)
    for causal in (False, True):
        theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        torch.testing.assert_close(attention_reference(q, k, v, causal), theirs)


def test_the_derivative_is_the_functions_own():
    q, k, v, _ = (x.requires_grad_() for x in inputs(5, 7, 3, torch.float64, h=1))
    assert torch.autograd.gradcheck(lambda *x: flash_attention(*x, True, impl="torch"), (q, k, v))


WRONG = {
    "scale twice": lambda q, k, v: attention_reference(q, k, v, scale=1 / q.shape[-1]),
    "mask off by one": lambda q, k, v: attention_reference(q, k[:, :, :-1], v[:, :, :-1], causal=True),
    "padding seen": lambda q, k, v: attention_reference(q, *(torch.nn.functional.pad(x, (0, 0, 0, 2)) for x in (k, v))),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_outside_the_bound(mistake):
    q, k, v, _ = inputs(33, 33)
    reference = partial(attention_reference, causal="mask" in mistake)
    assert_exact([reference(q, k, v)], reference, (q, k, v))
    with pytest.raises(AssertionError, match="allowed error"):
        assert_exact([WRONG[mistake](q, k, v)], reference, (q, k, v))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(3, 4)}, "expected floating point"),
        ({"k": torch.zeros(1, 2, 4, 8, dtype=torch.float16)}, "expected torch.float32"),
        ({"k": torch.zeros(1, 2, 4, 16)}, "expected k and v"),
        ({"impl": "cuda"}, "expected one of"),
        ({x: torch.zeros(1, 2, 4, 8, dtype=torch.float64) for x in "qkv"} | {"impl": "triton"}, "expected at most 32"),
    ],
)
def test_bad_input_is_refused(change, words):
    given = dict.fromkeys("qkv", torch.zeros(1, 2, 4, 8)) | change
    with pytest.raises(ValueError, match=words):
        flash_attention(**on_device(given))


def signature(dtype, grads):
    return (
        dict.fromkeys(["q", "k", "v", "out", "d_out", *grads], f"*{dtype}")
        | dict.fromkeys(["tops", "totals", "deltas"], "*fp32")
        | {"N": "i32", "M": "i32"}
        | {"scale": "fp32", "scale2": "fp32"}
    )


def test_every_kernel_compiles_for_sm90():
    forward, backward = [], []
    for dtype, size in (("fp32", 4), ("fp16", 2), ("bf16", 2)):
        for d in (24, 64, 128):
            for causal in (False, True):
                for kernel, tiles, grads, cases in (
                    ("_forward", flash.tile_sizes, [], forward),
                    ("_backward_keys", flash_backward.tile_sizes, ["d_k", "d_v"], backward),
                    ("_backward_queries", flash_backward.tile_sizes, ["d_q"], backward),
                ):
                    if dtype == "bf16" and (d, causal) != (128, True):
                        continue
                    bq, bk, warps, stages = tiles(d, size)
                    constants = {"D": d, "DP": 128 if d == 128 else 64 if d == 64 else 32, "CAUSAL": causal}
                    options = {"num_warps": warps, "num_stages": stages}
                    cases.append((kernel, signature(dtype, grads), constants | {"BQ": bq, "BK": bk}, options))
    compile_for_sm90("kernels.attention.flash", forward)
    compile_for_sm90("kernels.attention.flash_backward", backward)
