"""The reproduction of products in registers at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest

from kernels.gemm.refined import refined_matmul
from kernels.gemm.structured import structured_matmul
from reproductions.lab import Lab
from reproductions.papers import wmma_extension as work
from tests.kernels.compiling import uninterpreted
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, work.CHECKS)
compiled = partial(uninterpreted, "kernels.gemm.structured", "compiled")

SMOKE = work.SIZES["smoke"]


@pytest.fixture(autouse=True)
def as_a_run_compiles(monkeypatch):
    """This process interprets kernels; a run's own does not."""
    monkeypatch.setattr(work, "compiled", compiled)


def test_the_smallest_size_finds_what_can_be_found_without_a_gpu(tmp_path):
    lab = Lab(tmp_path)
    work.run(lab, **SMOKE.parameters)
    assert verdicts(lab) == {
        ("smem-bound", ""): "replicated",
        ("sgemm-emulation", ""): "not testable here",
        ("accuracy", ""): "replicated",
        ("footprint", "bytes of shared memory"): "replicated",
        ("footprint", "time"): "not testable here",
    }
    ratios = [row["needed_over_available"] for row in lab.rows() if "needed_over_available" in row]
    assert ratios == [2.0, 1.0, 0.5], "the card's own count: a tile twice as large needs half as much"


def test_residuals_that_are_not_scaled_lose_accuracy(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "EMULATED", partial(refined_matmul, products=3))
    lab = Lab(tmp_path)
    work._accuracy(lab, 64, -12, 0)
    assert verdicts(lab)["accuracy", ""] == "contradicted"


def test_a_residual_left_out_loses_accuracy(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "EMULATED", partial(refined_matmul, products=2, scale=2048.0))
    lab = Lab(tmp_path)
    work._accuracy(lab, 64, 0, 0)
    assert verdicts(lab)["accuracy", ""] == "contradicted"


def test_a_matrix_that_is_staged_after_all_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "compiled", lambda n, rotates, stage, **options: compiled(n, rotates, 1, **options))
    lab = Lab(tmp_path)
    work._bytes(lab, [16])
    assert verdicts(lab)["footprint", "bytes of shared memory"] == "contradicted"


def test_fragments_that_need_no_loading_are_not_bound_by_it(tmp_path, monkeypatch):
    def light(n, rotates, stage, **options):
        return compiled(n, rotates, min(stage, 1), **options) if "warps" not in options else compiled(n, rotates, 0)

    monkeypatch.setattr(work, "compiled", light)
    lab = Lab(tmp_path)
    work._bytes(lab, [16])
    assert verdicts(lab)["smem-bound", ""] == "contradicted"


def test_slow_methods_contradict_the_speeds(tmp_path, monkeypatch):
    def late(call):
        def called(*given, **options):
            if options.get("stage") != 1:
                time.sleep(0.03)
            return call(*given, **options)

        return called

    monkeypatch.setattr(work, "EMULATED", late(work.EMULATED))
    monkeypatch.setattr(work, "structured_matmul", late(structured_matmul))
    lab = Lab(tmp_path)
    work._time(lab, 64, 2, 5)
    for rotates in (False, True):
        work._structured(lab, 16, 4, 32, rotates, 5)
    found = verdicts(lab, "cuda")
    assert found["sgemm-emulation", ""] == found["footprint", "time"] == "contradicted"
