"""The reproduction of batching's effects at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch
from torch import nn

from kernels import bench
from reproductions.lab import Lab
from reproductions.papers import batching_effects_gpt as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


def measure(lab, ridge=4.0):
    """A stopwatch with a roof that puts the ridge at so many FLOP a byte."""
    roof = bench.Roofline("cpu", torch.float32, ridge * 1e10, 1e10)
    return lambda *args, **options: paper._measure(lab, roof, 5, *args, **options)


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert "no result" not in found.values() and "not testable here" not in found.values()
    assert found["dense-share", ""] == found["attention-intensity", ""] == "computed"


def test_a_layer_that_takes_one_sequence_after_the_other_is_not_free(tmp_path, monkeypatch):
    def one_by_one(self, x):
        time.sleep(0.02 * len(x))
        return nn.functional.linear(x, self.weight)

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(nn.Linear, "forward", one_by_one)
    lab = Lab(tmp_path)
    paper._dense(measure(lab), 64, [1, 2, 4], "cpu", torch.float32)
    assert verdicts(lab)["dense-batching", "almost free below the ridge"] == "contradicted"


def flat(call):
    """As slow whatever the batch."""

    def slow(*args):
        time.sleep(0.05)
        return call(*args)

    return slow


def test_a_layer_that_stays_free_past_the_ridge_contradicts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(nn.Linear, "forward", flat(nn.Linear.forward))
    lab = Lab(tmp_path)
    paper._dense(measure(lab, 0.1), 64, [1, 2, 4], "cpu", torch.float32)
    assert verdicts(lab)["dense-batching", "until the ridge"] == "contradicted"


def test_attention_that_costs_the_same_for_all_batches_is_not_proportional(tmp_path, monkeypatch):
    real = paper.multi_head_attention
    monkeypatch.setattr(paper, "multi_head_attention", flat(real))
    lab = Lab(tmp_path)
    paper._cached(lab, measure(lab), 2, 4, 256, [16, 256], [1, 2, 4], torch.float32)
    assert verdicts(lab)["attention-batching", ""] == "contradicted"

    def worse_when_short(q, k, v):
        time.sleep(0.01 * (len(q) if k.shape[2] == 16 else 1))
        return real(q, k, v)

    monkeypatch.setattr(paper, "multi_head_attention", worse_when_short)
    (tmp_path / "two").mkdir()
    lab = Lab(tmp_path / "two")
    for n in (16, 256):
        paper._cached(lab, measure(lab), 2, 4, n, [16, 256], [1, 2, 4], torch.float32)
    assert verdicts(lab)["attention-batching", "short sequences benefit"] == "contradicted"


def test_prompts_that_gain_from_batching_contradict(tmp_path, monkeypatch):
    monkeypatch.setattr(paper.training.Block, "forward", flat(paper.training.Block.forward))
    lab = Lab(tmp_path)
    paper._prompts(measure(lab), 2, 4, 16, [16], [1, 2, 4], "cpu", torch.float32)
    assert verdicts(lab)["prefill-already-batched", ""] == "contradicted"


@pytest.mark.parametrize("narrow", [True, False])
def test_a_count_that_is_off_is_told(narrow, tmp_path, monkeypatch):
    real = paper.multi_head_attention
    if narrow:  # a feed-forward layer as wide as the model
        block = paper.training.Block
        monkeypatch.setattr(paper.training, "Block", lambda width, attention, hidden: block(width, attention, 16))
    else:  # all sequences look at one cache
        monkeypatch.setattr(paper, "multi_head_attention", lambda q, k, v: real(q.transpose(0, 2), k[:1], v[:1]))
    lab = Lab(tmp_path)
    paper._count(lab)
    found = verdicts(lab)
    assert found["dense-share" if narrow else "attention-intensity", ""] == "contradicted"
