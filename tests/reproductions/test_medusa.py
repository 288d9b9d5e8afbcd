"""The reproduction of Medusa at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from reproductions.lab import models
from reproductions.papers import medusa as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)
ACCURACY = [[0.6, 0.2, 0.1], [0.5, 0.2, 0.1], [0.4, 0.1, 0.1], [0.3, 0.1, 0.1]]


@pytest.fixture(scope="module")
def real():
    return models.load()


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **paper.SIZES["smoke"].parameters)
    found = verdicts(lab, "cuda")
    late = {key for key, outcome in found.items() if outcome == "no result"}
    assert late <= {("head-accuracy", "top-5 over top-1")}, "untrained heads are never right"
    assert found["greedy-exact", ""] == "replicated"
    assert {row["nodes"] for row in lab.rows() if row.get("method") == "chain"} == {3}, "one a head"
    assert verdicts(lab)["medusa1-speed", ""] == "not testable here"


def test_a_text_that_follows_second_choices_contradicts_the_sparse_tree(lab):
    """Built from the wrong accuracies, the sparse tree holds what is never right."""
    ranks = torch.full((6, 30, 4), 2)
    paper._tokens(lab, "greedy", ranks, [1.0] * 6, ACCURACY, [3, 3, 3], [4])
    assert verdicts(lab)["sparse-tree", "tokens a step"] == "contradicted"


def test_a_text_that_follows_first_choices_replicates_it(lab):
    ranks = torch.zeros(6, 30, 4, dtype=torch.long)
    paper._tokens(lab, "greedy", ranks, [1.0] * 6, [[0.9, 0.1]] * 4, [5, 3, 2], [4])
    assert verdicts(lab)["sparse-tree", "tokens a step"] == "replicated"


@pytest.mark.parametrize("rank", [0, 9])
def test_heads_that_are_never_or_always_right_contradict_the_accuracy(rank, lab):
    ranks = torch.full((6, 50, 4), rank)
    ranks[:, 0] = 0
    paper._accuracies(lab, "greedy", ranks)
    found = verdicts(lab)
    assert found["head-accuracy", "top-1"] == "contradicted"
    assert found["head-accuracy", "top-5"] == ("contradicted" if rank else "replicated")
    assert found["head-accuracy", "top-5 over top-1"] == "contradicted"


def _decode(lab, real, count=2):
    lm, tokenizer = real
    heads = paper.MedusaHeads(lm.config.hidden_size, 4)
    prompts = [tokenizer("The sea was").input_ids] * 5
    paper._decode(lab, lm, heads, torch.arange(300), prompts, count, ACCURACY, [12])


def test_drafts_that_are_taken_unseen_are_no_identity(real, lab, monkeypatch):
    def blind(tree, target, generator=None):
        return [1], int(target[1].argmax())

    normal = paper.decode
    monkeypatch.setattr(paper, "decode", lambda *a, **o: normal(*a, **({"rule": blind} | o if len(a) > 3 else o)))
    _decode(lab, real, 4)
    assert verdicts(lab)["greedy-exact", ""] == "contradicted"


@pytest.mark.parametrize("slow", [1, 12])
def test_slow_drafts_contradict_the_clock(slow, real, lab, monkeypatch):
    normal = paper.TreeDrafter.draft

    def draft(self, ids, states, generator=None):
        time.sleep(0.4 if len(self.paths) == slow else 0.1)
        return normal(self, ids, states)

    monkeypatch.setattr(paper.TreeDrafter, "draft", draft)
    _decode(lab, real)
    found = verdicts(lab, "cuda")
    assert found["medusa1-speed", ""] == "contradicted"
    assert found["sparse-tree", "a larger tree is faster"] == ("replicated" if slow == 1 else "contradicted")
    assert found["sparse-tree", "too large a tree is slower"] == ("contradicted" if slow == 1 else "replicated")
