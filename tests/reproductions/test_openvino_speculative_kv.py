"""The reproduction of speculative sampling with KV caches at its smallest size, and that it would find the opposite."""

import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from reproductions.lab import models
from reproductions.lab.reading import Reader
from reproductions.lab.speculating import decode
from reproductions.papers import openvino_speculative_kv as paper
from tests.reproductions import no_time
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **paper.SIZES["smoke"].parameters)
    found = verdicts(lab)
    assert "no result" not in found.values()
    assert found["latency-falls", "the text is kept, fp32"] == "replicated"


def test_drafts_are_right_as_often_as_was_set():
    """And pass through the model's first layers: with all of them and all rows they would be its own text."""
    lm, tokenizer = models.load()
    ids = tokenizer("It was the best of times, it was").input_ids
    reader = Reader(lm, 64)
    plain = decode(reader, ids, 10)
    always = paper.SetDrafter(reader, [*ids, *plain.tokens, 0, 0], 2, 64, 1.0, 0)
    assert decode(reader, ids, 10, always).accepted[:-1] == [2, 2] and always.own.cache.length > len(ids)
    never = paper.SetDrafter(reader, [*ids, *plain.tokens, 0, 0], 2, 64, 0.0, 0)
    found = decode(reader, ids, 10, never)
    assert found.tokens == plain.tokens and set(found.accepted) == {0}


def _times(lab, monkeypatch, none, kept):
    no_time.stub(monkeypatch)
    monkeypatch.setattr(paper, "_after", lambda reader, before, n: time.sleep(kept(before) if before else none(n)))
    paper._lengths(lab, Reader(), [8, 32, 128], 5)
    return {label: verdicts(lab)["cache-matters", label] for label in ("without a cache", "with a cache")}


def test_a_cache_that_costs_as_much_contradicts(lab, monkeypatch):
    found = _times(lab, monkeypatch, lambda n: 0.004, lambda n: 0.0004 * n)
    assert set(found.values()) == {"contradicted"}


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_slow_drafts_contradict(weights, lab, monkeypatch):
    no_time.stub(monkeypatch)
    slow = partial(no_time.Drafts, good=lambda count: 0, seconds=lambda count: 0.01)
    paper._decode(lab, Reader(), {"slow": slow}, [[1, 2, 3]] * 6, weights, [2], 8)
    label = "fp32 weights" if weights == "fp32" else "8-bit weights"
    assert verdicts(lab)["latency-falls", label] == "contradicted"


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_another_text_is_no_identity(weights, lab, monkeypatch):
    no_time.stub(monkeypatch)
    no_time.another_text(monkeypatch, paper)
    right = partial(no_time.Drafts, good=lambda count: count, seconds=lambda count: 0.0)
    paper._decode(lab, Reader(), {"right": right}, [[1, 2, 3]] * 6, weights, [2], 8)
    assert verdicts(lab)["latency-falls", f"the text is kept, {weights}"] == "contradicted"


def test_small_drafts_that_are_slow_and_large_ones_that_are_not_contradict(lab, monkeypatch):
    """Calls of the model take 5 ms; a draft of a tenth takes longer than it saves, one of a quarter nothing."""
    no_time.stub(monkeypatch)
    monkeypatch.setattr(Reader, "read", lambda self, ids, parents=None: no_time.read(self, ids, seconds=0.005))
    layers = {"a tenth": 10, "a quarter": 25}
    monkeypatch.setattr(paper, "SHARES", {name: 100 / n for name, n in layers.items()})

    def drafter(reader, text, count, *_):
        return no_time.Drafts(2, lambda _: 2, lambda _: 0.03 if count == layers["a tenth"] else 0.0)

    monkeypatch.setattr(paper, "SetDrafter", drafter)
    reader = Reader()
    one = torch.nn.Linear(1, 1, bias=False)
    reader.model = SimpleNamespace(
        parameters=lambda: [torch.zeros(100)],
        model=SimpleNamespace(layers=[one]),
        config=SimpleNamespace(hidden_size=0),
    )
    paper._set(lab, reader, [[1, 2, 3]] * 6, 12, 0.7, 0)
    found = verdicts(lab)
    assert found["draft-ratio", "at a tenth"] == found["draft-ratio", "at a quarter"] == "contradicted"
