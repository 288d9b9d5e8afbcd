"""The reproduction of the derivation at its smallest size, and that it would find the opposite."""

from functools import partial

import pytest
import torch

from kernels.attention import passes
from reproductions.lab import Lab
from reproductions.papers import online_softmax_to_flashattention as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


def test_the_claims_hold_at_the_smallest_size(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    assert set(verdicts(lab).values()) == {"replicated"}


def recurrences(lab):
    for n in (5, 7, 30):
        for family in ("normal", "increasing"):
            paper._recurrences(lab, family, n, 8, 4, [1, 4])


def asks_twice(monkeypatch):
    real = passes.Stream.logits
    monkeypatch.setattr(passes.Stream, "logits", lambda self, cols: (real(self, cols), real(self, cols))[0])


def unnormalised(monkeypatch):
    """o' kept as FlashAttention-2 keeps it, and never divided."""
    monkeypatch.setattr(passes, "_divide", lambda x, d: x)


def maximum_too_late(monkeypatch):
    """The state is not rescaled when the maximum moves."""
    real = passes._exp
    monkeypatch.setattr(passes, "_exp", lambda x, m: real(x, m) if x.shape[1] != 1 else real(x, m).clamp(min=0.9))


MISTAKES = [
    (asks_twice, "passes", "three passes"),
    (asks_twice, "passes", "two passes"),
    (asks_twice, "passes", "one pass"),
    (asks_twice, "passes", "tiled"),
    (asks_twice, "softmax-not-one-pass", "passes of a right softmax"),
    (unnormalised, "surrogate-final", "o' at the end"),
    (unnormalised, "surrogate-final", "o' on the way"),
    (maximum_too_late, "surrogate-final", "d' at the end"),
    (maximum_too_late, "tile-invariance", ""),
]


@pytest.mark.parametrize(("mistake", "claim", "label"), MISTAKES, ids=[f"{m[0].__name__}-{m[2]}" for m in MISTAKES])
def test_a_mistake_is_told(mistake, claim, label, tmp_path, monkeypatch):
    mistake(monkeypatch)
    lab = Lab(tmp_path)
    recurrences(lab)
    assert verdicts(lab)[claim, label] == "contradicted"


def test_a_softmax_that_one_pass_could_write_contradicts(tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "softmax_written_at_once", lambda stream: stream._logits.double().softmax(-1))
    lab = Lab(tmp_path)
    recurrences(lab)
    assert verdicts(lab)["softmax-not-one-pass", "written in one pass"] == "contradicted"
    assert torch.get_default_dtype() is torch.float32
