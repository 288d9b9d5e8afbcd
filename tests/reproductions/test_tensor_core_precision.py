"""The reproduction of refined products at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest

from kernels.gemm import refined
from reproductions.lab import Lab
from reproductions.papers import tensor_core_precision as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
GPU = {"throughput", "vs-half", "batched"}


def test_the_claims_hold_at_the_smallest_size(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    for (claim, label), outcome in verdicts(lab).items():
        assert outcome == ("not testable here" if claim in GPU else "replicated"), (claim, label)


def errors(lab, sizes=(32, 64, 128)):
    for n in sizes:
        for case in range(6):
            paper._errors(lab, n, case, n == max(sizes))


def residual(monkeypatch, factor_a, factor_b):
    """Residuals of A and of B, each times a factor."""
    real, calls = refined.split, []

    def split(x, scale=1.0):
        half, rest = real(x, scale)
        calls.append(x)
        return half, rest * (factor_a if len(calls) % 2 else factor_b)

    monkeypatch.setattr(refined, "split", split)


def test_a_residual_of_the_wrong_sign_does_not_help(tmp_path, monkeypatch):
    lab = Lab(tmp_path)
    residual(monkeypatch, -1, 1)
    errors(lab)
    assert verdicts(lab)["refinement", "A helps"] == "contradicted"


def test_without_the_second_residual_both_are_no_better_than_one(tmp_path, monkeypatch):
    lab = Lab(tmp_path)
    residual(monkeypatch, 1, 0)
    errors(lab)
    found = verdicts(lab)
    assert found["refinement", "A helps"] == "replicated"
    assert found["refinement", "both far more than one"] == "contradicted"
    assert found["refinement", "A and B help considerably"] == "contradicted"


def test_an_error_that_does_not_come_from_the_inputs_does_not_grow(tmp_path, monkeypatch):
    def biased(a, b, products):
        return a.double() @ b.double() + 1000 / len(a) / a.abs().max()

    lab = Lab(tmp_path)
    monkeypatch.setattr(paper, "refined_matmul", biased)
    errors(lab)
    found = verdicts(lab)
    assert found["error-growth", "with the size"] == found["error-growth", "with the range"] == "contradicted"


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_slow_products_contradict_the_rates(pause, tmp_path, monkeypatch):
    def slow(real):
        def call(*arguments):
            time.sleep(pause)
            return real(*arguments)

        return call

    monkeypatch.setattr(paper, "refined_matmul", slow(paper.refined_matmul))
    monkeypatch.setattr(paper, "small_matmul", slow(paper.small_matmul))
    lab = Lab(tmp_path)
    paper._time(lab, 64, 6)
    paper._batched(lab, 64, 6, True)
    found = verdicts(lab, "cuda")
    reached = {outcome for (claim, _), outcome in found.items() if claim in GPU}
    assert "no result" not in reached
    if pause:
        assert found["throughput", "our kernel"] == found["batched", ""] == "contradicted"


def test_a_slow_library_contradicts_its_rate(tmp_path, monkeypatch):
    def timed(repeats, make, **methods):
        return {name: [1.0] * repeats for name in methods}

    lab = Lab(tmp_path)
    monkeypatch.setattr(lab, "time", timed)
    paper._time(lab, 64, 6)
    assert verdicts(lab, "cuda")["throughput", "the library's product"] == "contradicted"
