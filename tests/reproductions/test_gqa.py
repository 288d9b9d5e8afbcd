"""The reproduction of grouped-query attention at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention.grouped_query import GroupedAttention
from reproductions.lab import Lab
from reproductions.papers import gqa
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, gqa.CHECKS)

SMOKE = gqa.SIZES["smoke"]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    gqa.run(lab, **SMOKE.parameters | {"seeds": 3})
    found = verdicts(lab)
    assert found["cache-ratio", ""] == "replicated"
    assert found["speed-gqa8", "a decoder"] == found["quality-gqa8", ""] == "not testable here"
    assert "no result" not in verdicts(lab, "cuda").values()


def test_a_cache_that_keeps_every_head_is_counted(tmp_path, monkeypatch):
    lab, real = Lab(tmp_path), GroupedAttention
    monkeypatch.setattr(gqa, "GroupedAttention", lambda width, heads, dim, groups: real(width, heads, dim, heads))
    gqa._cache(lab, 64, {"H/8 groups": 8, "H groups": 64})
    assert verdicts(lab)["cache-ratio", ""] == "contradicted"


def loud(monkeypatch, factor):
    """Converted keys and values `factor(groups, how)` times too large, as a sum in place of a mean would be."""
    real = gqa.convert

    def convert(layer, groups, how):
        new = real(layer, groups, how)
        with torch.no_grad():
            for projection in (new.p_k, new.p_v):
                projection.weight.mul_(factor(groups, how))
        return new

    monkeypatch.setattr(gqa, "convert", convert)


@pytest.mark.parametrize(("bad", "label"), [("mean", "mean before first"), ("first", "first before random")])
def test_a_bad_conversion_contradicts_the_order(bad, label, tmp_path, monkeypatch):
    loud(monkeypatch, lambda groups, how: 1000 if how == bad else 1)
    monkeypatch.setattr(gqa, "GROUPS", {"multi-query": 1})
    lab = Lab(tmp_path)
    for seed in range(3):
        gqa._conversion(lab, 16, 1, 20, seed)
    assert verdicts(lab)["conversion-order", label] == "contradicted"


def test_groups_worse_than_one_head_and_uptraining_that_comes_late_contradict(tmp_path, monkeypatch):
    loud(monkeypatch, lambda groups, how: 100 if groups > 1 else 1)
    real = gqa.training.fit

    def late(model, data, *, steps, on_step=None, **options):
        if on_step:
            on_step(0), on_step(steps // 2)
        real(model, data, steps=10 * steps if on_step else steps, **options)
        if on_step:
            on_step(steps)

    monkeypatch.setattr(gqa.training, "fit", late)
    lab = Lab(tmp_path)
    for seed in range(3):
        gqa._conversion(lab, 16, 1, 20, seed)
    found = verdicts(lab)
    turned = {outcome for (claim, _), outcome in found.items() if claim == "gqa-before-uptraining"}
    assert turned == {"contradicted"}


def test_groups_as_slow_as_heads_contradict_the_speeds(tmp_path, monkeypatch):
    real = GroupedAttention.look

    def slow(self, x, k, v):
        time.sleep(0.05 if 1 < self.kept < self.heads else 0)
        return real(self, x, k, v)

    monkeypatch.setattr(GroupedAttention, "look", slow)
    lab = Lab(tmp_path)
    names = {"1 group": 1, "H/8 groups": 2, "H groups": 16}

    def block(groups):
        return gqa._block(lab, 16, 16, 2, 32, torch.float32, groups)

    gqa._step(lab, block, names, 2, 16, torch.float32, 6, True)
    gqa._decode(lab, block, names, 1, 2, 2, torch.float32, 6)
    found = verdicts(lab, "cuda")
    assert found["speed-gqa8", "a decoder"] == found["speed-gqa8", "faster at all"] == "contradicted"
    assert found["groups-cost", "modest"] == found["groups-cost", "rises towards multi-head"] == "contradicted"
