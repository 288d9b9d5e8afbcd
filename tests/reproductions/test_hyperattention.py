"""The reproduction of HyperAttention at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention import hyper
from kernels.attention.flash import attention_reference
from reproductions.lab import Lab
from reproductions.papers import hyperattention as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
BUDGET = hyper.Budget(16, 16, exact_below=64)


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert found["near-linear", "operations"] == "replicated"
    assert found["speed-131k-causal", ""] == "not testable here"
    assert "no result" not in verdicts(lab, "cuda").values()


def errors(lab, seeds=6, families=("clustered",)):
    for family in families:
        for seed in range(seeds):
            paper._errors(lab, family, seed, paper.clustered(256, seed, "cpu", 16), 32)


def test_on_clustered_inputs_sorting_and_samples_help(tmp_path):
    lab = Lab(tmp_path)
    errors(lab)
    found = verdicts(lab)
    assert found["spectral-error", "sorting, clustered inputs"] == "replicated"
    assert found["spectral-error", "samples, clustered inputs"] == "replicated"


def off_by_one(monkeypatch):
    """The order of the hashes is undone one row off."""
    real = paper.hyper_attention

    def wrong(q, k, v, budget, **options):
        found = real(q, k, v, budget, **options)
        return found.roll(1, 2) if budget.order == "lsh" else found

    monkeypatch.setattr(paper, "hyper_attention", wrong)


def undivided(monkeypatch):
    """The samples' values are added up, not averaged."""
    real = hyper._sampled

    def wrong(q, k, v, own, samples, generator):
        out, norm = real(q, k, v, own, samples, generator)
        return out * samples, norm

    monkeypatch.setattr(hyper, "_sampled", wrong)


def unweighted(monkeypatch):
    """The parts are added up, whatever their normalisers."""
    monkeypatch.setattr(hyper, "_merge", lambda one, two: (one[0] + two[0], one[1]))


@pytest.mark.parametrize(
    ("mistake", "label"),
    [(off_by_one, "sorting, {} inputs"), (undivided, "samples, {} inputs"), (unweighted, "blocks, real inputs")],
)
def test_a_wrong_method_errs(mistake, label, tmp_path, monkeypatch):
    lab = Lab(tmp_path)
    mistake(monkeypatch)
    errors(lab, families=("clustered", "real"))
    for family in ("clustered", "real"):
        assert verdicts(lab)["spectral-error", label.format(family)] == "contradicted"


@pytest.fixture(scope="module")
def text():
    lm, tokenizer = paper.models.load()
    return lm, torch.arange(1000, 1128)[None]


@pytest.mark.parametrize(("block", "outcome"), [(128, "replicated"), (8, "contradicted")])
def test_perplexity_is_that_of_the_attention(block, outcome, text, tmp_path):
    lab = Lab(tmp_path)
    paper._perplexity(lab, *text, block)
    assert verdicts(lab)["chatglm2-32k", "perplexity"] == outcome


def test_quadratic_work_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "hyper_attention", lambda q, k, v, budget: attention_reference(q, k, v))
    lab = Lab(tmp_path)
    for n in (1024, 2048, 4096):
        paper._time(lab, (1, 1, n, 16), BUDGET, 5)
    found = verdicts(lab)
    assert found["near-linear", "operations"] == found["near-linear", "time"] == "contradicted"


def test_a_slow_method_is_not_faster(tmp_path, monkeypatch):
    def slow(q, k, v, budget, causal):
        time.sleep(0.05)
        return q

    monkeypatch.setattr(paper, "hyper_attention", slow)
    lab = Lab(tmp_path)
    paper._causal_time(lab, (1, 1, 128, 16), BUDGET, 6, True)
    assert verdicts(lab, "cuda")["speed-131k-causal", ""] == "contradicted"
