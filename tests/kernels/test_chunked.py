"""Attention in chunks: exact at every chunk size, forward and backward, and the form of Section 2."""

import pytest
import torch

from kernels.attention.chunked import chunked_attention, lazy_attention
from kernels.attention.flash import attention_reference
from kernels.testing import error
from tests.kernels.attending import assert_exact, gradients, inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("query_chunk", "key_chunk"), [(1, 1), (7, 16), (16, 7), (64, 64), (1024, 4096)])
@pytest.mark.parametrize(("n", "m"), [(1, 9), (16, 33), (63, 64), (65, 17)])
def test_exact(n, m, query_chunk, key_chunk, dtype):
    given = inputs(n, m, dtype=dtype, h=16)
    found = gradients(lambda *x: chunked_attention(*x, query_chunk, key_chunk), *given)
    sums = dtype if query_chunk < n else None  # each chunk leaves its dK and dV in the inputs' dtype, to be added up
    assert_exact(found, attention_reference, given, sums=sums)


def test_one_key_is_its_value():
    q, k, v, _ = inputs(3, 1)
    assert torch.equal(chunked_attention(q, k, v), v.expand(-1, -1, 3, -1))


def test_gradients_by_differences():
    given = [x.requires_grad_() for x in inputs(5, 7, 3, torch.float64, h=2)[:3]]
    assert torch.autograd.gradcheck(lambda q, k, v: chunked_attention(q, k, v, 2, 3), given)


def test_the_one_key_form_agrees():
    given = inputs(9, 31, dtype=torch.float64)[:3]
    exact = attention_reference(*given)
    assert error(lazy_attention(*given), exact) < 1e-13
    assert error(chunked_attention(*given, 4, 5, scale=0.3), lazy_attention(*given, scale=0.3)) < 1e-13


def test_large_scores_do_not_overflow():
    q, k, v, _ = inputs(20, 30)
    assert chunked_attention(1000 * q, k, v, 8, 8).isfinite().all()


@pytest.mark.parametrize(
    ("shapes", "chunks", "words"),
    [
        (((2, 3, 4), (1, 1, 3, 4)), (1, 1), "expected q"),
        (((1, 2, 3, 4), (1, 1, 3, 4)), (1, 1), "expected q"),
        (((1, 1, 3, 4), (1, 1, 3, 4)), (0, 1), "chunks and keys >= 1, got 0"),
        (((1, 1, 3, 4), (1, 1, 0, 4)), (1, 1), "0 keys"),
    ],
)
def test_what_is_refused(shapes, chunks, words):
    q, k = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=words):
        chunked_attention(q, k, k, *chunks)
