"""The reproduction of FlashAttention-2 at its smallest size: what it finds, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention import flash2, masks
from kernels.attention.flash import flash_attention
from kernels.attention.flash2 import flash_attention_2
from kernels.attention.masks import Mask
from reproductions.lab import Lab
from reproductions.papers import flashattention_2
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, flashattention_2.CHECKS)

SMOKE = flashattention_2.SIZES["smoke"]
SPEED = ("speed-vs-fa1", "than in Triton"), ("speed-vs-fa1", "than standard")
H100 = ("h100-speed", ""), ("h100-speed", "PyTorch's own")
ELSEWHERE = {*SPEED, *H100, ("peak-share", ""), ("training", "")}


def test_the_claims_hold_at_the_smallest_size(tmp_path):
    lab = Lab(tmp_path)
    flashattention_2.run(lab, **SMOKE.parameters)
    for check, outcome in verdicts(lab).items():
        if check != ("causal-skip", ""):  # at 2048 keys half of the time may be other work
            assert outcome == ("not testable here" if check in ELSEWHERE else "replicated"), check
    missing = {check for check, outcome in verdicts(lab, "cuda").items() if outcome == "no result"}
    assert missing == set(H100)  # which want 16384 keys


BREAKS = {
    "mask off by one": lambda q, k, v, **mask: flash_attention_2(q, k.roll(1, 2), v.roll(1, 2), **mask),
    "scale a thousandth off": lambda q, k, v, **mask: flash_attention_2(q * 1.001, k, v, **mask),
    "no mask at all": lambda q, k, v, **mask: flash_attention_2(q, k, v),
}


@pytest.mark.parametrize("mistake", BREAKS)
def test_a_wrong_method_is_not_exact(mistake, tmp_path, monkeypatch):
    monkeypatch.setattr(flashattention_2, "flash_attention_2", BREAKS[mistake])
    lab = Lab(tmp_path)
    flashattention_2._exactness(lab, 200, 200, 8, Mask(True))
    assert verdicts(lab)["exactness", ""] == "contradicted"


def test_a_gradient_from_a_wrong_logsumexp_is_not_exact(tmp_path, monkeypatch):
    real = flash2.backward_torch
    monkeypatch.setattr(flash2, "backward_torch", lambda q, k, v, lse, *rest: real(q, k, v, lse + 1e-4, *rest))
    lab = Lab(tmp_path)
    flashattention_2._exactness(lab, 200, 200, 8, Mask(True))
    assert {row["tensor"] for row in lab.rows() if row["error_ratio"] > 2} == {"dQ", "dK", "dV"}
    assert verdicts(lab)["exactness", ""] == "contradicted"


def test_a_method_that_keeps_maximum_and_normaliser_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(flashattention_2.FUSED, "FlashAttention-2", flash_attention)
    lab = Lab(tmp_path)
    flashattention_2._kept(lab)
    assert verdicts(lab)["exactness", "keeps one number a row"] == "contradicted"


def hoarding(q, k, v):
    """The right output; sixteen matrices of scores stay in memory until it is there."""
    scores = torch.ones(16, q.shape[2], k.shape[2])
    return flash_attention_2(q, k, v) * scores[0, 0, 0]


def test_a_method_that_keeps_the_matrix_is_not_linear_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(flashattention_2, "flash_attention_2", hoarding)
    lab = Lab(tmp_path)
    for n in (1024, 2048, 4096):
        for repeat in range(2):
            flashattention_2._memory(lab, n, torch.float32, repeat)
    assert verdicts(lab)["exactness", "memory grows linearly"] == "contradicted"


def test_a_method_that_rescales_at_every_step_is_counted(tmp_path, monkeypatch):
    monkeypatch.setitem(flashattention_2.ALGORITHMS, "FlashAttention-2", flashattention_2._older)
    lab = Lab(tmp_path)
    flashattention_2._count(lab, 256)
    found = verdicts(lab)
    assert found["speed-vs-fa1", "fewer operations outside products"] == "contradicted"
    assert found["speed-vs-fa1", "what is counted is right"] == "replicated"


def test_a_counted_algorithm_that_leaves_out_keys_is_caught_by_its_result(tmp_path, monkeypatch):
    short = lambda q, k, v: flash_attention_2(q, k[:, :, :-1], v[:, :, :-1], impl="torch")  # noqa: E731
    monkeypatch.setitem(flashattention_2.ALGORITHMS, "FlashAttention-2", short)
    lab = Lab(tmp_path)
    flashattention_2._count(lab, 256)
    assert verdicts(lab)["speed-vs-fa1", "what is counted is right"] == "contradicted"


def test_blocks_that_are_not_skipped_contradict_the_saving(tmp_path, monkeypatch):
    def every(mask, *tile):
        time.sleep(0.002 if mask.causal else 0)  # far above what a busy machine adds to one of two equal times
        return "some"

    monkeypatch.setattr(masks.Mask, "seen_of", every)
    lab = Lab(tmp_path)
    flashattention_2._skip(lab, 1, 2048, torch.float32, 5, True)
    assert verdicts(lab)["causal-skip", ""] == "contradicted"


def test_a_slower_method_contradicts_the_speed_claims(tmp_path, monkeypatch):
    def slow(q, k, v, causal):
        time.sleep(0.2)
        return flash_attention_2(q, k, v, causal)

    monkeypatch.setitem(flashattention_2.FUSED, "FlashAttention-2", slow)
    lab = Lab(tmp_path)
    flashattention_2._time(lab, (1, 1, 256, 64), "none", torch.float32, 5, True)
    assert {verdicts(lab, "cuda")[check] for check in SPEED} == {"contradicted"}


@pytest.mark.parametrize(("ms", "outcome"), [(1000.0, "contradicted"), (0.1, "replicated")])
def test_the_rate_at_16384_is_judged(ms, outcome, tmp_path):
    lab = Lab(tmp_path)
    names = "FlashAttention in Triton", "FlashAttention-2", "PyTorch's FlashAttention-2"
    lab.time = lambda *given, **methods: {name: [ms + i / 1e6 for i in range(5)] for name in names}
    flashattention_2._time(lab, (1, 32, 16384, 64), "none", torch.float16, 5, True)
    assert {verdicts(lab, "cuda")[check] for check in H100} == {outcome}
