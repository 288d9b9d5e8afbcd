"""FastGen's policies against a slow plain reference with lists, and the dense model where nothing may be lost."""

import math

import pytest
import torch

from kernels.cache.profiles import FixedCache, ProfiledCache, profile
from kernels.cache.streaming import rotate
from kernels.position.rotary import tables
from kernels.testing import error
from tests.kernels.test_kept import CAUSAL, B, D, G, H, N, masked, run

PROMPT = 24


@pytest.fixture
def text():
    torch.manual_seed(0)
    q, k, v = (2 * torch.randn(B, heads, N, D, dtype=torch.float64) for heads in (H, G, G))
    return q, k, v, *tables(torch.arange(N), D, dtype=torch.float64)


@pytest.fixture
def marks():
    special, marks = torch.zeros(B, N, dtype=torch.bool), torch.rand(B, N) < 0.3
    special[:, 0] = True
    return special, marks


def top(scores, count):
    """The `count` of a dict of scores that have most, the older first."""
    return set(sorted(sorted(scores), key=lambda j: -scores[j])[:count])


def plain_profile(rows, special, marks, recover, share):
    """The policy of one head from its rows of attention, one dict a row."""
    n = len(rows)
    sums = {j: sum(row.get(j, 0.0) for row in rows) for j in range(n)}
    often = top(sums, math.ceil(share * n))
    for policy in range(4):
        lost = 0.0
        for i, row in enumerate(rows):
            for j, p in row.items():
                keep = special[j] or (policy >= 1 and marks[j]) or (policy >= 2 and j in often)
                lost += 0.0 if keep or (policy >= 3 and i - j <= share * n) else p
        if lost / n <= 1 - recover:
            return policy
    return 4


def plain(q, k, v, cos, sin, special, marks, recover, share, forced=None):
    """One key head of one text: (outputs, policy, places kept after each step)."""
    kept, scores, outs, rows, states, policy = [], {}, [], [], [], None
    turned = rotate(k, cos, sin)
    for i in range(N):
        kept.append(i)
        p = (rotate(q[:, i : i + 1], cos[i : i + 1], sin[i : i + 1])[:, 0] @ turned[kept].mT * D**-0.5).softmax(-1)
        outs.append(p @ v[kept])
        rows.append({j: p[:, c].mean().item() for c, j in enumerate(kept)})
        for j, got in rows[-1].items():
            scores[j] = scores.get(j, 0.0) + got
        if i + 1 == PROMPT:
            policy = plain_profile(rows, special, marks, recover, share) if forced is None else forced
        if i + 1 >= PROMPT:
            often = top({j: scores[j] for j in kept}, math.ceil(share * (i + 1)))
            kept = [j for j in kept if special[j] or (policy >= 1 and marks[j]) or (policy >= 2 and j in often)
                    or (policy >= 3 and i - j <= share * PROMPT) or policy == 4]  # fmt: skip
        states.append(list(kept))
    return torch.stack(outs, 1), policy, states


@pytest.mark.parametrize(("recover", "forced"), [(0.6, None), (0.8, None), *((0.5, i) for i in range(5))])
def test_fastgen_by_its_own_rule(recover, forced, text, marks, monkeypatch):
    q, k, v, cos, sin = text
    if forced is not None:  # every policy, also those that these heads do not choose
        monkeypatch.setattr("kernels.cache.profiles.profile", lambda *given: torch.full((B, G), forced))
    cache = ProfiledCache(PROMPT, *marks, cos, sin, recover, 0.2, 0.2)
    outs, held = [], []
    for i in range(N):
        outs.append(cache.attend(*(x[:, :, i : i + 1] for x in (q, k, v))))
        held.append([cache.places[b, g][cache.alive[b, g]].tolist() for b in range(B) for g in range(G)])
        assert cache.tokens == sum(map(len, held[-1])) / (B * G)
    found = torch.cat(outs, 2)
    for b in range(B):
        for g in range(G):
            heads = slice(2 * g, 2 * g + 2)
            kinds = (x[b].tolist() for x in marks)
            exact, policy, states = plain(q[b, heads], k[b, g], v[b, g], cos, sin, *kinds, recover, 0.2, forced)
            assert cache.policies[b, g] == policy
            assert [one[b * G + g] for one in held] == states
            assert error(found[b, heads], exact) < 1e-12


