"""The reproduction of Flash-Decoding at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention import split_kv
from reproductions.lab import Lab
from reproductions.papers import flash_decoding as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert found["exactness", ""] == "replicated"
    assert found["occupancy", "one head"] == "computed"
    assert found["occupancy", "the benchmark's heads"] == "contradicted"  # 16 programs on 108 multiprocessors
    assert found["constant-time", ""] == found["end-to-end", ""] == "not testable here"
    assert "no result" not in verdicts(lab, "cuda").values()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda parts, tops, totals: torch.stack([a / t for a, t in zip(parts, totals, strict=True)]).mean(0),
        lambda parts, tops, totals: sum(parts) / sum(totals),
    ],
    ids=["averaged", "not rescaled"],
)
def test_splits_put_together_wrongly_are_not_exact(mistake, tmp_path, monkeypatch):
    monkeypatch.setattr(split_kv, "combine", mistake)
    lab = Lab(tmp_path)
    paper._exactness(lab, 100)
    assert verdicts(lab)["exactness", ""] in ("contradicted", "no result")  # averaging empty splits gives NaN


def test_a_kernel_with_a_program_a_query_block_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(paper.flash, "tile_sizes", lambda d, itemsize: (0.25, 64, 4, 3))
    lab = Lab(tmp_path)
    paper._grids(lab, 65536)
    assert verdicts(lab)["occupancy", "one head"] == "contradicted"


def slow(call, when, *given, **options):
    time.sleep(0.1 if when(*given) else 0)
    return call(*given, **options)


def test_a_slow_method_contradicts_the_speeds(tmp_path, monkeypatch):
    late = partial(slow, paper.METHODS["Flash-Decoding"], lambda q, k, v: True)
    monkeypatch.setattr(paper, "METHODS", {"FlashAttention": paper._ungrouped, "Flash-Decoding": late})
    lab, draw = Lab(tmp_path), partial(paper._draw, "cpu", torch.float32, 16)
    for setting, b, n in (("shortest", 4, 64), ("twice", 1, 512)):
        paper._time(lab, partial(draw, b, n), b, n, "batch", setting, 5)
    paper._block(lab, 64, 64, 16, 64, torch.float32, 5)
    found = verdicts(lab, "cuda")
    for claim, label in (("attention-speedup", "131072 tokens"), ("gain-large-batch", ""), ("end-to-end", "")):
        assert found[claim, label] == "contradicted", claim


def test_time_that_grows_with_the_context_contradicts_constant_time(tmp_path, monkeypatch):
    late = partial(slow, paper.METHODS["Flash-Decoding"], lambda q, k, v: len(q) == 1)
    monkeypatch.setattr(paper, "METHODS", {"Flash-Decoding": late})
    lab, draw = Lab(tmp_path), partial(paper._draw, "cpu", torch.float32, 16)
    for setting, b, n in (("shortest", 4, 64), ("longest", 1, 256)):
        paper._time(lab, partial(draw, b, n), b, n, "batch", setting, 5)
    assert verdicts(lab, "cuda")["constant-time", ""] == "contradicted"


def test_threads_that_wait_contradict(tmp_path, monkeypatch):
    real = paper._by_threads
    monkeypatch.setattr(
        paper, "_by_threads", lambda map_, splits, *x: slow(real, lambda *_: splits == 2, map_, splits, *x)
    )
    lab = Lab(tmp_path)
    paper._threads(lab, 256, 5)
    assert verdicts(lab)["attention-speedup", "on two threads"] == "contradicted"
