"""The reproduction of sketched attention at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention.sketched import Sketches
from reproductions.lab import Lab
from reproductions.papers import streaming_attention_approximation as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
LARGE = (4, 5, 128, 4096)


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert found["sparse-error", ""] == "replicated"
    assert found["space", "sublinear"] == found["space", "smaller"] == "replicated"
    assert "no result" not in found.values()
    typical = [row for row in lab.rows() if row.get("family") == "typical" and row["method"] == "zero"]
    assert all(row["within"] == 1.0 for row in typical), "there, the promise says nothing"


def test_the_closed_form_of_the_planted_input_is_attention():
    q, k, v = paper.planted(512, 4, 0)
    assert torch.allclose(paper._exact(q, k, v, paper.planted, 512), paper.sketched_reference(q, k, v), atol=1e-12)


def test_rows_named_wrongly_break_the_promise(tmp_path, monkeypatch):
    real = Sketches._bits_of
    monkeypatch.setattr(Sketches, "_bits_of", lambda self, i: real(self, i + 1))
    lab = Lab(tmp_path)
    for seed in range(4):
        paper._trial(lab, paper.planted, 2048, 4, seed, "large", LARGE)
    assert verdicts(lab)["sparse-error", ""] == "contradicted"


def test_keeping_every_key_is_not_sublinear(tmp_path, monkeypatch):
    monkeypatch.setattr(Sketches, "floats", property(lambda self: 2**self.bits * 2 * paper.D))
    lab = Lab(tmp_path)
    for n in (1024, 2048, 4096):
        paper._space(lab, Sketches(n, paper.D, *LARGE), n, n == 4096)
    found = verdicts(lab)
    assert found["space", "sublinear"] == found["space", "smaller"] == "contradicted"


def test_an_answer_read_row_by_row_is_not_quick(tmp_path, monkeypatch):
    real = Sketches.recover

    def slow(self, k, product=None):
        time.sleep(2**self.bits / 20_000)
        return real(self, k, product)

    monkeypatch.setattr(Sketches, "recover", slow)
    lab = Lab(tmp_path)
    for n in (256, 1024, 4096):
        paper._decode(lab, n, 4, (4, 3, 32, 64), 5)
    assert verdicts(lab)["decode-time", ""] == "contradicted"


@pytest.mark.parametrize(("buckets", "outcome"), [((2**14, 512, 16), "contradicted"), ((16, 512, 2**14), "replicated")])
def test_an_error_that_grows_or_falls_is_told(buckets, outcome, tmp_path):
    lab = Lab(tmp_path)
    for n, value_buckets in zip((512, 1024, 2048), buckets, strict=True):
        for seed in range(4):
            paper._trial(lab, paper.planted, n, 4, seed, "fixed", (4, 5, 128, value_buckets))
    assert verdicts(lab)["error-vs-length", ""] == outcome