def test_heads_choose_for_themselves_and_more_as_more_must_be_kept(marks):
    torch.manual_seed(1)
    scale = torch.tensor([0.0, 1.0, 3.0, 8.0])[:, None, None]  # attention spread evenly, to nearly one key a row
    p = (scale * torch.randn(1, 4, 30, 30)).masked_fill(~torch.ones(30, 30).tril().bool(), -torch.inf).softmax(-1)
    p[:, 3] *= 0.01
    p[:, 3, :, 0] += 0.99  # the special token, which every policy keeps
    of = [profile(p, marks[0][:1], marks[1][:1], recover, 0.3, 0.3)[0] for recover in (0.0, 0.5, 0.8, 0.95, 1.0)]
    assert all((more >= less).all() for less, more in zip(of, of[1:], strict=False))
    assert (of[0] == 0).all() and (of[-1] == 4).all() and len(set(of[2].tolist())) > 1


def test_losing_nothing_is_the_dense_model(text, marks):
    q, k, v, cos, sin = text
    cache = ProfiledCache(PROMPT, *marks, cos, sin, recover=1.0)
    assert error(run(cache, q, k, v), masked(q, k, v, cos, sin, CAUSAL)) < 1e-13
    assert (cache.policies == 4).all() and cache.tokens == N
    assert error(run(FixedCache(PROMPT, 1.0, 0.5, cos, sin), q, k, v), masked(q, k, v, cos, sin, CAUSAL)) < 1e-13


def test_memory_is_as_large_as_the_fullest_head(text, marks):
    q, k, v, cos, sin = text
    cache = ProfiledCache(PROMPT, *marks, cos, sin, recover=0.6)
    run(cache, q, k, v)
    assert cache.k.shape[2] == cache.alive.sum(-1).max() < N


@pytest.mark.parametrize("recent", [0.0, 0.5])
def test_one_policy_for_all_keeps_what_is_looked_at_most(recent, text):
    """Every query looks at token 3 and away from token 5."""
    q, k, v, cos, sin = text
    q, k = torch.ones_like(q), 0.1 * k
    k[:, :, 3], k[:, :, 5] = 3, -3
    cache = FixedCache(PROMPT, 0.5, recent, torch.ones_like(cos), torch.zeros_like(sin))
    run(cache, q, k, v)
    assert (cache.places == 3).any(-1).all() and not (cache.places == 5).any()


@pytest.mark.parametrize("recent", [0.0, 0.5, 1.0])
def test_one_policy_for_all_keeps_its_share(recent, text):
    q, k, v, cos, sin = text
    cache = FixedCache(PROMPT, 0.5, recent, cos, sin)
    for i in range(N):
        before = cache.scores
        cache.attend(*(x[:, :, i : i + 1] for x in (q, k, v)))
        assert cache.tokens == (i + 1 if i + 1 < PROMPT else round(0.5 * (i + 1)))
    newest = round(recent * cache.tokens)
    assert (cache.places[..., cache.tokens - newest :] == torch.arange(N - newest, N)).all()
    assert before.shape[-1] == round(0.5 * (N - 1))


def test_what_is_refused(marks):
    cos, sin = tables(torch.arange(4), D)
    with pytest.raises(ValueError, match="expected prompt >= 1 and shares of 0 to 1, got 2, 1.5"):
        ProfiledCache(2, *marks, cos, sin, recover=1.5)
    with pytest.raises(ValueError, match="share, recent: expected shares of 0 to 1, got 0 and 1"):
        FixedCache(2, 0, 1, cos, sin)
