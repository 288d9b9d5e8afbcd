"""The reproduction of multi-query attention at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention import multi_query
from kernels.attention.multi_query import Attention, multi_query_attention, multi_query_reference
from reproductions.lab import Lab, training
from reproductions.papers import mqa
from reproductions.spec import judge
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, mqa.CHECKS)

SMOKE = mqa.SIZES["smoke"]


def test_the_smallest_size_counts_what_is_claimed_and_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    mqa.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert found["cache-size", "bytes read"] == found["cache-size", "arithmetic"] == "replicated"
    assert found["beam-speed", ""] == found["quality-lm", ""] == "not testable here"
    assert "no result" not in verdicts(lab, "cuda").values()
    sizes = {row["method"]: row["parameters"] for row in lab.rows() if "parameters" in row}
    assert len(sizes) == 4 and max(sizes.values()) - min(sizes.values()) <= 16, "equal parameters"


def test_keys_that_are_copied_for_every_head_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(multi_query, "multi_query_attention", multi_query_reference)
    lab = Lab(tmp_path)
    mqa._count(lab, 32, 8)
    assert verdicts(lab)["cache-size", "bytes read"] == "contradicted"


def test_a_step_that_projects_the_past_again_is_counted(tmp_path, monkeypatch):
    def again(self, x, cache):
        if self.kept == 1:
            self.keys(x.repeat(1, 256, 1))
        return self.look(x, *cache.append(*self.keys(x)))

    monkeypatch.setattr(Attention, "step", again)
    lab = Lab(tmp_path)
    mqa._count(lab, 32, 8)
    assert verdicts(lab)["cache-size", "arithmetic"] == "contradicted"


def test_a_shared_head_that_does_not_learn_costs_quality(tmp_path, monkeypatch):
    real = training.fit

    def frozen(model, data, **options):
        return model if model.blocks[0].attention.kept == 1 else real(model, data, **options)

    monkeypatch.setattr(training, "fit", frozen)
    lab = Lab(tmp_path)
    for seed in range(3):
        mqa._quality(lab, 16, 1, 30, seed)
    found = verdicts(lab)
    assert found["quality-wmt", "against smaller heads"] == found["quality-wmt", "the loss is small"] == "contradicted"
    pairs = [row | {"seed": row["seed"] + 3 * i} for row in lab.rows() if "loss" in row for i in range(2)]
    check = [check for check in mqa.CHECKS if check.claim == "quality-lm"]
    assert judge(check, pairs, device="cuda", scale="reduced")[0].outcome == "contradicted"


def test_a_slow_shared_head_contradicts_the_speeds(tmp_path, monkeypatch):
    def slow(*args):
        time.sleep(0.1)
        return multi_query_attention(*args)

    monkeypatch.setattr(mqa, "multi_query_attention", slow)
    monkeypatch.setattr(multi_query, "multi_query_attention", slow)
    lab = Lab(tmp_path)
    mqa._attention(lab, 1, 32, 64, torch.float32, 6)
    for beam in (1, 4):
        mqa._decode(lab, (32, 1, 16, 1, 2), beam, torch.float32, 6)
    mqa._train_step(lab, 1, 32, 16, 6)
    found = verdicts(lab, "cuda")
    assert found["decode-speed", "attention alone"] == found["decode-speed", "a decoder"] == "contradicted"
    assert found["beam-speed", ""] == found["no-training-gain", ""] == "contradicted"


@pytest.mark.parametrize(("shared", "hidden"), [(False, 4096), (True, 4992)])
def test_the_feed_forward_layer_is_widened_as_in_the_paper(shared, hidden):
    """By 896 an attention layer: 4096 + 1.5 * 896 = 5440 with one and a half a block, as in the paper."""
    assert mqa._block(1024, 8, 128, shared).feed[0].out_features == hidden
