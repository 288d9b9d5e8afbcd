"""The reproduction of FlashAttention at its smallest size: what it finds, and that it would have found the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels import traffic
from kernels.attention.flash import attention_reference, flash_attention
from reproductions.lab import Lab
from reproductions.papers import flashattention
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, flashattention.CHECKS)

SMOKE = flashattention.SIZES["smoke"]
COUNT = ("length", 64, 8, 128)


def test_the_claims_hold_at_the_smallest_size(tmp_path):
    lab = Lab(tmp_path)
    flashattention.run(lab, **SMOKE.parameters)
    gpu = {"runtime", "attention-speed", "hbm-traffic"}
    for (claim, label), outcome in verdicts(lab).items():
        assert outcome == ("not testable here" if claim in gpu else "replicated"), (claim, label)
    assert "no result" not in verdicts(lab, "cuda").values()


def off_by_one(q, k, v, causal=False):
    """A causal mask one key too narrow; everything else as it should be."""
    if not causal:
        return flash_attention(q, k, v)
    later = torch.nn.functional.pad(k, (0, 0, 1, 0))[:, :, :-1], torch.nn.functional.pad(v, (0, 0, 1, 0))[:, :, :-1]
    return flash_attention(q, *later, causal=True)


class Wrong(torch.autograd.Function):
    """The right output, with a gradient of Q that is a hundredth too large."""

    @staticmethod
    def forward(ctx, q, k, v, causal):
        ctx.save_for_backward(q, k, v)
        ctx.causal = causal
        return flash_attention(q, k, v, causal)

    @staticmethod
    def backward(ctx, g):
        q, k, v = (x.detach().requires_grad_() for x in ctx.saved_tensors)
        with torch.enable_grad():
            dq, dk, dv = torch.autograd.grad(attention_reference(q, k, v, ctx.causal), (q, k, v), g)
        return dq * 1.01, dk, dv, None


BREAKS = {
    "mask off by one": off_by_one,
    "scale twice": lambda q, k, v, causal=False: flash_attention(q * q.shape[-1] ** -0.5, k, v, causal),
    "scale a thousandth off": lambda q, k, v, causal=False: flash_attention(q * 1.001, k, v, causal),
    "wrong gradient, right output": lambda q, k, v, causal=False: Wrong.apply(q, k, v, causal),
}


@pytest.mark.parametrize("mistake", BREAKS)
def test_a_wrong_method_is_not_exact(mistake, tmp_path, monkeypatch):
    monkeypatch.setattr(flashattention, "flash_attention", BREAKS[mistake])
    lab = Lab(tmp_path)
    flashattention._exactness(lab, 64, 200, 200, True)
    assert verdicts(lab)["exactness", ""] == "contradicted"


def count(lab, monkeypatch, forward, backward):
    """The counted part of the run, smaller, with the method's algorithms replaced."""
    monkeypatch.setitem(flashattention.ALGORITHMS, "flash", (forward, backward))
    for n in (128, 256, 512):
        flashattention._count(lab, "length", n, 16, 512)
    for fast in (512, 1024, 2048):
        flashattention._count(lab, "fast memory", 512, 16, fast)
    flashattention._count(lab, "GPT-2 medium", 1024, 64, 96 * 1024)
    return verdicts(lab)


def test_the_smaller_count_holds_without_a_mistake(tmp_path, monkeypatch):
    found = count(Lab(tmp_path), monkeypatch, traffic.flash_forward, traffic.flash_backward)
    assert {outcome for (claim, _), outcome in found.items() if claim == "io-complexity"} == {"replicated"}


def blocks_of_16(algorithm):
    """The algorithm with blocks that do not grow with fast memory."""
    return lambda memory, fast: algorithm(memory, 16 * 4 * memory.shape("Q")[1])


def test_blocks_that_do_not_grow_with_fast_memory_are_counted(tmp_path, monkeypatch):
    fixed = blocks_of_16(traffic.flash_forward), blocks_of_16(traffic.flash_backward)
    found = count(Lab(tmp_path), monkeypatch, *fixed)
    assert found["io-complexity", "in M"] == "contradicted"
    assert found["exactness", "what is counted is right"] == "replicated"


def test_the_whole_matrix_in_slow_memory_is_counted(tmp_path, monkeypatch):
    found = count(Lab(tmp_path), monkeypatch, traffic.standard_forward, traffic.standard_backward)
    assert found["io-complexity", "in M"] == "contradicted"
    assert found["io-complexity", "fewer than standard"] == "contradicted"


def test_a_method_that_reads_ever_more_is_counted(tmp_path, monkeypatch):
    def again(memory, fast):
        traffic.flash_forward(memory, fast)
        n = memory.shape("Q")[0]
        for _ in range(n * n // 64):
            memory.load("K", slice(None))

    found = count(Lab(tmp_path), monkeypatch, again, traffic.flash_backward)
    assert found["io-complexity", "in N"] == "contradicted"


def test_a_counted_algorithm_that_skips_its_last_keys_is_caught_by_its_result(tmp_path, monkeypatch):
    def shorter(memory, fast):
        whole = memory.shape
        memory.shape = lambda name: (whole(name)[0] - (name == "K"), whole(name)[1])
        traffic.flash_forward(memory, fast)
        memory.shape = whole

    monkeypatch.setitem(flashattention.ALGORITHMS, "flash", (shorter, traffic.flash_backward))
    lab = Lab(tmp_path)
    flashattention._count(lab, *COUNT)
    assert verdicts(lab)["exactness", "what is counted is right"] == "contradicted"


def hoarding(q, k, v):
    """The right output; sixteen matrices of scores stay in memory until it is there."""
    scores = torch.ones(16, q.shape[2], k.shape[2])
    return flash_attention(q, k, v) * scores[0, 0, 0]


def test_a_method_that_keeps_the_matrix_is_not_linear_in_memory(tmp_path, monkeypatch):
    monkeypatch.setitem(flashattention.METHODS, "flash", hoarding)
    lab = Lab(tmp_path)
    for n in (1024, 2048, 4096):
        for repeat in range(2):
            flashattention._memory(lab, (1, 1, n, 64), torch.float32, repeat)
    found = verdicts(lab)
    assert found["memory", "grows linearly"] == found["memory", "standard / flash at 4096"] == "contradicted"


def test_a_slower_method_contradicts_the_speed_claims(tmp_path, monkeypatch):
    def slow(q, k, v):
        time.sleep(0.5)
        return flash_attention(q, k, v)

    monkeypatch.setitem(flashattention.METHODS, "flash", slow)
    lab = Lab(tmp_path)
    flashattention._time(lab, (1, 1, 1024, 64), torch.float32, 5)
    found = verdicts(lab, "cuda")
    assert found["runtime", ""] == found["attention-speed", ""] == "contradicted"
