"""The reproduction of RoPE at its smallest size, and that it would find the opposite."""

from functools import partial

import pytest
import torch

from reproductions.lab import Lab, models, positions
from reproductions.papers import rope as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters | {"seeds": 2})
    found = verdicts(lab)
    assert {found["relative", label] for label in ("scores", "norms", "a real model")} == {"replicated"}
    assert found["decay", ""] == "computed" and found["decay", "the bound holds"] == "replicated"
    assert "no result" not in found.values()


def wrong_layout(q, k, cos, sin, layout="pairs", impl="auto"):
    """Queries turned in one layout, keys in the other."""
    other = "halves" if layout == "pairs" else "pairs"
    return paper_rotary(q, k, cos, sin, layout, impl)[0], paper_rotary(q, k, cos, sin, other, impl)[1]


def sine_lost(q, k, cos, sin, layout="pairs", impl="auto"):
    return tuple(x * torch.cat([cos, cos], -1) for x in (q, k))


paper_rotary = paper.rotary


@pytest.fixture(scope="module")
def model():
    return models.load()[0], torch.arange(1000, 1024)[None]


def test_vectors_that_are_not_turned_contradict_the_identities(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "rotary", sine_lost)
    lab = Lab(tmp_path)
    paper._identities(lab, 64, 20)
    found = verdicts(lab)
    assert found["relative", "scores"] == found["relative", "norms"] == "contradicted"


def test_layouts_mixed_up_contradict_in_a_real_model(model, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "rotary", wrong_layout)
    lab = Lab(tmp_path)
    paper._real(lab, *model)
    assert verdicts(lab)["relative", "a real model"] == "contradicted"


def test_a_bound_that_does_not_fall_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "_partial_sums", lambda n, d, base: torch.ones(n, d // 2))
    lab = Lab(tmp_path)
    paper._bound(lab, 128)
    assert verdicts(lab)["decay", ""] == "contradicted"


def test_a_score_beyond_its_bound_is_told(model, tmp_path, monkeypatch):
    real = paper._partial_sums
    monkeypatch.setattr(paper, "_partial_sums", lambda *args: real(*args) / 100)
    lab = Lab(tmp_path)
    paper._real(lab, *model)
    assert verdicts(lab)["decay", "the bound holds"] == "contradicted"


@pytest.mark.parametrize(("worse", "outcome"), [("sinusoidal", "replicated"), ("rotary", "contradicted")])
def test_the_order_of_the_losses_is_what_is_judged(worse, outcome, tmp_path, monkeypatch):
    """A scheme whose models learn nothing."""
    real = positions.model

    def made(width, layers, context, scheme, attention):
        built = real(width, layers, context, scheme, attention)
        if scheme == worse or (worse == "sinusoidal" and scheme == "none" and attention == "linear"):
            torch.nn.init.zeros_(built.head.weight).requires_grad_(False)
        return built

    monkeypatch.setattr(positions, "model", made)
    lab = Lab(tmp_path)
    for seed in range(3):
        for attention, scheme in (("softmax", "rotary"), ("softmax", "sinusoidal"), ("linear", "rotary"),
                                  ("linear", "none")):  # fmt: skip
            paper._train(lab, 16, 1, 16, 40, seed, scheme, attention)
    found = verdicts(lab)
    for claim in ("faster-convergence", "linear-attention"):
        assert found[claim, "at the end"] == outcome
    assert found["faster-convergence", "half-way"] == outcome


def test_the_models_differ_in_positions_alone():
    made = {scheme: positions.model(16, 1, 32, scheme, "softmax") for scheme in positions.SCHEMES}
    ids = torch.randint(256, (1, 12), generator=torch.Generator().manual_seed(0))
    again = torch.cat([ids[:, :1], ids[:, :1], ids[:, 1:]], 1)  # everything one place later
    for scheme, model in made.items():
        model.load_state_dict({k: v for k, v in made["none"].state_dict().items() if "place" not in k}, strict=False)
        assert model.place.weight.requires_grad == (scheme == "learned")
        moved = (model(again)[:, 2:] - model(ids)[:, 1:]).abs().max()
        assert moved > 1e-4, "one more token before"
    none = made["none"]
    swapped = ids[:, [1, 0, *range(2, 12)]]
    assert torch.allclose(none(swapped)[:, 2:], none(ids)[:, 2:], atol=1e-5), "without positions, order is not seen"
    assert not torch.allclose(made["rotary"](swapped)[:, 2:], made["rotary"](ids)[:, 2:], atol=1e-5)
