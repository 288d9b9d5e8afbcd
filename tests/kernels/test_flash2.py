"""FlashAttention-2 against float64, forward and backward, over its masks, head counts, lengths and head sizes."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.attention import flash2, flash2_backward
from kernels.attention.flash2 import attention_reference, flash_attention_2
from kernels.attention.masks import Mask
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact, gradients, inputs
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device

IMPLS = ["torch", "triton"]
MASKS = [Mask(), Mask(True), Mask(True, 50, 3)]


def check(q, k, v, g, impl, mask=MASKS[0], **options):
    found = gradients(partial(flash_attention_2, **vars(mask), impl=impl, **options), q, k, v, g)
    assert_exact(found, partial(attention_reference, mask=mask, **options), (q, k, v, g), scale=options.get("scale"))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize(("n", "m", "h"), [(1, 70, 8), (65, 32, 8), (130, 130, 3)])
def test_output_and_gradients_are_exact_but_for_rounding(n, m, h, mask, impl):
    check(*inputs(n, m, h=h, g=h), impl, mask)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("groups", [2, 1])
def test_heads_that_share_keys(groups, impl):
    check(*inputs(33, 70, b=2, h=4, g=groups), impl, MASKS[2])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_sequences_of_different_lengths(mask, impl):
    lengths = {"query_lengths": [90, 40, 0, 33], "key_lengths": torch.tensor([61, 90, 12, 0])}
    check(*inputs(90, 100, b=4, h=2, g=1), impl, mask, **lengths)
    out = flash_attention_2(*inputs(90, 100, b=4, h=2, g=1)[:3], query_lengths=[90, 40, 0, 33], impl=impl)
    assert (out[1, :, 40:] == 0).all() and (out[2] == 0).all() and out[1, :, :40].all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("d", "dtype"), [(1, torch.float32), (80, torch.float16), (160, torch.float32),
                                          (256, torch.float16)])  # fmt: skip
def test_head_sizes_and_half_precision(d, dtype, impl):
    check(*inputs(30, 70, d, dtype, h=4, g=2), impl, MASKS[1], scale=0.3 / d**0.5)


@pytest.mark.parametrize("impl", ["torch", "triton"] if DEVICE == "cuda" else ["torch"])
def test_bfloat16(impl):  # which Triton's interpreter multiplies as integers
    check(*inputs(200, 300, 64, torch.bfloat16), impl, MASKS[2])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 300), st.integers(0, 200), st.booleans())
def test_any_mask_at_any_size(n, m, window, sinks, causal):
    mask = Mask(causal or window > 0, window, sinks if window else 0)
    given = inputs(n, m, 4, torch.float64, h=1, g=1)
    found = gradients(lambda *x: flash_attention_2(*x, **vars(mask), impl="torch"), *given)
    for ours, exact in zip(found, gradients(lambda *x: attention_reference(*x, mask), *given), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(DEVICE == "cuda", reason="many sizes, each compiled anew")
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 150), st.integers(0, 100), st.booleans())
def test_any_mask_at_any_size_in_triton(n, m, window, sinks, causal):
    mask = Mask(causal or window > 0, window, sinks if window else 0)
    given = inputs(n, m, 8, h=1, g=1)
    found = gradients(lambda *x: flash_attention_2(*x, **vars(mask), impl="triton"), *given)
    for ours, exact in zip(found, gradients(lambda *x: attention_reference(*x, mask), *given), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("impl", IMPLS)
def test_the_logsumexp_and_its_gradient(impl):
    q, k, v, g = (x.requires_grad_() for x in inputs(80, 60, h=4, g=2))
    out, lse = flash_attention_2(q, k, v, causal=True, with_lse=True, impl=impl)
    scores = q.unflatten(1, (2, 2)) @ k[:, :, None].mT / 4
    seen = Mask(True).visible(torch.arange(80, device=DEVICE), torch.arange(60, device=DEVICE), 80, 60)
    exact = scores.masked_fill(~seen, -torch.inf).logsumexp(-1).flatten(1, 2)
    torch.testing.assert_close(lse, exact)
    assert (lse[:, :, :20] == -torch.inf).all()
    some = torch.rand(60, device=DEVICE)
    ours = torch.autograd.grad((lse[:, :, 20:] * some).sum() + (out * g).sum(), (q, k, v))
    dense = attention_reference(q, k, v, Mask(True))
    theirs = torch.autograd.grad((exact[:, :, 20:] * some).sum() + (dense * g).sum(), (q, k, v))
    for mine, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, true)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_query_that_sees_no_key_gives_zero_and_zero_gradients(impl):
    q, k, v, g = inputs(100, 40)
    out, dq, dk, dv = gradients(lambda *x: flash_attention_2(*x, causal=True, impl=impl), q, k, v, g)
    assert (out[:, :, :60] == 0).all() and (dq[:, :, :60] == 0).all()
    assert out[:, :, 60:].abs().min() > 0 and dk.isfinite().all() and dv.isfinite().all()


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # where a tile is masked
@pytest.mark.parametrize("impl", IMPLS)
def test_large_scores_do_not_overflow(impl):
    q, k, v, g = inputs(70, 70, h=2, g=2)
    found = gradients(lambda *x: flash_attention_2(*x, True, impl=impl), 100 * q, k, v, g)
    exact = gradients(lambda *x: attention_reference(*x, MASKS[1]), 100 * q, k, v, g, torch.float64)
    for ours, true in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("b", "n", "m"), [(0, 5, 5), (1, 0, 5), (1, 5, 0)])
def test_nothing_to_do(b, n, m, impl):
    out, *grads = gradients(lambda *x: flash_attention_2(*x, impl=impl), *inputs(n, m, b=b))
    assert (out == 0).all() and [tuple(x.shape) for x in grads] == [(b, 8, x, 16) for x in (n, m, m)]
    assert all((x == 0).all() for x in grads)


@pytest.mark.parametrize("causal", [False, True])
def test_the_reference_is_pytorchs_own_attention(causal):
    q, k, v, _ = inputs(50, 50, dtype=torch.float64, g=2)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    torch.testing.assert_close(attention_reference(q, k, v, Mask(causal)), theirs)


def test_the_derivative_is_the_functions_own():
    q, k, v, _ = (x.requires_grad_() for x in inputs(5, 7, 3, torch.float64, h=2, g=1))
    assert torch.autograd.gradcheck(lambda *x: flash_attention_2(*x, True, with_lse=True, impl="torch"), (q, k, v))


WRONG = {
    "window one too wide": lambda q, k, v: attention_reference(q, k, v, Mask(True, 11)),
    "a sink missing": lambda q, k, v: attention_reference(q, k, v, Mask(True, 10, 1)),
    "heads share the wrong keys": lambda q, k, v: attention_reference(q, k.flip(1), v.flip(1), Mask(True, 10, 2)),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_outside_the_bound(mistake):
    q, k, v, _ = inputs(33, 33, g=2)
    reference = partial(attention_reference, mask=Mask(True, 10) if "wide" in mistake else Mask(True, 10, 2))
    assert_exact([reference(q, k, v)], reference, (q, k, v))
    with pytest.raises(AssertionError, match="allowed error"):
        assert_exact([WRONG[mistake](q, k, v)], reference, (q, k, v))


ZEROS = torch.zeros(1, 2, 4, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(3, 4)}, "expected floating point"),
        ({"k": ZEROS.half()}, "expected torch.float32"),
        ({"k": torch.zeros(1, 2, 4, 16)}, "expected q"),
        (dict.fromkeys("kv", torch.zeros(1, 3, 4, 8)), "G divides H"),
        ({"impl": "cuda"}, "expected one of"),
        (dict.fromkeys("qkv", ZEROS.double()) | {"impl": "triton"}, "expected at most 32"),
        ({"window": 3}, "expected causal"),
        ({"causal": True, "sinks": 3}, "a window with sinks"),
        ({"causal": True, "window": -1}, ">= 0"),
        ({"scale": 0.0}, "expected > 0"),
        ({"key_lengths": [5]}, "key_lengths: expected 1 numbers from 0 to 4"),
        ({"query_lengths": [1, 1]}, "query_lengths: expected 1"),
    ],
)
def test_bad_input_is_refused(change, words):
    given = dict.fromkeys("qkv", ZEROS) | change
    with pytest.raises(ValueError, match=words):
        flash_attention_2(**on_device(given))


def signature(dtype, lengths, grads):
    kind = "*i32" if lengths else "constexpr"
    return (
        dict.fromkeys(["q", "k", "v", "out", "d_out", *grads], f"*{dtype}")
        | dict.fromkeys(["lses", "deltas"], "*fp32")
        | dict.fromkeys(["ns", "ms"], kind)
        | dict.fromkeys(["N", "M", "H", "G", "R", "window", "sinks"], "i32")
        | dict.fromkeys(["scale", "scale2"], "fp32")
    )


VARIANTS = [  # dtype, bytes, head size, causal, window, lengths
    ("fp32", 4, 80, True, True, True), ("fp16", 2, 16, False, False, True), ("bf16", 2, 64, False, False, False),
    ("bf16", 2, 128, True, False, False), ("bf16", 2, 256, True, True, True),
]  # fmt: skip


def test_every_kernel_compiles_for_sm90():
    forward, backward = [], []
    for dtype, size, d, causal, window, lengths in VARIANTS:
        shape = {"D": d, "DP": max(16, 1 << (d - 1).bit_length()), "CAUSAL": causal, "WINDOW": window}
        shape |= {"LENGTHS": True} if lengths else {"LENGTHS": False, "ns": None, "ms": None}

        def add(cases, kernel, tiles, own, walked, grads, dtype=dtype, shape=shape, lengths=lengths):
            constants = shape | {own: tiles[0], walked: tiles[1]}
            options = {"num_warps": tiles[2], "num_stages": tiles[3]}
            cases.append((kernel, signature(dtype, lengths, grads), constants, options))

        add(forward, "_forward", flash2.tile_sizes(d, size), "BQ", "BK", [])
        add(backward, "_backward_keys", flash2_backward.tile_sizes(d, size, True), "BK", "BQ", ["d_k", "d_v"])
        add(backward, "_backward_queries", flash2_backward.tile_sizes(d, size, False), "BQ", "BK", ["d_q"])
    compile_for_sm90("kernels.attention.flash2", forward)
    compile_for_sm90("kernels.attention.flash2_backward", backward)
