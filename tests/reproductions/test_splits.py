"""What chooses a threshold or a tree is not what is then judged by it."""

import pytest
import torch

from reproductions.lab import Lab, heads
from reproductions.papers import berxit, deebert, medusa


def test_deebert_chooses_by_other_texts_than_it_judges(tmp_path, monkeypatch):
    seen = {}

    def choose(logits, labels):
        seen["chosen by"] = logits
        return {"all layers": 0.0}

    monkeypatch.setattr(deebert, "choose", choose)
    monkeypatch.setattr(deebert, "judge_exits", lambda lab, logits, *rest: seen.update(judged=logits))
    monkeypatch.setattr(deebert, "time_exits", lambda *given: None)
    deebert.run(Lab(tmp_path), **deebert.SIZES["smoke"].parameters)
    by, judged = (seen[name].flatten(2).movedim(0, 1).flatten(1) for name in ("chosen by", "judged"))
    assert len(by) > 10 < len(judged)
    assert torch.cdist(by, judged).min() > 0, "no text is in both"


def test_berxit_chooses_thresholds_by_the_half_that_is_not_judged(tmp_path, monkeypatch):
    right = torch.cat([torch.zeros(6, 10), torch.ones(6, 10)], 1)
    certainty = torch.rand(6, 20)
    asked = []
    real = berxit.depth.threshold
    monkeypatch.setattr(berxit.depth, "threshold", lambda x, wanted: asked.append(x) or real(x, wanted))
    lab = Lab(tmp_path)
    berxit.compare(lab, right, certainty, "joint", 0)
    assert len(asked) == len(berxit.SAVINGS) and all(torch.equal(x, certainty[:, :10]) for x in asked)
    assert {row["exit_accuracy"] for row in lab.rows() if "exit_accuracy" in row} == {1.0}


def test_medusa_builds_its_trees_by_other_texts_than_it_judges(tmp_path, monkeypatch):
    """Where heads are always right in the texts that build them, and never in the others."""
    size = medusa.SIZES["smoke"].parameters
    real, built = heads.ranks, []

    def ranks(*given):
        found = real(*given)
        each = found.view(size["held"], -1, size["ahead"])
        each[: size["held"] // 3], each[size["held"] // 3 :] = 0, 9
        return found

    monkeypatch.setattr(medusa.heads, "ranks", ranks)
    sparse = medusa.sparse
    monkeypatch.setattr(medusa, "sparse", lambda accuracy, n: built.append(accuracy) or sparse(accuracy, n))
    monkeypatch.setattr(medusa, "_decode", lambda *given: None)
    lab = Lab(tmp_path)
    medusa.run(lab, **size)
    assert built and all(of[0] == pytest.approx(1.0) for accuracy in built for of in accuracy)
    assert {row["accuracy"] for row in lab.rows() if row.get("top") == 1} == {0.0}
