"""The reproduction of FlashDecoding++ at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention import unified_max
from reproductions.lab import Lab
from reproductions.papers import flashdecoding_plus_plus as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    for label in ("computed again", "only where needed"):
        assert found["unified-max-exact", label] == "replicated"
    assert found["score-window", "the window is safe"] == "replicated"
    assert found["end-to-end", ""] == found["sync-overhead", ""] == "not testable here"
    assert "no result" not in verdicts(lab, "cuda").values()


def without_the_last_key(q, k, v, phi, splits):
    return unified_max.unified_max_attention(q, k[:, :, :-1], v[:, :, :-1], phi, splits=splits)


@pytest.mark.parametrize("label", ["inside the window", "computed again", "only where needed"])
def test_a_wrong_softmax_is_told(label, tmp_path, monkeypatch):
    if label == "inside the window":
        monkeypatch.setattr(paper, "unified_max_attention", without_the_last_key)
    elif label == "computed again":
        monkeypatch.setattr(unified_max, "recompute", lambda rows, k, v: torch.zeros_like(rows))
    else:
        monkeypatch.setattr(unified_max, "WINDOW", (-0.01, 0.01))
    lab = Lab(tmp_path)
    paper._exactness(lab, 100)
    assert verdicts(lab)["unified-max-exact", label] == "contradicted"


def test_scores_outside_the_window_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "_fit", lambda low, high: (0.0, 200.0))
    lab = Lab(tmp_path)
    paper._scores(lab, 32)
    found = verdicts(lab)
    assert found["score-window", "share inside"] == found["score-window", "the window is safe"] == "contradicted"


def slow(call):
    def slowed(*args):
        time.sleep(0.05)
        return call(*args)

    return slowed


def test_a_slow_unified_maximum_contradicts_its_gain(tmp_path, monkeypatch):
    real = unified_max.unified_max_attention
    monkeypatch.setattr(paper, "unified_max_attention", slow(real))
    lab = Lab(tmp_path)
    paper._attention(lab, 1, 2, 1024, torch.float32, 6)
    assert verdicts(lab, "cuda")["sync-overhead", ""] == "contradicted"


def test_flat_products_that_are_slow_and_a_choice_that_does_not_matter_contradict(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "flat_linear", slow(paper.flat_linear))
    lab, times = Lab(tmp_path), {}
    paper._products(lab, times, 8, (16, 16), True, torch.float32, 10)
    paper._dataflow(lab, times)
    found = verdicts(lab, "cuda")
    assert found["flat-gemm", "padding to 64"] == found["flat-gemm", "flat on a GPU"] == "contradicted"
    assert found["static-dataflow", ""] == "contradicted"
