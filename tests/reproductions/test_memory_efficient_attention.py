"""The reproduction of attention in chunks at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.attention import chunked
from kernels.attention.flash import attention_reference
from reproductions.lab import Lab
from reproductions.papers import memory_efficient_attention as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
METHOD = "chunks of 1024 and 4096"
SHAPE = (1, 1, 4096, 16)


def test_the_claims_hold_at_the_smallest_size(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    for (claim, label), outcome in verdicts(lab).items():
        assert outcome == ("not testable here" if claim == "runtime" else "replicated"), (claim, label)
    assert "no result" not in verdicts(lab, "cuda").values()


def without_rescaling(q, keys, scale):
    found = [chunked._summary(q * scale, *chunk) for chunk in keys]
    return sum(value for value, _, _ in found) / sum(weight for _, weight, _ in found)


def overflowing(q, k, v):
    p = (q @ k.to(q.dtype).mT).exp()
    return p @ v.to(q.dtype), p.sum(-1, keepdim=True), torch.zeros_like(p[..., :1])


def test_summaries_that_are_not_rescaled_are_not_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(chunked, "_one_chunk", without_rescaling)
    lab = Lab(tmp_path)
    paper._exactness(lab, 32, 200, 129, 64, 32)
    assert verdicts(lab)["exactness", ""] == "contradicted"


def test_without_the_maximum_it_overflows(tmp_path, monkeypatch):
    monkeypatch.setattr(chunked, "_summary", overflowing)
    lab = Lab(tmp_path)
    paper._exactness(lab, 32, 200, 129, 64, 32)
    assert verdicts(lab)["exactness", "stable"] == "contradicted"


@pytest.mark.parametrize(("training", "claim"), [(False, "memory-inference"), (True, "memory-training")])
def test_a_method_that_keeps_its_scores_saves_nothing(training, claim, tmp_path, monkeypatch):
    monkeypatch.setitem(paper.METHODS, METHOD, attention_reference)
    lab = Lab(tmp_path)
    for repeat in range(2):
        paper._memory(lab, SHAPE, torch.float32, training, repeat, True)
    assert verdicts(lab)[claim, ""] == "contradicted"


def keeps_all_scores(q, k, v, query_chunk, key_chunk):
    return attention_reference(q, k, v)


def test_quadratic_growth_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "chunked_attention", keeps_all_scores)
    lab = Lab(tmp_path)
    for n in (1024, 2048, 4096):
        for repeat in range(2):
            paper._growth(lab, (1, 1, n, 16), torch.float32, repeat)
    assert verdicts(lab)["memory-growth", ""] == "contradicted"


def test_slow_chunks_contradict_the_runtime(tmp_path, monkeypatch):
    def slow(q, k, v):
        time.sleep(0.05)
        return chunked.chunked_attention(q, k, v)

    monkeypatch.setitem(paper.METHODS, METHOD, slow)
    lab = Lab(tmp_path)
    paper._time(lab, (1, 1, 64, 16), torch.float32, 6, True)
    assert verdicts(lab, "cuda")["runtime", ""] == "contradicted"
