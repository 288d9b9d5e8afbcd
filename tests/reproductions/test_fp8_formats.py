"""The reproduction of the FP8 formats at its smallest size, and that it would find the opposite."""

import dataclasses
from functools import partial

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kernels.gemm import fp8
from reproductions.lab import Lab, casting, training
from reproductions.lab.text import load as load_text
from reproductions.papers import fp8_formats as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert found["format-range", "E4M3"] == found["format-range", "all codes, whole table"] == "computed"
    assert found["ptq-larger", ""] == found["ptq-bert", ""] == "not testable here"
    assert "no result" not in found.values()


def test_the_format_without_its_change_is_found(tmp_path, monkeypatch):
    ieee = dataclasses.replace(fp8.FORMATS["e4m3"], ieee=True, dtype=torch.float8_e4m3fnuz)  # to 240
    monkeypatch.setitem(fp8.FORMATS, "e4m3", ieee)
    lab = Lab(tmp_path)
    paper._formats(lab)
    found = verdicts(lab)
    assert found["format-range", "E4M3"] == found["format-range", "all codes, whole table"] == "contradicted"


def test_truncation_is_no_rounding(tmp_path, monkeypatch):
    real = fp8.quantise

    def truncated(x, kind, **options):
        return real(x.view(torch.int32).bitwise_and(-(1 << 20)).view(torch.float32), kind, **options)

    monkeypatch.setattr(fp8, "quantise", truncated)
    lab = Lab(tmp_path)
    paper._formats(lab)
    assert verdicts(lab)["format-range", "all codes, whole table"] == "contradicted"


@pytest.fixture(scope="module")
def text():
    """A Llama of two small layers, trained for seconds on bytes, and what calibration saw, two pieces of text."""
    size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=256, num_key_value_heads=2, **size))
    data, rest = training.corpus(load_text()[:200_000], "cpu")
    wrapped = Logits(lm)
    training.fit(wrapped, data, steps=60, batch=8, context=64, seed=0)
    chosen, measured, seen = rest[None, :100], rest[None, 1000:1300], casting.Seen()
    casting.token_losses(lm.eval().requires_grad_(False), chosen, seen)
    return lm, seen, chosen, measured


class Logits(torch.nn.Module):
    def __init__(self, lm):
        super().__init__()
        self.lm = lm

    def forward(self, ids):
        return self.lm(ids).logits


def only(monkeypatch, instead):
    """`instead(x, kind, scale)` in place of rounding; None leaves the rounding as it is."""
    real = casting.cast

    def cast(x, kind, scale):
        found = instead(x, kind, scale)
        return real(x, kind, scale) if found is None else found

    monkeypatch.setattr(casting, "cast", cast)


def test_the_model_without_rounding_is_the_model(text):
    lm, _, _, ids = text
    ours = casting.token_losses(lm, ids, casting.unrounded)
    logits = lm(ids).logits[0, :-1]
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none"))


def test_int8_as_fine_as_e4m3_is_told(text, tmp_path, monkeypatch):
    only(monkeypatch, lambda x, kind, scale: x if kind == "int8" else None)
    lab = Lab(tmp_path)
    paper._post_training(lab, *text)
    assert verdicts(lab)["ptq-small", "int8 loses"] == "contradicted"


def test_a_format_of_signs_alone_loses(text, tmp_path, monkeypatch):
    only(monkeypatch, lambda x, kind, scale: x.sign() / scale if kind == "e4m3" else None)
    lab = Lab(tmp_path)
    paper._post_training(lab, *text)
    assert verdicts(lab)["ptq-small", "E4M3 keeps"] == "contradicted"


def test_a_single_bias_that_is_enough_is_told(text, tmp_path, monkeypatch):
    only(monkeypatch, lambda x, kind, scale: x)
    lab = Lab(tmp_path)
    paper._post_training(lab, *text)
    paper._single_bias(lab, *text, [0])
    found = verdicts(lab)
    assert found["scaling-needed", "a single bias fails"] == "contradicted"
    assert found["scaling-needed", "scaling restores"] == "contradicted"


def test_scaling_that_restores_nothing_is_told(text, tmp_path, monkeypatch):
    only(monkeypatch, lambda x, kind, scale: x if isinstance(scale, float) else x.sign() / scale)
    lab = Lab(tmp_path)
    paper._post_training(lab, *text)
    paper._single_bias(lab, *text, [0])
    assert verdicts(lab)["scaling-needed", "nearly all of it"] == "contradicted"


def test_a_forgotten_scale_spoils_the_training(tmp_path, monkeypatch):
    real = fp8.scaled_matmul

    def forgotten(a, b, scale_a, scale_b, *options):
        return real(a, b, torch.ones_like(scale_a), scale_b, *options)

    monkeypatch.setattr(fp8, "scaled_matmul", forgotten)
    lab = Lab(tmp_path)
    for seed in range(5):
        paper._training(lab, 16, 1, 8, seed, 4)
    assert verdicts(lab)["training", ""] == "contradicted"
