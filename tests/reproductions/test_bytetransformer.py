"""The reproduction of ByteTransformer at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import torch

from kernels.attention.packed import packed_attention
from kernels.encoder import layer as layers
from kernels.encoder.layer import EncoderLayer
from kernels.encoder.packing import Packing
from reproductions.lab import Lab
from reproductions.papers import bytetransformer as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]
PACKING = Packing.of([32, 9, 17], 32)


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab)
    assert found["exactness", ""] == found["padding-gain", "attention"] == "replicated"
    assert "no result" not in verdicts(lab, "cuda").values()


def test_attention_that_runs_into_the_next_sequence_is_not_exact(tmp_path, monkeypatch):
    def crossing(q, k, v, offsets, lengths):
        return packed_attention(q, k, v, torch.tensor([0, offsets[-1].item()]))

    monkeypatch.setattr(layers, "packed_attention", crossing)
    lab = Lab(tmp_path)
    paper._exactness(lab, EncoderLayer(32, 4, 64), PACKING)
    assert verdicts(lab)["exactness", ""] == "contradicted"


def test_work_on_padding_is_counted(tmp_path, monkeypatch):
    def padded(q, k, v, offsets, impl):
        return paper._unfused(*(PACKING.unpack(x).transpose(1, 2) for x in (q, k, v)), PACKING.mask)

    monkeypatch.setattr(paper, "packed_attention", padded)
    lab = Lab(tmp_path)
    paper._count(lab, EncoderLayer(32, 4, 64), PACKING)
    assert verdicts(lab)["padding-gain", "attention"] == "contradicted"


def test_slow_packed_ways_contradict_the_speeds(tmp_path, monkeypatch):
    def slow(*args, **options):
        time.sleep(0.02)
        return packed_attention(*args, **options)

    real = paper._dense

    def slower(layer, x):
        time.sleep(0.03 if len(x) < 96 else 0)
        return real(layer, x)

    monkeypatch.setattr(layers, "packed_attention", slow)
    monkeypatch.setattr(paper, "packed_attention", slow)
    monkeypatch.setattr(paper, "_dense", slower)
    lab = Lab(tmp_path)
    paper._time(lab, EncoderLayer(16, 2, 32), PACKING, 6, True)
    found = verdicts(lab, "cuda")
    for claim in ("fused-mha", "end-to-end", "bert-table"):
        assert found[claim, ""] == "contradicted"
    assert found["padding-gain", "dense layers"] == found["padding-gain", "a layer"] == "contradicted"
