"""Online speculative decoding: what counts as refused, what is learnt from it, and what is forgotten."""

from functools import partial

import pytest
import torch
from torch import nn

from kernels.decoding.online import OnlineDraft, acceptance, forward_kl, refused
from kernels.decoding.tree import chain
from kernels.decoding.verify import verify

V, DRAWS = 6, 20_000


@pytest.fixture
def language():
    """(p, q), (V,) each."""
    torch.manual_seed(3)
    return [(1.5 * torch.randn(V)).softmax(-1) for _ in range(2)]


def expected(p, q):
    """By hand."""
    return sum(min(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True))


def far(share, chance):
    """Beyond 4 standard deviations."""
    return abs(share - chance) > 4 * (chance * (1 - chance) / DRAWS) ** 0.5


def test_the_share_refused_is_that_of_real_drafts(language):
    """Along the target's own text as many are refused as when each draft is drawn and verified."""
    p, q = language
    chance = expected(p, q)
    assert acceptance(p[None], q[None]).item() == pytest.approx(chance)
    draw = torch.Generator().manual_seed(0)
    text = torch.multinomial(p, DRAWS, True, generator=draw)
    many = [x.expand(DRAWS, V) for x in (p, q)]
    assert not far(1 - refused(*many, text, draw).float().mean().item(), chance)
    drafts = torch.multinomial(q, DRAWS, True, generator=draw).tolist()
    passed = sum(bool(verify(chain([x], q[None]), p.expand(2, V), draw)[0]) for x in drafts)
    assert not far(passed / DRAWS, chance)


def test_a_rule_turned_round_is_far_off(language):
    p, q = language
    draw = torch.Generator().manual_seed(0)
    text = torch.multinomial(p, DRAWS, True, generator=draw)
    many = [x.expand(DRAWS, V) for x in (q, p)]
    assert far(1 - refused(*many, text, draw).float().mean().item(), expected(p, q))


def test_forward_kl_is_the_sum_over_the_vocabulary(language):
    p, q = (x[None] for x in language)
    by_hand = torch.distributions.kl_divergence(torch.distributions.Categorical(p), torch.distributions.Categorical(q))
    assert torch.allclose(forward_kl(p, q.log()), by_hand)
    assert forward_kl(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, -50.0]])).item() == 0  # 0 log 0


def a_draft(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(4, V)


def log_q(layer, x, where):
    return layer(x)[where].log_softmax(-1)


def requests(count, n=5):
    """(inputs, p, wrong) of `count` batches of two requests."""
    torch.manual_seed(1)
    return [((torch.randn(2, n, 4),), torch.randn(2, n, V).softmax(-1), torch.rand(2, n) < 0.5) for _ in range(count)]


def plainly(layer, batches, steps, rate):
    """The same update, one place at a time."""
    optimiser = torch.optim.AdamW(layer.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        losses = []
        for (x,), p, wrong in batches:
            for b, i in wrong.nonzero().tolist():
                q = layer(x[b, i]).softmax(-1)
                losses.append((p[b, i] * (p[b, i] / q).log()).sum())
        torch.stack(losses).mean().backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimiser.step()


def test_it_learns_after_so_many_requests_what_a_plain_loop_learns():
    layer, other = a_draft(), a_draft()
    draft = OnlineDraft(partial(log_q, layer), layer.parameters(), interval=6, steps=3, rate=0.1)
    batches = requests(3)
    assert [draft.served(*one) for one in batches] == [False, False, True]
    plainly(other, batches, 3, 0.1)
    assert torch.allclose(layer.weight, other.weight, atol=1e-5)
    assert not draft.kept and draft.waiting == 0


def test_only_refused_places_teach_and_the_optimisers_state_stays():
    found = []
    for change in (False, True):
        layer = a_draft()
        draft = OnlineDraft(partial(log_q, layer), layer.parameters(), interval=2, rate=0.1)
        for inputs, p, wrong in requests(2):
            told = torch.where(wrong[..., None], p, 1 / V) if change else p
            assert draft.served(inputs, told, wrong)
        found.append(layer.weight)
        assert {int(state["step"]) for state in draft.optimiser.state.values()} == {2}
    assert torch.equal(*found)


def test_nothing_refused_changes_nothing():
    layer = a_draft()
    before = layer.weight.clone()
    draft = OnlineDraft(partial(log_q, layer), layer.parameters(), interval=2)
    ((inputs, p, wrong),) = requests(1)
    assert draft.served(inputs, p, torch.zeros_like(wrong))
    assert torch.equal(layer.weight, before)
