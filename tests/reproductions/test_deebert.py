"""The reproduction of DeeBERT at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.early_exit import depth, entropy
from reproductions.lab import Lab, docstrings, encoders, exits
from reproductions.papers import deebert as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)
SMOKE = paper.SIZES["smoke"]


@pytest.fixture(scope="module")
def encoder():
    return encoders.load()


def answers(good, sure, count=400):
    """Logits (6, count, 10) whose exits are right, and sure of themselves, with the given probabilities."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    right = torch.rand(6, count, generator=draw) < torch.tensor(good)[:, None]
    chosen = torch.where(right, labels, (labels + 1) % 10)
    scale = torch.where(torch.rand(6, count, generator=draw) < sure, 20.0, 0.1)
    return scale[..., None] * torch.nn.functional.one_hot(chosen, 10), labels


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    if len({row["expected"] for row in lab.rows() if "expected" in row}) == 1:  # no text of two left early: no line
        assert found.pop(("expected-equals-measured", "")) == "no result"
    assert "no result" not in found.values()
    assert found["beats-distilbert", ""] == "not testable here"


def test_without_a_threshold_the_answers_are_those_of_the_whole_model():
    logits, _ = answers([0.5] * 6, 0.5)
    found, depths = paper.leave(logits, 0.0)
    assert (depths == 6).all() and torch.equal(found, logits[-1].argmax(-1))


def test_layer_by_layer_gives_the_answers_of_the_features(encoder, tmp_path):
    model, tokenizer = encoder
    texts = [d.text for d in docstrings.load(2)]
    ramps = exits.Ramps(6, 384, 10)
    torch.nn.init.normal_(ramps.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = ramps(encoders.features(model, tokenizer, texts, 32))
        s = entropy.entropy(logits).quantile(0.15).item()
        wanted, depths = paper.leave(logits, s)
        assert len(set(depths.tolist())) > 2
        for text, answer, deep in zip(texts, wanted, depths, strict=True):
            found, ran = exits.answer(
                model, ramps, *encoders.tokens(tokenizer, [text], 32), lambda x: bool(entropy.leaves(x, s))
            )
            assert ran == deep and found.argmax() == answer


def test_off_ramps_that_know_nothing_and_are_sure_lose_accuracy(tmp_path):
    lab, (logits, labels) = Lab(tmp_path), answers([0.1] * 5 + [0.9], 0.5)
    chosen = paper.choose(logits, labels)
    assert chosen["small drop"] < 1e-5, "no text leaves"
    paper.judge_exits(lab, logits, labels, chosen, 20)
    assert verdicts(lab)["saving-40", "accuracy"] == "contradicted"


def test_a_threshold_of_other_texts_loses_accuracy(tmp_path):
    """Chosen where off-ramps are right, used where they are wrong."""
    chosen = paper.choose(*answers([1.0] * 6, 0.5))
    assert chosen["small drop"] > 0
    lab, (logits, labels) = Lab(tmp_path), answers([0.1] * 5 + [0.9], 0.5)
    paper.judge_exits(lab, logits, labels, chosen, 20)
    assert verdicts(lab)["saving-small-drop", "accuracy"] == "contradicted"


@pytest.fixture
def timed(encoder, tmp_path):
    """The timings of off-ramps of which about half leave early at any of the two thresholds."""
    lab, ramps = Lab(tmp_path), exits.Ramps(6, 384, 10)
    ramps.bias.data[..., 0] = torch.tensor([0.0, 0.0, 5.0, 0.0, 8.0, 0.0])[:, None]
    chosen = {"all layers": 0.0, "small drop": 0.3, "saves 40 %": 0.3}

    def measure():
        paper.time_exits(lab, *encoder, ramps, ["A short text."], 12, chosen, 5)
        return verdicts(lab)

    return measure


def test_an_exit_that_takes_longer_than_the_layers_contradicts(timed, monkeypatch):
    real = depth.run_until

    def slow(*arguments):
        began = time.perf_counter()
        found = real(*arguments)
        time.sleep(0.02 + 3 * (time.perf_counter() - began))  # however busy the machine is
        return found

    monkeypatch.setattr(depth, "run_until", slow)
    found = timed()
    assert found["saving-small-drop", "time"] == found["saving-40", "time"] == "contradicted"


def test_layers_that_run_after_the_exit_are_no_saving(timed, monkeypatch):
    """What is said to have been left out is not in the time."""
    real = depth.run_until

    def all_of_them(layers, x, answer, leaves):
        real(layers, x, answer, lambda *_: False)
        found, ran = real(layers, x, answer, leaves)
        time.sleep(0.01 if ran < len(layers) else 0)
        return found, ran

    monkeypatch.setattr(depth, "run_until", all_of_them)
    assert timed()["expected-equals-measured", ""] == "contradicted"
