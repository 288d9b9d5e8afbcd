"""Attention in chunks: exact at every chunk size, forward and backward, and the form of Section 2."""

import pytest
import torch

from kernels.attention.chunked import chunked_attention, lazy_attention
from kernels.attention.flash import attention_reference
from kernels.testing import assert_as_exact_as, error


def tensors(n, m, d=16, dtype=torch.float32, heads=16):
    torch.manual_seed(n + m)
    return [torch.randn(1, heads, size, d).to(dtype).requires_grad_() for size in (n, m, m)]


def step(attend, q, k, v):
    out = attend(q, k, v)
    return out, *torch.autograd.grad(out.sin().sum(), (q, k, v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("query_chunk", "key_chunk"), [(1, 1), (7, 16), (16, 7), (64, 64), (1024, 4096)])
@pytest.mark.parametrize(("n", "m"), [(1, 9), (16, 33), (63, 64), (65, 17)])
def test_exact(n, m, query_chunk, key_chunk, dtype):
    given = tensors(n, m, dtype=dtype)
    exact = step(attention_reference, *(x.detach().double().requires_grad_() for x in given))
    peer = step(attention_reference, *given)
    for found, other, true in zip(
        step(lambda q, k, v: chunked_attention(q, k, v, query_chunk, key_chunk), *given), peer, exact, strict=True
    ):
        assert_as_exact_as(found, other, true)


def test_one_key_is_its_value():
    q, k, v = tensors(3, 1)
    assert torch.equal(chunked_attention(q, k, v), v.expand(-1, -1, 3, -1))


def test_gradients_by_differences():
    given = [x.detach().double().requires_grad_() for x in tensors(5, 7, d=3, heads=2)]
    assert torch.autograd.gradcheck(lambda q, k, v: chunked_attention(q, k, v, 2, 3), given)


def test_the_one_key_form_agrees():
    given = [x.detach().double() for x in tensors(9, 31)]
    exact = attention_reference(*given)
    assert error(lazy_attention(*given), exact) < 1e-13
    assert error(chunked_attention(*given, 4, 5, scale=0.3), lazy_attention(*given, scale=0.3)) < 1e-13


def test_large_scores_do_not_overflow():
    q, k, v = tensors(20, 30)
    assert all(x.isfinite().all() for x in step(lambda q, k, v: chunked_attention(q, k, v, 8, 8), q * 1000, k, v)[:1])


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
