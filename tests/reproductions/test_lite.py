"""The reproduction of LITE at its smallest size, and that it would find the opposite."""

from functools import partial

import pytest
import torch

from reproductions.lab import Lab, models
from reproductions.lab.exit_heads import Seen
from reproductions.papers import lite as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)
SMOKE = paper.SIZES["smoke"]
HELD = 6


@pytest.fixture(scope="module")
def lm():
    return models.load()[0]


def seen(right, worse=0.0, sign=1, seed=0):
    """Two exits and the whole model at 600 positions: exits are right with probability `right`, which they know (with
    `sign` -1: the wrong way round), and lose `worse` nats more on the next token."""
    draw = torch.Generator().manual_seed(seed)
    sure = torch.rand(3, 100 * HELD, generator=draw, dtype=torch.float64)
    agrees = torch.rand(3, 100 * HELD, generator=draw) < right * sure**0.1
    answers = torch.where(agrees, 0, 1)
    answers[-1] = 0
    nll = 3 + 0.1 * torch.rand(3, 100 * HELD, generator=draw, dtype=torch.float64)
    nll[:-1] += worse
    return Seen(answers, sure if sign > 0 else 1 - sure, nll)


@pytest.fixture
def found(lm, tmp_path):
    """The verdicts where the exits are as given: when thresholds are chosen, in the test, and before training."""

    def judge(chosen, trained, untrained):
        lab, kinds = Lab(tmp_path), ("sampled", "greedy")
        thresholds = paper.choose(chosen, chosen, [5, 10, len(lm.model.layers)])
        for name, one in (("untrained", untrained), ("trained", trained)):
            for kind in kinds:
                paper.report(lab, lm, [5, 10], one, thresholds, {"exits": name, "text": kind}, HELD)
        return verdicts(lab)

    return judge


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert "no result" not in found.values() and found["cost-13b", ""] == "not testable here"
    never = [row for row in lab.rows() if row.get("generated") == "never"]
    assert never and all(row["faithful"] == 1 and row["left_out"] == 0 for row in never)


def test_good_exits_are_found_good(found):
    assert set(found(seen(0.99), seen(0.99), seen(0.3)).values()) == {"replicated", "not testable here"}


def test_exits_that_training_made_worse(found):
    outcome = found(seen(0.99), seen(0.3), seen(0.99))
    assert outcome["lite-needed", "sampled text"] == outcome["lite-needed", "greedy text"] == "contradicted"


def test_exits_that_are_surest_where_they_are_wrong(found):
    assert found(seen(0.99), seen(0.8, sign=-1), seen(0.3))["confidence-aligns", ""] == "contradicted"


def test_exits_that_cost_quality_save_nothing_and_do_not_pass_for_that(found):
    outcome = found(seen(0.99, worse=0.5), seen(0.99, worse=0.5), seen(0.3))
    assert outcome["cost-7b", "layers, at 135M"] == outcome["cost-7b", "quality, at 135M"] == "contradicted"


def test_thresholds_of_other_texts_lose_quality(found):
    assert found(seen(0.99), seen(0.99, worse=0.5), seen(0.3))["cost-7b", "quality, at 135M"] == "contradicted"
