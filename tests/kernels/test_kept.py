"""Caches that let tokens go: exact while nothing went, and each policy against a slow plain reference."""

import pytest
import torch

from kernels.cache.kept import FullCache, KeptCache, RandomCache, WindowCache, first_and_chosen
from kernels.cache.persistence import PersistentCache, QuantisedPersistentCache, persistence, pivotal
from kernels.cache.streaming import rotate
from kernels.position.rotary import tables
from kernels.testing import error

B, H, G, D, N = 2, 4, 2, 8, 40


@pytest.fixture
def text():
    torch.manual_seed(0)
    q, k, v = (torch.randn(B, heads, N, D, dtype=torch.float64) for heads in (H, G, G))
    return q, k, v, *tables(torch.arange(N), D, dtype=torch.float64)


def run(cache, q, k, v):
    return torch.cat([cache.attend(*(x[:, :, i : i + 1] for x in (q, k, v))) for i in range(N)], 2)


def masked(q, k, v, cos, sin, see):
    """Attention with the whole matrix, `see` (B, H, N, N)."""
    scores = rotate(q, cos, sin) @ rotate(k, cos, sin).repeat_interleave(H // G, 1).mT * D**-0.5
    return scores.masked_fill(~see, -torch.inf).softmax(-1) @ v.repeat_interleave(H // G, 1)


CAUSAL = torch.ones(N, N, dtype=torch.bool).tril()


def policies(budget, cos, sin):
    draw = torch.Generator().manual_seed(0)
    return [WindowCache(budget, cos, sin), RandomCache(budget, cos, sin, 2, draw), PersistentCache(budget, cos, sin, 2)]


def test_everything_kept_is_the_dense_model(text):
    q, k, v, cos, sin = text
    exact = masked(q, k, v, cos, sin, CAUSAL)
    for cache in (FullCache(cos, sin), *policies(N, cos, sin)):
        assert error(run(cache, q, k, v), exact) < 1e-14 and cache.tokens == N


@pytest.mark.parametrize("budget", [8, 13, 39])
def test_what_goes_is_not_seen_again(budget, text):
    """Each policy's output is dense attention over the places it says it keeps."""
    q, k, v, cos, sin = text
    for cache in policies(budget, cos, sin):
        see = torch.zeros(B, G, N, N, dtype=torch.bool)
        outs = []
        for i in range(N):
            before = cache.places if i else torch.zeros(B, G, 0, dtype=torch.long)
            see[:, :, i].scatter_(2, before.long(), True)
            see[:, :, i, i] = True
            outs.append(cache.attend(*(x[:, :, i : i + 1] for x in (q, k, v))))
            assert cache.tokens <= budget
        exact = masked(q, k, v, cos, sin, see.repeat_interleave(H // G, 1))
        assert error(torch.cat(outs, 2), exact) < 1e-13


def test_a_window_keeps_the_last(text):
    q, k, v, cos, sin = text
    see = CAUSAL & (torch.arange(N)[:, None] - torch.arange(N) < 8 + 1)  # the new token, and the 8 before it
    assert error(run(WindowCache(8, cos, sin), q, k, v), masked(q, k, v, cos, sin, see.expand(B, H, N, N))) < 1e-13


def plain_persistence(q, k, v, cos, sin, budget, recent, history):
    """The paper's rule for one key head, with lists: which places are kept after each step."""
    kept, looks, states = [], [], []
    rotated = rotate(k, cos, sin)
    for i in range(N):
        kept.append(i)
        scores = rotate(q[:, i : i + 1], cos[i : i + 1], sin[i : i + 1])[:, 0] @ rotated[kept].mT * D**-0.5
        p = scores.softmax(-1)
        looks.append({place: int((p[:, n] > 1 / len(kept)).sum()) for n, place in enumerate(kept)})
        looks = looks[-history:]
        if len(kept) > budget:
            counts = {place: sum(look.get(place, 0) for look in looks) for place in kept}
            newest, older = kept[-recent:], kept[:-recent]
            older.sort(key=lambda place: counts[place], reverse=True)
            kept = sorted(older[: round(budget / 2) - recent] + newest)
        states.append([(place, sum(look.get(place, 0) for look in looks)) for place in kept])
    return states


@pytest.mark.parametrize("history", [3, 400])
def test_scissorhands_by_its_own_rule(history, text):
    q, k, v, cos, sin = text
    cache, budget, recent = PersistentCache(12, cos, sin, 2, history), 12, 2
    plain = [[plain_persistence(q[b, g * 2 : g * 2 + 2], k[b, g], v[b, g], cos, sin, budget, recent, history)
              for g in range(G)] for b in range(B)]  # fmt: skip
    for i in range(N):
        cache.attend(*(x[:, :, i : i + 1] for x in (q, k, v)))
        counts = cache.counts()
        for b in range(B):
            for g in range(G):
                ours = dict(zip(cache.places[b, g].tolist(), counts[b, g].tolist(), strict=True))
                theirs = dict(plain[b][g][i])
                assert len(ours) == len(theirs)
                assert sorted(ours.values()) == sorted(theirs.values()), "ties may go either way"


def test_four_bits_keep_sixteen_values(text):
    q, k, v, cos, sin = text
    cache = QuantisedPersistentCache(N, cos, sin, 2)
    out = run(cache, q, k, v)
    for kept in (cache.k, cache.v):
        assert max(len(row.unique()) for row in kept.flatten(0, 2)) <= 16
    x = torch.randn(3, 5, 200)
    lost = (cache.pack(x) - x).abs().amax(-1)
    assert (lost <= (x.amax(-1) - x.amin(-1)) / 15 / 2 * 1.001).all()
    assert 1e-4 < error(out, masked(q, k, v, cos, sin, CAUSAL)) < 0.3


def test_persistence_by_counting():
    torch.manual_seed(0)
    p = torch.randn(3, 20, 20).masked_fill(~torch.ones(20, 20, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    for above, nearest in ((1.0, 0), (2.0, 3)):
        ratio, share = persistence(p, above, nearest)
        for head in range(3):
            rows = [
                {j for j in range(i + 1) if i - j >= nearest and p[head, i, j] > above / (i + 1)} for i in range(20)
            ]
            before = set().union(*rows[:10])
            after = {j for j in set().union(*rows[10:]) if j < 10}
            assert ratio[head].item() == pytest.approx(len(before & after) / len(after))
            assert share[head].item() == pytest.approx(len(before) / 10)
    assert pivotal(torch.eye(4), 0.5).all()


def test_ties_and_the_newest():
    kept = first_and_chosen(torch.tensor([[[5.0, 1.0, 9.0, 0.0, 0.0]]]), 3, 1)
    assert kept.tolist() == [[[0, 2, 4]]]


def test_what_is_refused(text):
    *_, cos, sin = text
    with pytest.raises(ValueError, match="budget: expected at least 1, got 0"):
        WindowCache(0, cos, sin)
    with pytest.raises(TypeError, match="abstract"):
        KeptCache(3, cos, sin)
    for options in ({"recent": 0}, {"recent": 6}, {"dropped": 1.0}, {"history": 0}):
        with pytest.raises(ValueError, match="expected 0 < dropped"):
            PersistentCache(12, cos, sin, **{"recent": 2} | options)
