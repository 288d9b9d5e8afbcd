"""HyperAttention: exact where the budget covers all, right in the mean where it does not, and by the paper's order."""

from functools import partial

import pytest
import torch

from kernels.attention.flash import attention_reference
from kernels.attention.hyper import Budget, _merge, _runs, hash_rank, hyper_attention
from kernels.testing import error
from tests.kernels.attending import assert_exact


def tensors(n, m, dtype=torch.float64, heads=8, d=16):
    torch.manual_seed(n * m)
    return [torch.randn(1, heads, size, d).to(dtype) for size in (n, m, m)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("n", "m", "causal"), [(1, 40, False), (33, 64, False), (64, 33, False), (100, 100, True)])
def test_a_block_that_covers_all_keys_is_exact(n, m, causal, dtype):
    q, k, v = tensors(n, m, dtype)
    found = hyper_attention(q, k, v, Budget(m, 8, exact_below=10), causal)
    assert_exact([found], partial(attention_reference, causal=causal), (q, k, v))


@pytest.mark.parametrize("order", ["lsh", "random", "none"])
@pytest.mark.parametrize(("n", "m"), [(33, 65), (65, 33), (2, 100), (100, 100)])
def test_many_samples_come_near_whatever_the_blocks(n, m, order):
    q, k, v = tensors(n, m, heads=2)
    exact = attention_reference(q, k, v)
    for budget in (Budget(8, 100_000, order=order), Budget(0, 100_000, order=order)):
        assert error(hyper_attention(q, k, v, budget, generator=torch.Generator().manual_seed(0)), exact) < 0.1


def test_causal_looks_at_no_later_key():
    q, k, v = tensors(90, 90, heads=2)
    budget = Budget(8, 8, exact_below=16)
    first = hyper_attention(q, k, v, budget, True, generator=torch.Generator().manual_seed(0))
    v[:, :, 45:] = 1000  # the halves are cut there: hashes look at q and k alone
    again = hyper_attention(q, k, v, budget, True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first[:, :, :45], again[:, :, :45]) and not torch.equal(first[:, :, 46:], again[:, :, 46:])
    exact = attention_reference(q, k, v, True)
    many = hyper_attention(q, k, v, Budget(8, 50_000, exact_below=16), True)
    assert error(many, exact) < 0.1


def test_neighbouring_bins_differ_in_one_sign():
    signs = torch.tensor([[1.0 if i >> bit & 1 else -1.0 for bit in range(7)] for i in range(128)])
    rank = hash_rank(signs, torch.eye(7))
    assert sorted(rank.tolist()) == list(range(128))
    ordered = signs[rank.argsort()]
    assert ((ordered[1:] != ordered[:-1]).sum(1) == 1).all()


@pytest.mark.parametrize(("n", "count"), [(10, 3), (7, 7), (5, 8), (256, 4)])
def test_runs_hold_each_row_once(n, count):
    rows, once = _runs(n, count, "cpu")
    assert rows.shape[0] == count and rows[once].tolist() == list(range(n))
    assert once.sum(1).max() - once.sum(1).min() <= 1


def test_two_parts_merge_to_the_whole():
    q, k, v = tensors(9, 20)
    s = q @ k.mT
    parts = [(s[..., c].softmax(-1) @ v[:, :, c], s[..., c].logsumexp(-1, keepdim=True))
             for c in (slice(0, 7), slice(7, 20))]  # fmt: skip
    assert error(_merge(*parts)[0], attention_reference(q, k, v, scale=1.0)) < 1e-14


def test_gradients_by_differences():
    q, k, v = (x.requires_grad_() for x in tensors(12, 12, heads=1, d=3))

    def attend(q, k, v):
        return hyper_attention(q, k, v, Budget(4, 3, exact_below=4), True, generator=torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(attend, (q, k, v))


@pytest.mark.parametrize(
    ("shapes", "options", "words"),
    [
        (((2, 3, 4), (1, 1, 3, 4)), {}, "expected q"),
        (((1, 1, 3, 4), (1, 1, 0, 4)), {}, "N, M >= 1"),
        (((1, 1, 3, 4), (1, 1, 5, 4)), {"causal": True}, "as many queries as keys, got 3 and 5"),
    ],
)
def test_what_is_refused(shapes, options, words):
    q, k = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=words):
        hyper_attention(q, k, k, **options)


@pytest.mark.parametrize("options", [{"block": -1}, {"block": 0, "samples": 0}, {"bits": 0}, {"order": "best"}])
def test_a_budget_that_cannot_be(options):
    with pytest.raises(ValueError, match="expected"):
        Budget(**options)
