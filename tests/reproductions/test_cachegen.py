"""The reproduction of CacheGen at its smallest size, loading by hand, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.cache.codec import ChannelCoder, Codec
from reproductions.lab import Lab, loading, models
from reproductions.papers import cachegen as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


@pytest.fixture(scope="module")
def model():
    lm, tokenizer = models.load()
    words = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals. " * 4
    return lm, tokenizer(words, return_tensors="pt").input_ids[0]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters)
    assert "no result" not in verdicts(lab, "cuda").values()
    assert verdicts(lab)["size-reduction", "decoded exactly"] == "replicated"
    assert verdicts(lab)["vs-text", ""] == "not testable here"


def test_reading_on_from_a_cache_is_reading_on(model, tmp_path):
    lm, ids = model
    lab = Lab(tmp_path)
    with torch.no_grad():
        perplexity = paper._read(lab, lm, ids[None, :40], 4, "as it is", [paper.cache_of(lm, ids[:30])])
        logits = lm(ids[None, :40]).logits[0, 30:39]
    exact = torch.nn.functional.cross_entropy(logits, ids[31:40]).exp().item()
    assert perplexity == pytest.approx(exact, rel=1e-3)


def test_bytes_arrive_as_the_trace_lets_them():
    trace = [(1.0, 10.0), (2.0, 1.0), (1.0, 100.0)]
    assert loading.arrival(trace, 0.0, 10) == 1.0
    assert loading.arrival(trace, 0.5, 6) == 2.0  # 5 in half a second, one in the second after
    assert loading.arrival(trace, 0.0, 612) == 9.0  # the last bandwidth goes on
    with pytest.raises(ValueError, match="at least one bandwidth, got none"):
        loading.arrival([], 0.0, 1)


def test_decoding_runs_beside_the_transfer():
    chunks = [{"one": 10}, {"one": 10}]
    assert loading.load(chunks, [(1.0, 10.0)], "one", decode=0.05).seconds == 2.5
    assert loading.load(chunks, [(1.0, 10.0)], "one", decode=0.2).seconds == 5.0  # 2 s each, from the first arrival on


def test_levels_follow_the_bandwidth_and_text_is_sent_where_it_fits():
    chunks = [{"fine": 30, "middle": 20, "small": 10}] * 3
    steady, falls = [(1.0, 10.0)], [(2.0, 10.0), (1.0, 4.0)]
    assert loading.adapt(chunks, steady, 9.0, rate=10).levels == ["fine"] * 3
    assert loading.adapt(chunks, steady, 6.0, rate=10).levels == ["middle"] * 3
    assert loading.adapt(chunks, steady, 6.0).levels == ["middle"] * 3  # what is taken where nothing is known
    assert loading.adapt(chunks, steady, 1.0, rate=10).levels == ["small"] * 3
    fell = loading.adapt(chunks, falls, 9.0)
    assert fell.levels == ["middle", "fine", "small"] and fell.seconds == 2 + 7.5 + 2.5
    sent = loading.adapt(chunks, steady, 3.0, rate=10, compute=1.0)
    assert sent.levels == [loading.TEXT] * 3 and sent.seconds == 3.0


def test_streams_that_are_not_coded_save_nothing(model, tmp_path, monkeypatch):
    lm, ids = model
    monkeypatch.setattr(ChannelCoder, "encode", lambda self, symbols: symbols.to(torch.int8).numpy().tobytes())
    monkeypatch.setattr(
        ChannelCoder,
        "decode",
        lambda self, stream, count: torch.frombuffer(bytearray(stream), dtype=torch.int8).view(-1, count).long(),
    )
    lab = Lab(tmp_path)
    schemes(lab, lm, ids, 0.25)
    found = verdicts(lab)
    assert found["size-reduction", "bytes"] == found["delay-reduction", "transfer simulated"] == "contradicted"
    assert found["size-reduction", "decoded exactly"] == "replicated"


def test_a_coarse_level_and_a_decoder_that_errs_are_found(model, tmp_path, monkeypatch):
    lm, ids = model
    real = Codec.decode
    monkeypatch.setattr(Codec, "decode", lambda self, stream: real(self, stream) + 0.01)
    lab = Lab(tmp_path)
    schemes(lab, lm, ids, 9.0)
    found = verdicts(lab)
    assert found["size-reduction", "similar quality"] == "contradicted"
    assert found["size-reduction", "decoded exactly"] == "contradicted"


def test_decoding_that_takes_longer_than_the_transfer_contradicts_the_delay(model, tmp_path):
    found = {}
    for decode_s in (0.0, 1.0):
        folder = tmp_path / str(decode_s)
        folder.mkdir()
        lab = Lab(folder)
        schemes(lab, *model, 0.25, decode_s)
        found[decode_s] = [
            row["seconds"] for row in lab.rows() if row.get("method") == "equal quality" and "trace" in row
        ]
    assert min(found[1.0]) > 100 * max(found[0.0])
    assert verdicts(lab)["delay-reduction", "transfer simulated"] == "contradicted"


def test_the_baseline_is_a_byte_a_number_and_a_scale_a_token_and_head(model, tmp_path):
    lm, ids = model
    lab = Lab(tmp_path)
    sizes = schemes(lab, lm, ids, 0.25)
    numbers = 2 * lm.config.num_hidden_layers * 20 * lm.config.num_key_value_heads * 64
    assert sizes["8 bits"] == [numbers + 2 * numbers // 64] * 2
    assert sizes["4 bits"] == [numbers // 2 + 2 * numbers // 64] * 2


@torch.no_grad()
def test_the_level_is_chosen_on_other_contexts(model, monkeypatch):
    """The coarsest that reads on well enough, here by what it errs; the finest if none does."""
    lm, ids = model
    known = [paper.cache_of(lm, ids[:20])]
    monkeypatch.setattr(paper, "_follow", lambda lm, row, x: (x - known[0]).abs().mean()[None] / 20)
    assert paper._level(lm, ids[None, :33], known, [0.1, 0.2, 50.0]) == 0.2
    assert paper._level(lm, ids[None, :33], known, [40.0, 50.0]) == 40.0


@torch.no_grad()
def schemes(lab, lm, ids, level, decode_s=0.0):
    """Two contexts of 20 tokens and what follows, the first of them known beforehand."""
    texts = torch.stack([ids[:33], ids[20:53]])
    caches = [paper.cache_of(lm, row[:20]) for row in texts]
    sizes, _ = paper._schemes(lab, lm, partial(paper._read, lab, lm, texts, 2), caches, caches[:1], [level], level)
    paper._loading(lab, sizes, 1e6, 1.0, decode_s, 5)
    return sizes


@torch.no_grad()
def test_numbers_in_no_order_have_no_locality_and_go_by_token_where_tokens_differ(model, tmp_path):
    lm, ids = model
    caches = [paper.cache_of(lm, row) for row in (ids[:30], ids[20:50])]
    lab = Lab(tmp_path)
    mixed = [x.flatten(1)[:, torch.rand_like(x[0].flatten()).argsort()].view_as(x) for x in caches]
    sizes = torch.linspace(0, 3, 30).exp()[:, None]
    paper._insights(lab, lm, [x * sizes for x in mixed])
    found = verdicts(lab)
    for of in ("keys", "keys before rotation", "values"):
        assert found["token-locality", of] == "contradicted"
    assert found["grouping-entropy", ""] == "contradicted"


@torch.no_grad()
def test_loss_in_later_layers_that_hurts_more_contradicts(model, tmp_path, monkeypatch):
    lm, ids = model
    real, asked = paper.rounded, []

    def later(x):
        asked.append(None)
        return x if len(asked) <= 2 else 3 * real(x)  # the two contexts of the first third first

    monkeypatch.setattr(paper, "rounded", later)
    lab = Lab(tmp_path)
    texts = torch.stack([ids[:48], ids[20:68]])
    caches = [paper.cache_of(lm, row[:30]) for row in texts]
    paper._sensitivity(lab, partial(paper._read, lab, lm, texts, 3), caches)
    found = {label: outcome for (claim, label), outcome in verdicts(lab).items() if claim == "layer-sensitivity"}
    assert set(found.values()) == {"contradicted"} and len(found) == 2


@torch.no_grad()
def test_a_slow_decoder_contradicts_the_gain_over_text(model, tmp_path, monkeypatch):
    lm, ids = model
    cache = paper.cache_of(lm, ids[:20])
    codec, real = Codec([cache], lm.config.num_key_value_heads, paper.BINS), Codec.decode

    def slow(self, stream):
        time.sleep(0.2)
        return real(self, stream)

    monkeypatch.setattr(Codec, "decode", slow)
    lab = Lab(tmp_path)
    paper._text(lab, lm, ids[:20], codec, cache, 1e6, 5)
    assert verdicts(lab, "cuda")["vs-text", ""] == "contradicted"
