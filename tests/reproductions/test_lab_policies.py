"""All policies side by side: exact against passes over whole texts, and equal where nothing is dropped."""

from functools import partial

import pytest
import torch

from kernels.cache.kept import WindowCache
from reproductions.lab import Lab, models, policies

VALUES = ("ratio", "kl", "agreement", "found_again")


@pytest.fixture(scope="module")
def real():
    return models.load()


def test_what_is_measured_and_that_the_dense_model_finds_the_number(real, tmp_path, monkeypatch):
    lm, tokenizer = real
    monkeypatch.setattr(policies, "POLICIES", ("window", "heavy hitters"))
    lab = Lab(tmp_path)
    more = {"more": lambda ids: [partial(WindowCache, ids.shape[1] // 4)]}
    policies.side_by_side(lab, lm, tokenizer, 1, 48, [100, 25], more)
    rows = {(row["beside"], round(row["kept"])): row for row in lab.rows()}
    assert len(rows) == 6
    own, same = rows.pop(("more", 26)), rows["window", 25]  # 12 tokens are held of the 47 that are read
    assert [own[name] for name in VALUES] == pytest.approx([same[name] for name in VALUES])
    assert [rows["more", 100][name] for name in VALUES] == [1, 0, 1, 1]
    for row in (rows["window", 100], rows["heavy hitters", 100]):
        assert row["ratio"] == pytest.approx(1, abs=1e-4) and row["kl"] == pytest.approx(0, abs=1e-4)
        assert row["agreement"] == row["found_again"] == 1
    short = rows["window", 25]
    assert short["ratio"] > 1.1 and short["kl"] > 0.1 and short["agreement"] < 1 and short["found_again"] < 1


def test_measures_against_the_formulas():
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 7)
    wanted = logits[1].argmax(-1)
    losses, right, kl, agrees = policies._measures(logits, wanted)
    p = logits.softmax(-1)
    assert torch.allclose(kl[1], (p[0] * (p[0] / p[1]).log()).sum(-1), atol=1e-6) and (kl[0] == 0).all()
    assert (right[1] == 1).all() and (agrees[0] == 1).all()
    exact = torch.nn.functional.cross_entropy(logits[2], wanted, reduction="none")
    assert torch.allclose(losses[2], exact, atol=1e-6)


def test_a_needle_is_told_early_and_asked_for_last(real):
    _, tokenizer = real
    ids = policies.needles(tokenizer, torch.full((2, 60), 100))
    assert ids.shape == (2, 60) and (ids[:, :8] == 100).all()
    for row in ids:
        answer = tokenizer.decode(row[-policies.ASKED :])
        assert answer.strip().isdigit() and tokenizer.decode(row).count(answer) == 2


def test_every_policy_has_a_maker():
    for policy in policies.POLICIES:
        cache = policies.maker(policy, 12, "cpu")(torch.ones(20, 4), torch.zeros(20, 4))
        assert cache.budget <= 12
