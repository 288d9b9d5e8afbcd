"""The reproduction of dynamic sparse flash attention at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention.sparse_flash import hash_sparse_attention, qk_sparse_attention
from reproductions.lab import Lab
from reproductions.papers import sparse_flash_attention as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
SIMPLE = {"hash": hash_sparse_attention, "dropped": qk_sparse_attention}
AMOUNTS = {"hash": [2, 4, 8], "dropped": [20, 50, 80]}


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    for (claim, label), outcome in verdicts(lab).items():
        if claim in ("exact-pattern", "work"):
            assert outcome == "replicated", (claim, label)
        assert (outcome == "not testable here") == claim.startswith("training"), (claim, label)
    assert "no result" not in verdicts(lab, "cuda").values()


@pytest.mark.parametrize("kind", SIMPLE)
def test_a_token_that_does_not_see_itself_is_told(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(paper.METHODS, kind, lambda *x: SIMPLE[kind](*x, strict=True))
    lab = Lab(tmp_path)
    paper._exactness(lab, kind, {"hash": 8, "dropped": 30}[kind])
    assert verdicts(lab)["exact-pattern", ""] == "contradicted"


def test_a_dropped_query_that_gives_something_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(paper.METHODS, "dropped", lambda *x: qk_sparse_attention(*x) + 1e-3)
    lab = Lab(tmp_path)
    paper._exactness(lab, "dropped", 30)
    assert verdicts(lab)["exact-pattern", "queries that see nothing"] == "contradicted"


@pytest.mark.parametrize(("kind", "label"), [("hash", "hash-sparse"), ("dropped", "QK-sparse")])
def test_a_method_that_skips_nothing_does_all_the_work(kind, label, tmp_path, monkeypatch):
    all_alike = {"hash": torch.zeros_like, "dropped": torch.ones_like}[kind]

    def dense(q, k, v, a, b, impl):
        return SIMPLE[kind](q, k, v, all_alike(a), all_alike(b), impl=impl)

    monkeypatch.setitem(paper.METHODS, kind, dense)
    lab = Lab(tmp_path)
    monkeypatch.setattr(paper, "TILE", 16)  # shorter buckets will do
    paper._work(lab, kind, AMOUNTS[kind], (1, 1, 1024, 4))
    assert verdicts(lab)["work", label] == "contradicted"


@pytest.mark.parametrize(
    ("kind", "labels", "seconds"),
    [
        ("hash", ["hash, in N"], lambda n, a: 0.3 * (n / 256) ** 3),
        ("dropped", ["dropped, in N"], lambda n, a: 0.3 * (n / 256) ** 3),
        ("hash", ["in buckets", "2 buckets"], lambda n, a: 0.05 * int(a.max() + 1)),
        ("dropped", ["in dropped", "20 % dropped"], lambda n, a: 0.05 / float(a.float().mean())),
    ],
)
def test_a_slow_method_contradicts_the_growth(kind, labels, seconds, tmp_path, monkeypatch):
    def slow(q, k, v, a, b):
        time.sleep(seconds(q.shape[2], a))
        return SIMPLE[kind](q, k, v, a, b)

    monkeypatch.setitem(paper.METHODS, kind, slow)
    lab = Lab(tmp_path)
    for n in (64, 128, 256) if "in N" in labels[0] else (256,):
        amounts = AMOUNTS[kind][1:2] if "in N" in labels[0] else AMOUNTS[kind]
        paper._time(lab, kind, amounts, (1, 1, n, 16), 5, n == 256)
    assert [verdicts(lab)["runtime-growth", label] for label in labels] == ["contradicted"] * len(labels)


def test_slow_training_is_told(tmp_path, monkeypatch):
    def slow(*given, **options):
        time.sleep(0.1)
        return hash_sparse_attention(*given, **options)

    monkeypatch.setattr(paper, "hash_sparse_attention", slow)
    lab = Lab(tmp_path)
    for context, name in ((64, "8k"), (128, "16k")):
        paper._train(lab, context, name, 1, 16, 1, 5)
    found = verdicts(lab, "cuda")
    assert (found["training-speed-8k", ""], found["training-speed-16k", ""]) == ("contradicted", "contradicted")
