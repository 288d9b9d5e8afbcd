"""The reproduction of speculative sampling at its smallest size, and that it would find the opposite."""

from functools import partial

import pytest

from kernels.decoding import verify as rules
from reproductions.lab import exact_draws
from reproductions.lab.reading import Reader
from reproductions.papers import speculative_sampling as paper
from tests.reproductions import no_time
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)


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


def _decoded(lab, monkeypatch, good, seconds):
    """Checks after decoding with drafts that are told what to do."""
    no_time.stub(monkeypatch)
    given = {"prose": [[1, 2, 3]] * 3, "code": [[9, 8, 7]] * 3}

    def maker(widths):
        return no_time.Drafts(len(widths), good, seconds)

    paper._decode(lab, Reader(None, 8), maker, given, [1, 3, 6], 8, 1.0)
    return verdicts(lab, "cuda")


def test_what_the_paper_says_comes_out_the_other_way(lab, monkeypatch):
    """Long drafts are all right and at once, short ones wrong and slow."""
    found = _decoded(lab, monkeypatch, lambda k: k if k == 6 else 0, lambda k: 0.0 if k == 6 else 0.02)
    tradeoff = ("acceptance falls with K", "a loop takes longer", "speed peaks at a small K")
    assert {found["k-tradeoff", label] for label in tradeoff} == {"contradicted"}


def test_steady_long_drafts_contradict_the_spread_and_slow_ones_the_speed(lab, monkeypatch):
    turns = iter(range(10_000))
    found = _decoded(lab, monkeypatch, lambda k: 0, lambda k: 0.04 * (next(turns) % 2) if k == 1 else 0.02)
    assert found["k-tradeoff", "latency varies more"] == "contradicted"
    assert found["speedup", ""] == "contradicted"


def test_prose_that_is_accepted_more_contradicts(lab):
    for i in range(6):
        for domain, share in (("prose", 0.6), ("code", 0.3 + 0.01 * (i % 2))):
            lab.row(domain=domain, pair=str(i), acceptance=share)
    assert verdicts(lab)["domain-dependence", ""] == "contradicted"
