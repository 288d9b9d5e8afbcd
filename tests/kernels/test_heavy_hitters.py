"""Heavy hitters and sinks against slow plain references, and the whole cache where nothing goes."""

import pytest
import torch

from kernels.cache.heavy_hitters import HeavyHitterCache
from kernels.cache.sinks import SinkCache
from kernels.cache.streaming import rotate
from kernels.position.rotary import tables
from kernels.testing import error
from tests.kernels.test_kept import CAUSAL, B, D, G, H, N, masked, run


@pytest.fixture
def text():
    torch.manual_seed(0)
    q, k, v = (torch.randn(B, heads, N, D, dtype=torch.float64) for heads in (H, G, G))
    return q, k, v, *tables(torch.arange(N), D, dtype=torch.float64)


def plain(q, k, v, cos, sin, budget, recent):
    """Algorithm 1 for one key head, with lists: (outputs, places kept at the end)."""
    kept, scores, outs, turned = [], {}, [], rotate(k, cos, sin)
    for i in range(N):
        kept.append(i)
        p = (rotate(q[:, i : i + 1], cos[i : i + 1], sin[i : i + 1])[:, 0] @ turned[kept].mT * D**-0.5).softmax(-1)
        outs.append(p @ v[kept])
        for n, place in enumerate(kept):
            scores[place] = scores.get(place, 0.0) + p[:, n].sum().item()
        if len(kept) > budget:
            kept.remove(min(kept[:-recent], key=scores.get))
    return torch.stack(outs, 1), kept


@pytest.mark.parametrize("recent", [1, 3, 5])
@pytest.mark.parametrize("budget", [6, 20])
def test_h2o_by_its_own_rule(budget, recent, text):
    q, k, v, cos, sin = text
    cache = HeavyHitterCache(budget, cos, sin, recent)
    found = run(cache, q, k, v)
    for b in range(B):
        for g in range(G):
            heads = slice(2 * g, 2 * g + 2)
            outs, kept = plain(q[b, heads], k[b, g], v[b, g], cos, sin, budget, recent)
            assert error(found[b, heads], outs) < 1e-13
            assert cache.places[b, g].tolist() == kept


def test_half_of_the_budget_is_recent():
    cos, sin = tables(torch.arange(4), D)
    assert HeavyHitterCache(9, cos, sin).recent == 4


def test_sinks_and_the_last(text):
    q, k, v, cos, sin = text
    i, j = torch.arange(N)[:, None], torch.arange(N)
    see = CAUSAL & ((j < 2) | (i - j <= 6))  # the new token, 2 sinks and the 6 before it
    assert error(run(SinkCache(8, cos, sin, 2), q, k, v), masked(q, k, v, cos, sin, see.expand(B, H, N, N))) < 1e-13


def test_a_budget_for_all_is_the_dense_model(text):
    q, k, v, cos, sin = text
    exact = masked(q, k, v, cos, sin, CAUSAL)
    for cache in (HeavyHitterCache(N, cos, sin), SinkCache(N, cos, sin)):
        assert error(run(cache, q, k, v), exact) < 1e-14


def test_what_is_refused():
    cos, sin = tables(torch.arange(4), D)
    with pytest.raises(ValueError, match="recent: expected 1 to 6, the budget, got 7"):
        HeavyHitterCache(6, cos, sin, 7)
    with pytest.raises(ValueError, match="sinks: expected 0 to 5"):
        SinkCache(6, cos, sin, 6)
