"""Grouped-query attention against float64, PyTorch's own and multi-query attention; conversion of a layer."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import repeat_kv

from kernels.attention.grouped_query import (
    CONVERSIONS,
    GroupedAttention,
    convert,
    grouped_query_attention,
    grouped_query_reference,
    pool,
)
from kernels.attention.multi_query import Attention, multi_query_attention
from kernels.products import Products
from tests.kernels.attending import assert_exact, gradients


def inputs(n, m, groups, d=16, dtype=torch.float32, b=2, h=8):
    make = torch.Generator().manual_seed(1000 * n + m)
    return [
        torch.randn(b, g, size, d, generator=make).to(dtype) for g, size in ((h, n), (groups, m), (groups, m), (h, n))
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(("n", "m", "causal"), [(1, 70, True), (33, 33, True), (40, 9, False)])
def test_output_and_gradients_are_those_of_copied_heads_but_for_rounding(n, m, causal, groups, dtype):
    given = inputs(n, m, groups, dtype=dtype)
    found = gradients(lambda *x: grouped_query_attention(*x, causal), *given)
    # PyTorch's own products: in 16 bits, scores are rounded before they are scaled and after
    assert_exact(found, lambda *x: grouped_query_reference(*x, causal), given, roundings=2)


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_what_pytorch_and_transformers_compute(causal):
    q, k, v, _ = inputs(20, 20, 2, dtype=torch.float64)
    found = grouped_query_attention(q, k, v, causal)
    torch.testing.assert_close(found, scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True))
    torch.testing.assert_close(
        found, scaled_dot_product_attention(q, repeat_kv(k, 4), repeat_kv(v, 4), is_causal=causal)
    )
    k, v = k[:, :1], v[:, :1]
    torch.testing.assert_close(grouped_query_attention(q, k, v, causal), multi_query_attention(q, k, v, causal))


def test_no_key_is_copied():
    q, k, v, _ = inputs(1, 64, 2)
    with Products() as count:
        grouped_query_attention(q, k, v)
    assert count.batched_right == k.nbytes + v.nbytes


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_token_by_token_is_all_at_once(groups):
    layer, x = GroupedAttention(24, 8, 4, groups).double(), torch.randn(2, 9, 24, dtype=torch.float64)
    cache = layer.new_cache(2, 9)
    steps = [layer.step(x[:, i : i + 1], cache) for i in range(9)]
    torch.testing.assert_close(torch.cat(steps, 1), layer(x))
    assert cache.k.shape == (2, groups, 9, 4)


def test_pooling_takes_the_heads_of_a_group():
    weight = torch.randn(8 * 4, 24)
    heads = weight.view(8, 4, 24)
    assert pool(weight, 4, 2, "mean").allclose(torch.cat([heads[:4].mean(0), heads[4:].mean(0)]))
    assert pool(weight, 4, 2, "first").equal(torch.cat([heads[0], heads[4]]))
    assert pool(weight, 4, 8, "mean").equal(weight)
    torch.manual_seed(0)
    assert pool(weight, 4, 2, "random").std() == pytest.approx(24**-0.5 / 3**0.5, rel=0.2)


@pytest.mark.parametrize("how", CONVERSIONS)
def test_heads_that_are_already_alike_lose_nothing_but_at_random(how):
    """The reverse of a conversion: a layer of two groups, its keys copied for four heads each, converted back."""
    small, x = GroupedAttention(24, 8, 4, 2), torch.randn(2, 9, 24)
    large = Attention(24, 8, 4, shared=False)
    large.load_state_dict(small.state_dict() | {
        name: small.state_dict()[name].view(2, 1, 4, 24).expand(2, 4, 4, 24).reshape(32, 24)
        for name in ("p_k.weight", "p_v.weight")
    })  # fmt: skip
    torch.testing.assert_close(large(x), small(x))
    assert convert(large, 2, how)(x).allclose(small(x), atol=1e-5) == (how != "random")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: grouped_query_attention(*(torch.zeros(1, h, 2, 4) for h in (8, 3, 3))), "groups divide, got 8 and 3"),
        (lambda: grouped_query_attention(torch.zeros(1, 8, 2, 4), *[torch.zeros(1, 2, 2, 5)] * 2), "expected q"),
        (
            lambda: grouped_query_attention(*(torch.zeros(1, h, n, 4) for h, n in ((8, 3), (2, 2), (2, 2))), True),
            "most",
        ),
        (lambda: GroupedAttention(8, 8, 4, 3), "a divisor of 8 heads, got 3"),
        (lambda: pool(torch.zeros(32, 8), 4, 3), "a divisor of 8 heads, got 3"),
        (lambda: pool(torch.zeros(32, 8), 4, 2, "median"), "expected one of mean, first, random"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
