"""The reproduction of Scissorhands at its smallest size, and that it would find the opposite."""

from functools import partial

import pytest
import torch

from kernels.cache import persistence
from kernels.cache.kept import FullCache
from kernels.cache.persistence import PersistentCache, QuantisedPersistentCache
from reproductions.lab import Lab, caching, models
from reproductions.papers import scissorhands as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
HALF = {"full": ("full", 100), "scissorhands 50 %": ("scissorhands", 50), "random 50 %": ("random", 50),
        "scissorhands 50 %, 4 bits": ("scissorhands, 4 bits", 50)}  # fmt: skip


@pytest.fixture(scope="module")
def text():
    lm, tokenizer = models.load()
    words = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals. " * 4
    return lm, tokenizer(words, return_tensors="pt").input_ids[:, :48]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters | {"texts": 1, "tokens": 36, "start": 18, "block": 3})
    assert set(verdicts(lab).values()) <= {"replicated", "contradicted", "inconclusive", "not testable here"}


def test_a_cache_that_keeps_all_reads_as_the_model_does(text):
    lm, ids = text
    reading = caching.read(lm, ids[:, :20], {"full": FullCache}, 5)["full"]
    logits = lm(ids[:, :20]).logits[0, 5:-1].float()
    exact = torch.nn.functional.cross_entropy(logits, ids[0, 6:20], reduction="none")
    assert torch.allclose(reading.losses[0], exact, atol=1e-3) and reading.most == 1.0


def test_a_policy_that_keeps_the_least_important_is_worse_than_chance(text, tmp_path, monkeypatch):
    real = PersistentCache.counts
    monkeypatch.setattr(PersistentCache, "counts", lambda self: -real(self))
    monkeypatch.setattr(QuantisedPersistentCache, "bits", 1)
    lab = Lab(tmp_path)
    paper._perplexity(lab, *text, HALF, 22, 3)
    found = verdicts(lab)
    assert found["lm-perplexity-2x", "unchanged at 50 %"] == "contradicted"
    assert found["quant-compatible", ""] == "contradicted"


@pytest.mark.parametrize("good", [True, False])
def test_the_order_of_the_policies_is_what_is_judged(good, text, tmp_path, monkeypatch):
    """A cache that drops nothing is better than chance; one that forgets all but the newest is worse."""
    kept = (lambda self: self.seen) if good else (lambda self: 1)

    def choose(self):
        return torch.arange(self.tokens, device=self.places.device).expand_as(self.places)[..., -kept(self) :]

    monkeypatch.setattr(PersistentCache, "choose", choose)
    lab = Lab(tmp_path)
    names = HALF | {"scissorhands 30 %": ("scissorhands", 30)}
    paper._perplexity(lab, *text, names, 22, 3)
    found = verdicts(lab)
    assert found["lm-perplexity-2x", "better than chance"] == ("replicated" if good else "contradicted")
    assert found["lm-perplexity-2x", "only down to 50 %"] == ("contradicted" if good else "replicated")
    assert found["lm-perplexity-2x", "unchanged at 50 %"] == ("replicated" if good else "contradicted")


def test_persistence_that_is_not_there_contradicts(text, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "persistence", lambda *given: (torch.tensor(0.5), torch.tensor(0.6)))
    lab = Lab(tmp_path)
    paper._persistence(lab, *text)
    found = verdicts(lab)
    assert [outcome for (claim, _), outcome in found.items() if claim == "persistence"] == ["contradicted"] * 6


def test_pivotal_tokens_that_are_not_the_ones_looked_at(text, tmp_path, monkeypatch):
    real = persistence.pivotal
    monkeypatch.setattr(
        persistence, "pivotal", lambda p, above: ~real(p, above) if p.shape[-1] < 30 else real(p, above)
    )
    lab = Lab(tmp_path)
    paper._persistence(lab, *text)
    assert verdicts(lab)["persistence", "ratio"] == "contradicted"
