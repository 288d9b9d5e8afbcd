"""The reproduction of H2O at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.cache.heavy_hitters import HeavyHitterCache
from kernels.cache.kept import WindowCache
from reproductions.lab import Lab, models
from reproductions.papers import h2o as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
FIFTH = {"full": (100,), "h2o": (20,), "local": (20,), "heavy only": (20,)}


@pytest.fixture(scope="module")
def text():
    lm, tokenizer = models.load()
    words = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals. " * 3
    return lm, tokenizer(words, return_tensors="pt").input_ids[:, :40]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    assert "no result" not in verdicts(lab, "cuda").values()
    assert verdicts(lab)["throughput", ""] == verdicts(lab)["latency", "attention alone"] == "not testable here"


def test_scores_the_wrong_way_round_lose(text, tmp_path, monkeypatch):
    """The tokens with the least attention are kept, also where heavy hitters are alone."""
    real = HeavyHitterCache.observe

    def observe(self, p):
        real(self, p if self.recent == 1 else -p)

    monkeypatch.setattr(HeavyHitterCache, "observe", observe)
    lab = Lab(tmp_path)
    paper._perplexity(lab, *text, FIFTH, 16, 3)
    found = verdicts(lab)
    assert found["near-full-at-20", ""] == "contradicted"
    assert found["both-parts-needed", "recent tokens are needed"] == "contradicted"
    assert found["both-parts-needed", "both match the full cache"] == "contradicted"


def test_a_window_that_is_the_better_policy_contradicts(text, tmp_path, monkeypatch):
    def all_of_it(self):
        return torch.arange(self.tokens).expand_as(self.places)

    monkeypatch.setattr(WindowCache, "choose", all_of_it)
    lab = Lab(tmp_path)
    paper._perplexity(lab, *text, FIFTH, 16, 3)
    found = verdicts(lab)
    assert found["beats-local", ""] == "contradicted"
    labels = ("heavy hitters are needed", "heavy before recent")
    assert {found["both-parts-needed", label] for label in labels} == {"contradicted"}


def test_attention_spread_evenly_is_not_sparse(text, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "rotate", lambda x, cos, sin: 0.01 * x)
    lab = Lab(tmp_path)
    paper._sparsity(lab, *text)
    assert verdicts(lab)["attention-sparsity", ""] == "contradicted"


def test_a_slow_step_contradicts_the_latency(text, tmp_path, monkeypatch):
    real = paper.scaled_dot_product_attention

    def slow(q, k, v, **options):
        time.sleep(0.003 if k.shape[2] < 100 else 0)
        return real(q, k, v, **options)

    monkeypatch.setattr(paper, "scaled_dot_product_attention", slow)
    lab = Lab(tmp_path)
    paper._time(lab, text[0], 128, 1, 5)
    assert verdicts(lab, "cuda")["latency", "attention alone"] == "contradicted"
