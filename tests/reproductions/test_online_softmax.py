"""The reproduction of online softmax at its smallest size: what it finds, and that it would have found the opposite."""

import time

import torch

from kernels.softmax import counted
from kernels.softmax.online import softmax
from kernels.softmax.topk import softmax_topk
from reproductions.lab import Lab
from reproductions.papers import online_softmax
from reproductions.spec import judge

SMOKE = online_softmax.SIZES["smoke"]


def outcomes(folder, device="cpu"):
    """(claim, label) -> outcome; "cuda" judges the rows as a GPU's, to reach the checks that ask for one."""
    lab = Lab(folder, device="cpu", seed=0)
    if not lab.rows():
        online_softmax.run(lab, **SMOKE.parameters)
    verdicts = judge(online_softmax.CHECKS, lab.rows(), device=device, scale=SMOKE.scale)
    assert all(verdict.outcome != "no result" for verdict in verdicts), verdicts
    return {(verdict.claim, verdict.label): verdict.outcome for verdict in verdicts}


def test_the_claims_hold_at_the_smallest_size(tmp_path):
    found = outcomes(tmp_path)
    gpu = {"softmax-speedup", "topk-speedup", "topk-k-decay"}
    assert {claim for (claim, _), outcome in found.items() if outcome == "not testable here"} == gpu
    assert all(outcome == "replicated" for (claim, _), outcome in found.items() if claim not in gpu)


def test_naive_softmax_is_not_as_safe(tmp_path, monkeypatch):
    monkeypatch.setattr(online_softmax, "softmax", lambda x, method: softmax(x, "naive"))
    assert outcomes(tmp_path)["exactness", "as safe"] == "contradicted"


def test_a_normaliser_that_is_not_rescaled_is_not_exact(tmp_path, monkeypatch):
    def unscaled(x, method):
        y = softmax(x, method)
        parts = x.split(1024, dim=1)
        d = sum(torch.exp(part - part.amax(1, keepdim=True).clamp_min(-1e30)).sum(1, keepdim=True) for part in parts)
        return torch.exp(x - x.amax(1, keepdim=True)) / d if method == "online" else y

    monkeypatch.setattr(online_softmax, "softmax", unscaled)
    assert outcomes(tmp_path)["exactness", ""] == "contradicted"


def test_an_online_softmax_that_reads_the_row_once_more_is_counted(tmp_path, monkeypatch):
    def reads_again(memory):
        counted.online(memory)
        for i in range(memory.length):
            memory.load("x", i)

    monkeypatch.setitem(online_softmax.COUNTED, "online", reads_again)
    assert outcomes(tmp_path)["accesses-softmax", ""] == "contradicted"


def test_top_k_that_is_not_fused_is_counted(tmp_path, monkeypatch):
    monkeypatch.setitem(online_softmax.COUNTED_TOPK, "online, fused top-k", counted.then_topk(counted.online))
    assert outcomes(tmp_path)["accesses-topk", ""] == "contradicted"


def test_a_counted_algorithm_that_skips_half_the_row_is_caught_by_its_result(tmp_path, monkeypatch):
    def half(memory):
        memory.length //= 2
        counted.online(memory)
        memory.length *= 2

    monkeypatch.setitem(online_softmax.COUNTED, "online", half)
    assert outcomes(tmp_path)["exactness", "what is counted is right"] == "contradicted"


def test_slower_methods_contradict_the_speed_claims(tmp_path, monkeypatch):
    def slow_online(x, method):
        if method == "online":
            time.sleep(0.25)
        return softmax(x, method)

    def slow_fused(x, k, fused=True):
        if fused:
            time.sleep(0.1 if k > 5 else 1.0)
        return softmax_topk(x, k, fused)

    monkeypatch.setattr(online_softmax, "softmax", slow_online)
    monkeypatch.setattr(online_softmax, "softmax_topk", slow_fused)
    found = outcomes(tmp_path, device="cuda")
    for claim in ("softmax-speedup", "topk-speedup", "topk-k-decay"):
        assert found[claim, ""] == "contradicted"
