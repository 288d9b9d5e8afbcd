"""The reproduction of SpecInfer at its smallest size, and that it would find the opposite."""

from functools import partial

import pytest

from kernels.decoding import verify as rules
from reproductions.lab import exact_draws
from reproductions.lab.reading import Reader
from reproductions.papers import specinfer as paper
from tests.reproductions import no_time
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **paper.SIZES["smoke"].parameters)
    found = verdicts(lab)
    assert "no result" not in found.values()
    labels = ("one child a node", "three children a node", "greedy text")
    assert {found["exact-distribution", label] for label in labels} == {"replicated"}


@pytest.mark.parametrize(("width", "name", "label"), [(1, "1 child", "one child"), (3, "3 children", "three children")])
def test_a_target_that_is_not_updated_is_caught(width, name, label, lab, monkeypatch):
    """The next child, or the model's own token, from the distribution before the refusal."""
    monkeypatch.setattr(rules, "residual", lambda p, q: p)
    exact_draws.small_vocabulary(lab, 3000, width, name)
    assert verdicts(lab)["exact-distribution", f"{label} a node"] == "contradicted"


def _decoded(lab, monkeypatch, good):
    no_time.stub(monkeypatch)

    def maker(width, temperature):
        return no_time.Drafts(4, lambda count: good(width), lambda count: 0.0)

    paper._decode(lab, Reader(None, 8), maker, [[1, 2, 3]] * 6, [1, 5], 12)
    return verdicts(lab)


def test_trees_that_verify_no_more_contradict(lab, monkeypatch):
    found = _decoded(lab, monkeypatch, lambda width: 2)
    assert found["tree-vs-sequence", "greedy"] == found["tree-vs-sequence", "stochastic"] == "contradicted"
    assert found["mss-vs-naive", ""] == "contradicted", "with a model that is sure both rules take the same"


def test_trees_that_verify_more_replicate(lab, monkeypatch):
    found = _decoded(lab, monkeypatch, lambda width: 3 if width == 5 else 1)
    assert found["tree-vs-sequence", "greedy"] == found["tree-vs-sequence", "stochastic"] == "replicated"


def test_a_text_that_is_another_is_no_identity(lab, monkeypatch):
    no_time.another_text(monkeypatch, paper)
    assert _decoded(lab, monkeypatch, lambda width: 1)["exact-distribution", "greedy text"] == "contradicted"
