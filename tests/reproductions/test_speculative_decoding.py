"""The reproduction of speculative decoding at its smallest size, and that it would find the opposite."""

import itertools
import random
from functools import partial

from kernels.decoding import verify as rules
from reproductions.lab import exact_draws
from reproductions.lab.reading import Reader
from reproductions.lab.speculating import Decoded
from reproductions.papers import speculative_decoding as paper
from tests.reproductions import no_time
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **paper.SIZES["smoke"].parameters)
    found = verdicts(lab, "cuda")
    assert "no result" not in found.values()
    assert found["exact-distribution", "sampled"] == found["exact-distribution", "greedy"] == "replicated"
    assert found["expected-tokens", ""] != "contradicted"
    assert verdicts(lab)["walltime-t5", ""] == "not testable here"


def test_a_biased_rule_is_contradicted(lab, monkeypatch):
    monkeypatch.setattr(rules, "residual", lambda p, q: p)
    exact_draws.small_vocabulary(lab, 4000)
    assert verdicts(lab)["exact-distribution", "sampled"] == "contradicted"


def _decoded(lab, monkeypatch, good, seconds, cost=1.0, kind="greedy", count=12):
    no_time.stub(monkeypatch)
    makers = {d: lambda gamma, temperature: no_time.Drafts(gamma, good, seconds) for d in ("bigram", "trained layer")}
    costs = dict.fromkeys(range(1, 9), cost)
    paper._decode(lab, Reader(None, 8), makers, [[1, 2, 3]] * 6, kind, 0.0, [3], count, costs)
    return verdicts(lab, "cuda")


def test_drafts_that_are_slow_and_wrong_contradict(lab, monkeypatch):
    found = _decoded(lab, monkeypatch, lambda gamma: 0, lambda gamma: 0.01)
    assert found["walltime-t5", ""] == found["trivial-drafts", "a bigram draft's gain"] == "contradicted"
    assert (
        found["trivial-drafts", "a bigram draft"] == found["trivial-drafts", "a small model's alpha"] == "contradicted"
    )
    assert found["expected-tokens", ""] == "replicated", "no draft passes and no more than one token is expected"


def _drawn(share):
    """How many of a call's drafts are right, each with the same chance whatever came before."""
    draw = random.Random(0)
    return lambda gamma: next((n for n in range(gamma) if draw.random() > share), gamma)


def test_drafts_that_pass_independently_give_the_formula(lab, monkeypatch):
    found = _decoded(lab, monkeypatch, _drawn(0.6), lambda gamma: 0.0, count=200)
    assert found["expected-tokens", ""] == "replicated"


def test_drafts_that_pass_all_or_none_break_the_formula(lab, monkeypatch):
    """Three in every second call: 2.5 tokens a call, where half of the first drafts give 1.875."""
    turns = itertools.cycle([3, 0])
    found = _decoded(lab, monkeypatch, lambda gamma: next(turns), lambda gamma: 0.0, count=11)
    assert {row["over_formula"] for row in lab.rows() if "over_formula" in row} == {4 / 3}
    assert found["expected-tokens", ""] == "contradicted"


def test_a_loop_that_forgets_the_models_own_token_breaks_the_formula(lab, monkeypatch):
    monkeypatch.setattr(Decoded, "per_call", property(lambda self: sum(self.accepted) / len(self.accepted)))
    found = _decoded(lab, monkeypatch, _drawn(0.6), lambda gamma: 0.0, count=200)
    assert found["expected-tokens", ""] == "contradicted"


def test_a_call_that_costs_other_than_was_said_breaks_the_prediction(lab, monkeypatch):
    found = _decoded(lab, monkeypatch, lambda gamma: 2, lambda gamma: 0.0, cost=0.2)
    assert found["predicted-vs-measured", "with what a longer call costs"] == "contradicted"


def test_drafts_that_cost_nothing_in_calls_that_do_break_the_papers_formula(lab, monkeypatch):
    """A call over a draft takes far longer than one over a token, which the formula leaves out."""
    normal = no_time.read
    monkeypatch.setattr(
        no_time, "read", lambda self, ids, parents=None: normal(self, ids, seconds=0.01 * (len(ids) == 4))
    )
    found = _decoded(lab, monkeypatch, lambda gamma: 2, lambda gamma: 0.0)
    assert found["predicted-vs-measured", "the paper's formula"] == "contradicted"


def test_a_text_that_is_another_is_no_identity(lab, monkeypatch):
    no_time.another_text(monkeypatch, paper)
    found = _decoded(lab, monkeypatch, lambda gamma: 1, lambda gamma: 0.0)
    assert found["exact-distribution", "greedy"] == "contradicted"


def test_bigrams_copy_what_followed_most_often():
    drafter = paper.Bigrams([[1, 2, 3, 2, 3, 1, 2]], 3)
    assert drafter.draft([9, 1], None).tokens == [2, 3, 2] and drafter.draft([9], None).tokens == []
