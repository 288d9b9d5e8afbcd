"""The reproduction of EE-LLM at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.early_exit import stages
from reproductions.lab import Lab, exit_heads, models
from reproductions.lab.exit_heads import Seen
from reproductions.lab.exiting import ExitDecoder
from reproductions.papers import ee_llm as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)
SMOKE = paper.SIZES["smoke"]
OPENINGS = [[504 + 7 * i, 1000 + i, 2000, 300] for i in range(5)]


@pytest.fixture(scope="module")
def lm():
    return models.load()[0]


@pytest.fixture(scope="module")
def heads(lm):
    return exit_heads.untrained(lm, [2])


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab, "cuda")
    assert "no result" not in found.values() and found["training-overhead", ""] == "not testable here"
    exact = [("gradient-identity", "float64"), ("gradient-identity", "float32"),
             ("kv-compatible", "text at a threshold of 1"), ("kv-compatible", "keys and values")]  # fmt: skip
    assert {found[check] for check in exact} == {"replicated"}
    ratios = {
        way: max(r["kv_ratio"] for r in lab.rows() if "kv_ratio" in r and r["method"] == way) for way in paper.WAYS
    }
    assert ratios["copy"] > 1000, "copied states are no true keys and values"


def test_a_gradient_that_is_not_handed_back(tmp_path, monkeypatch):
    real = stages.backward
    monkeypatch.setattr(
        stages, "backward", lambda output, own, g: real(output, own if own is not None else 0 * output.sum(), None)
    )
    lab = Lab(tmp_path)
    paper.compare_gradients(lab, 16)
    found = verdicts(lab)
    assert found["gradient-identity", "float64"] == found["gradient-identity", "float32"] == "contradicted"


def test_tokens_that_are_not_read_again_lack_their_keys(lm, heads, tmp_path, monkeypatch):
    real = ExitDecoder.step

    def step(self, token):
        found = real(self, token)
        self.waiting = []
        return found

    monkeypatch.setattr(ExitDecoder, "step", step)
    lab = Lab(tmp_path)
    paper.compare_caches(lab, lm, heads, OPENINGS[0], 5)
    assert verdicts(lab)["kv-compatible", "keys and values"] == "contradicted"


def test_a_threshold_that_lets_tokens_go_changes_the_text(lm, heads, tmp_path, monkeypatch):
    monkeypatch.setattr("reproductions.lab.exiting.confidence", lambda logits: torch.tensor(2.0))
    lab = Lab(tmp_path)
    paper.generate(lab, lm, heads, [1.0], OPENINGS[:1], 5)
    assert verdicts(lab)["kv-compatible", "text at a threshold of 1"] == "contradicted"


@pytest.fixture
def decoded(lm, heads, tmp_path, monkeypatch):
    """The verdicts of decoding with confidences as given, judged as a GPU's."""

    def judge(sure):
        monkeypatch.setattr("reproductions.lab.exiting.confidence", lambda logits: torch.tensor(sure))
        monkeypatch.setattr(paper, "WAYS", ("recompute",))
        lab = Lab(tmp_path)
        paper.generate(lab, lm, heads, [0.9], OPENINGS, 3)
        return verdicts(lab, "cuda")

    return judge


def test_exits_that_are_never_sure_save_nothing(decoded):
    assert decoded(0.1)["speedup-2x", "layers, at 135M"] == "contradicted"


def test_slow_exits_contradict_the_speedup(decoded, monkeypatch):
    real = ExitDecoder.step

    def slow(self, token):
        time.sleep(0.2 if self.way == "recompute" else 0)
        return real(self, token)

    monkeypatch.setattr(ExitDecoder, "step", slow)
    assert decoded(0.95)["speedup-2x", ""] == "contradicted"


def test_a_threshold_of_other_texts_loses_quality(tmp_path):
    lab, sure = Lab(tmp_path), torch.tensor([[0.8], [1.0]]).repeat(1, 600)
    seen = Seen(torch.zeros(2, 600, dtype=torch.long), sure, torch.tensor([[3.5], [3.0]]).repeat(1, 600))
    assert paper.choose(seen) == pytest.approx(0.81), "above what the bad exit is sure of"
    seen.nll += 0.01 * torch.rand(600)
    paper.judge_quality(lab, seen, 0.5, 6)
    assert verdicts(lab)["speedup-2x", "quality, at 135M"] == "contradicted"
