"""The reproduction of FastGen at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.cache import profiles
from kernels.cache.profiles import FixedCache
from reproductions.lab import Lab, models, policies
from reproductions.papers import fastgen as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


@pytest.fixture(scope="module")
def text():
    lm, tokenizer = models.load()
    words = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals. " * 3
    ids = tokenizer(words, return_tensors="pt").input_ids[:, :28].view(2, 14)
    return lm, ids, *paper.kinds(tokenizer, ids)


def read(lab, text, policy=None, monkeypatch=None):
    """The reading alone, every head with `policy` if one is given."""
    if policy is not None:
        monkeypatch.setattr(profiles, "profile", lambda p, *rest: torch.full(p.shape[:2], policy))
    return paper._read(lab, *text, 7, [0.98, 0.95], 2)


def test_the_smallest_size_reaches_every_check(tmp_path, monkeypatch):
    """Whatever T are asked for; its profiles are a line beside the other policies."""
    monkeypatch.setattr(policies, "POLICIES", ("window",))
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters | {"tokens": 14, "prompt": 6, "block": 2, "profiled": 8, "recover": [0.98]})
    assert "no result" not in verdicts(lab, "cuda").values()
    assert verdicts(lab)["latency", ""] == "not testable here"
    rows = [row for row in lab.rows() if row.get("beside") == "head profiles"]
    assert [row["kept"] for row in rows][2:] == [100] and all(0 < row["kept"] < 100 for row in rows[:2])


def test_punctuation_and_the_first_token(text):
    _, ids, special, marks = text
    _, tokenizer = models.load()
    assert special.sum(1).tolist() == [1, 1] and special[:, 0].all()
    assert {tokenizer.decode([i]) for i in ids[marks].tolist()} == {";", ",", "."} and marks.sum() >= 3


def test_keeping_everything_prunes_nothing_and_loses_nothing(text, tmp_path, monkeypatch):
    lab = Lab(tmp_path)
    made = read(lab, text, 4, monkeypatch)
    paper._heads(lab, made["fastgen 0.95"])
    found = verdicts(lab)
    assert found["quality-kept", ""] == "replicated"
    labels = [("pruned-ratio", "T = 0.95"), ("pruned-ratio", "T = 0.98"), ("head-diversity", "middle, special only"),
              ("head-diversity", "full at the ends")]  # fmt: skip
    assert {found[label] for label in labels} == {"contradicted"}


@pytest.mark.parametrize("policy", [0, 4])
def test_fixed_policies_keep_the_same_share_and_each_text_is_told(policy, text, tmp_path, monkeypatch):
    lab = Lab(tmp_path)
    read(lab, text, policy, monkeypatch)
    pruned = {row["method"]: row["pruned"] for row in lab.rows() if "pruned" in row}
    for fixed in paper.FIXED:
        assert pruned[f"{fixed}, as 0.95"] == pytest.approx(pruned["fastgen 0.95"], abs=0.05)
    each = [row["text_pruned"] for row in lab.rows() if row["method"] == "fastgen 0.95" and "text_pruned" in row]
    assert len(each) == 2 and sum(each) / 2 == pytest.approx(pruned["fastgen 0.95"], abs=1e-9)


def test_keeping_the_first_token_alone_loses_to_fixed_policies_that_keep_all(text, tmp_path, monkeypatch):
    monkeypatch.setattr(FixedCache, "choose", lambda self: torch.arange(self.tokens).expand_as(self.places))
    lab = Lab(tmp_path)
    read(lab, text, 0, monkeypatch)
    found = verdicts(lab)
    assert found["quality-kept", ""] == found["pruned-ratio", "T = 0.95"] == "contradicted"
    assert {found["beats-fixed", f"before {fixed}"] for fixed in paper.FIXED} == {"contradicted"}


def test_slow_profiles_and_slow_ragged_heads_contradict(text, tmp_path, monkeypatch):
    real, attention = paper.profile, paper.split_kv_attention

    def slow(*given):
        time.sleep(0.005)
        return real(*given)

    def late(q, k, v, lengths=None):
        time.sleep(0.003 if lengths is not None and lengths.max() < 50 else 0)
        return attention(q, k, v, lengths)

    monkeypatch.setattr(paper, "profile", slow)
    monkeypatch.setattr(paper, "split_kv_attention", late)
    lab = Lab(tmp_path)
    lm, ids, special, marks = text
    paper._profiling(lab, lm, ids[:1], special[:1], marks[:1], 5)
    paper._step(lab, lm, [torch.tensor([0.3, 0.5, 0.1])] * lm.config.num_hidden_layers, 64, 5)
    found = verdicts(lab, "cuda")
    assert found["profiling-cost", ""] == found["latency", ""] == "contradicted"
