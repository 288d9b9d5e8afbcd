"""Multi-query attention against float64 and PyTorch's own, its layer step by step, its cache."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention.multi_query import Attention, Cache, multi_query_attention, multi_query_reference
from kernels.products import Products
from tests.kernels.attending import assert_exact, gradients


def inputs(n, m, d=16, dtype=torch.float32, b=2, h=8):
    make = torch.Generator().manual_seed(1000 * n + m)
    return [torch.randn(b, g, size, d, generator=make).to(dtype) for g, size in ((h, n), (1, m), (1, m), (h, n))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("n", "m", "causal"), [(1, 1, True), (1, 70, True), (33, 33, True), (5, 64, True), (40, 9, False)]
)
def test_output_and_gradients_are_those_of_copied_heads_but_for_rounding(n, m, causal, dtype):
    given = inputs(n, m, dtype=dtype)
    found = gradients(lambda *x: multi_query_attention(*x, causal), *given)
    # PyTorch's own products: in 16 bits, scores are rounded before they are scaled and after
    assert_exact(found, lambda *x: multi_query_reference(*x, causal), given, roundings=2)


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_pytorchs_own_grouped_attention(causal):
    q, k, v, _ = inputs(20, 20, dtype=torch.float64)
    theirs = scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    torch.testing.assert_close(multi_query_attention(q, k, v, causal), theirs)


@pytest.mark.parametrize("shared", [True, False])
def test_token_by_token_is_all_at_once(shared):
    layer, x = Attention(24, 8, 4, shared).double(), torch.randn(2, 9, 24, dtype=torch.float64)
    cache = layer.new_cache(2, 9)
    steps = [layer.step(x[:, i : i + 1], cache) for i in range(9)]
    torch.testing.assert_close(torch.cat(steps, 1), layer(x))
    assert cache.k.shape == (2, 1 if shared else 8, 9, 4)


def test_a_beam_goes_on_from_its_parents():
    cache = Cache(3, 1, 2, 4, torch.zeros(1))
    k = torch.randn(3, 1, 1, 4)
    cache.append(k, 2 * k)
    cache.reorder(torch.tensor([2, 2, 0]))
    kept, values = cache.append(k, k)
    assert kept[:, :, 0].equal(k[[2, 2, 0], :, 0]) and values[:, :, 0].equal(2 * k[[2, 2, 0], :, 0])


def test_no_key_is_copied():
    q, k, v, _ = inputs(1, 64)
    with Products() as count:
        multi_query_attention(q, k, v)
    assert count.batched_right == k.nbytes + v.nbytes and count.flops == 4 * 2 * 8 * 64 * 16
    with Products() as count:
        multi_query_reference(q, k, v)
    assert count.batched_right == 8 * (k.nbytes + v.nbytes)


def test_plain_products_are_counted_too():
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    with Products() as count:
        torch.addmm(torch.zeros(5), a, b) + a @ b
    assert (count.flops, count.plain_right, count.batched_flops) == (2 * 2 * 3 * 4 * 5, 2 * b.nbytes, 0)
    assert count.moved == 2 * 4 * (12 + 20 + 15)


@pytest.mark.parametrize(
    ("q", "k", "causal", "words"),
    [
        ((2, 8, 1, 4), (2, 8, 3, 4), False, "expected q"),
        ((2, 8, 1, 4), (2, 1, 3, 5), False, "expected q"),
        ((2, 8, 4, 4), (2, 1, 3, 4), True, "at most as many"),
    ],
)
def test_bad_input_is_refused(q, k, causal, words):
    with pytest.raises(ValueError, match=words):
        multi_query_attention(torch.zeros(q), torch.zeros(k), torch.zeros(k), causal)
