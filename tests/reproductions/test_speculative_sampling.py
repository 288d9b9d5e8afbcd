"""The reproduction of speculative sampling at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.decoding import verify as rules
from kernels.decoding.tree import chain
from reproductions.lab import Lab, exact_draws, models
from reproductions.lab.reading import Reader
from reproductions.papers import speculative_sampling as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **paper.SIZES["smoke"].parameters)
    found = verdicts(lab, "cuda")
    assert "no result" not in found.values()
    assert {found["exact-distribution", label] for label in
            ("a small vocabulary", "a token of a real model")} == {"replicated"}  # fmt: skip
    assert verdicts(lab)["speedup", ""] == "not testable here"


@pytest.mark.parametrize("wrong", [lambda p, q: p, lambda p, q: q], ids=["from the target", "from the draft"])
def test_a_biased_rule_is_contradicted(wrong, lab, monkeypatch):
    monkeypatch.setattr(rules, "residual", wrong)
    exact_draws.small_vocabulary(lab, 4000)
    assert verdicts(lab)["exact-distribution", "a small vocabulary"] == "contradicted"


class Drafts:
    """A drafter whose drafts are the target's `good` times and then a token it never says."""

    def __init__(self, widths, good, seconds):
        self.count, self.good, self.seconds = len(widths), good, seconds

    def draft(self, ids, states, generator=None):
        time.sleep(self.seconds(self.count))
        return chain([5] * self.good(self.count, ids) + [7] * (self.count - self.good(self.count, ids)))


def _decoded(lab, monkeypatch, good, seconds):
    """Checks after decoding with a model that takes no time and always says 5."""
    lm, _ = models.load()
    always = torch.zeros(lm.config.vocab_size)
    always[5] = 100
    monkeypatch.setattr(Reader, "read", lambda self, ids, parents=None: torch.zeros(1, len(ids), 1))
    monkeypatch.setattr(Reader, "keep", lambda self, path: None)
    monkeypatch.setattr(Reader, "logits", lambda self, hidden: always.expand(*hidden.shape[:-1], -1))
    given = {"prose": [[1, 2, 3]] * 3, "code": [[9, 8, 7]] * 3}

    def maker(widths):
        return Drafts(widths, good, seconds)

    paper._decode(lab, Reader(lm, 8), maker, given, [1, 3, 6], 8, 1.0)
    return verdicts(lab, "cuda")


def test_what_the_paper_says_comes_out_the_other_way(lab, monkeypatch):
    """Long drafts are all right and at once, short ones wrong and slow."""
    found = _decoded(lab, monkeypatch, lambda k, ids: k if k == 6 else 0, lambda k: 0.0 if k == 6 else 0.02)
    tradeoff = ("acceptance falls with K", "a loop takes longer", "speed peaks at a small K")
    assert {found["k-tradeoff", label] for label in tradeoff} == {"contradicted"}


def test_steady_long_drafts_contradict_the_spread_and_slow_ones_the_speed(lab, monkeypatch):
    turns = iter(range(10_000))
    found = _decoded(lab, monkeypatch, lambda k, ids: 0, lambda k: 0.04 * (next(turns) % 2) if k == 1 else 0.02)
    assert found["k-tradeoff", "latency varies more"] == "contradicted"
    assert found["speedup", ""] == "contradicted"


def test_prose_that_is_accepted_more_contradicts(lab):
    for i in range(6):
        for domain, share in (("prose", 0.6), ("code", 0.3 + 0.01 * (i % 2))):
            lab.row(domain=domain, pair=str(i), acceptance=share)
    assert verdicts(lab)["domain-dependence", ""] == "contradicted"
