"""The reproduction of BERxiT at its smallest size, and that it would find the opposite."""

from functools import partial

import pytest
import torch

from reproductions.lab import Lab, exits, learned_exits
from reproductions.papers import berxit as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)
SMOKE = paper.SIZES["smoke"]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    assert "no result" not in verdicts(lab).values()


def right(accuracies, seed, count=600):
    """Whether off-ramps are right (6, count), at the given accuracies by layer."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(6, count, generator=draw) < torch.tensor(accuracies)[:, None]).double()


@pytest.fixture
def compared(tmp_path):
    """The verdicts where the strategies have the given accuracies by layer."""

    def judge(two_stage, joint, alternating, certain=lambda r: r):
        lab = Lab(tmp_path)
        for seed in range(3):
            kinds = zip(paper.STRATEGIES, (two_stage, joint, alternating), strict=True)
            ways = {name: right(by_layer, seed + 10 * i) for i, (name, by_layer) in enumerate(kinds)}
            found = {
                name: paper.compare(lab, r, certain(r) + 0.01 * torch.rand(6, 600), name, seed)
                for name, r in ways.items()
            }
            paper.relate(lab, found["alternating"][1], found["two-stage"][0], seed)
        return verdicts(lab)

    return judge


GOOD, WEAK_LAST, WEAK_EARLY = [0.8] * 6, [0.8] * 5 + [0.6], [0.5] * 3 + [0.8] * 3


def test_the_claims_order_is_found(compared):
    found = compared(WEAK_EARLY, WEAK_LAST, GOOD)
    assert {outcome for (claim, _), outcome in found.items() if claim != "regression-exit"} == {"replicated"}


def test_the_opposite_order_contradicts(compared):
    found = compared(WEAK_LAST, [0.3] * 3 + [0.8] * 3, [0.25] * 6)
    orders = {label: outcome for (claim, label), outcome in found.items() if claim == "joint-hurts-last"}
    assert len(orders) == 5 and set(orders.values()) == {"contradicted"}


def test_a_module_that_is_sure_where_exits_are_wrong_loses_quality(compared):
    found = compared(WEAK_EARLY, WEAK_LAST, GOOD, certain=lambda r: 1 - r)
    assert found["alternating-keeps-quality", "at a saving of 30 %"] == "contradicted"


def numbers(seed, count=800):
    """Values (6, count) that are good where a coin says so, the coins, and what the values are to be."""
    draw = torch.Generator().manual_seed(seed)
    y, coin = torch.randn(count, generator=draw), torch.rand(6, count, generator=draw)
    return y + torch.randn(6, count, generator=draw) * torch.where(coin > 0.5, 0.2, 3.0), coin, y


@pytest.mark.parametrize(("sign", "outcome"), [(1, "replicated"), (-1, "contradicted")])
def test_exits_by_certainty_and_by_its_opposite(tmp_path, sign, outcome):
    lab = Lab(tmp_path)
    for seed in range(3):
        values, coin, y = numbers(seed)
        paper.exit_regression(lab, values, sign * coin, y, seed)
    assert verdicts(lab)["regression-exit", ""] == outcome


def test_a_module_that_learned_the_errors_the_wrong_way_round(monkeypatch, tmp_path):
    """From features to verdict: after some layers a text is hard to tell, and the features say so."""

    def judge(name):
        (tmp_path / name).mkdir()
        lab, draw = Lab(tmp_path / name), torch.Generator().manual_seed(0)
        for seed in range(4):
            h = torch.randn(6, 1200, 8, generator=draw)
            y = torch.randn(1200, generator=draw)
            h[..., 2] = y * (h[..., 0] > 0)
            values, certainty = learned_exits.fit_regression(h, y[:600], seed)
            paper.exit_regression(lab, values[:, 600:], certainty[:, 600:], y[600:], seed)
        return verdicts(lab)["regression-exit", ""]

    assert judge("as it is") == "replicated"
    real = learned_exits.learned.near
    monkeypatch.setattr(learned_exits.learned, "near", lambda values, targets: 1 - real(values, targets))
    assert judge("the wrong way round") == "contradicted"


def test_alternation_by_its_steps():
    heads = learned_exits.Exits(6, 384, 10)
    torch.nn.init.normal_(heads.ramps.weight, generator=torch.Generator().manual_seed(0))
    h, labels = torch.randn(6, 5, 384, generator=torch.Generator().manual_seed(1)), torch.arange(5)
    last, every = exits.classify(heads.ramps(h)[-1:], labels), heads.loss(h, labels)
    found = {name: [paper.objective(heads, name, step, h, labels) for step in range(3)] for name in paper.STRATEGIES}
    expected = {"two-stage": [last] * 3, "joint": [every] * 3, "alternating": [last, every, last]}
    for name, losses in expected.items():
        torch.testing.assert_close(torch.stack(found[name]), torch.stack(losses))
