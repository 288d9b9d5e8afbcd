"""Exits of the real model: decoding that stops at them, the caches it leaves behind, and the training of heads."""

import pytest
import torch

from reproductions.lab import Lab, exit_heads, models, own_text
from reproductions.lab.exiting import WAYS, ExitDecoder, faithful
from reproductions.lab.reading import Reader

PROMPT = "The cat sat on the mat. The dog sat on the"


@pytest.fixture(scope="module")
def real():
    lm, tokenizer = models.load()
    return lm, tokenizer(PROMPT).input_ids


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def plain(real):
    """transformers' own greedy text."""
    lm, prompt = real
    found = lm.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=10, min_new_tokens=10)
    return found[0, len(prompt) :].tolist()


@pytest.mark.parametrize("way", WAYS)
def test_with_thresholds_above_one_it_is_plain_greedy_decoding(real, plain, way):
    lm, prompt = real
    decoder = ExitDecoder(lm, exit_heads.untrained(lm, [8, 20]), {8: 1.01, 20: 1.01}, way, 40)
    found = decoder.decode(prompt, 10)
    assert found.tokens == plain and found.depths == [30] * 9
    assert faithful(decoder, prompt, plain) == 1 and faithful(decoder, prompt, [plain[0], 7, *plain[2:]]) < 1


def whole(lm, ids):
    """The cache of one pass through all layers."""
    reader = Reader(lm, len(ids))
    reader.read(ids)
    return reader.cache


def test_recomputed_keys_and_values_are_those_of_a_whole_pass(real):
    lm, prompt = real
    decoder = ExitDecoder(lm, exit_heads.untrained(lm, [8]), {8: 0.0}, "recompute", 40, most=3)
    found = decoder.decode(prompt, 9)
    assert found.depths == [8, 8, 8, 30, 8, 8, 8, 30]
    ids = [*prompt, *found.tokens[:-1]]
    right, cache = whole(lm, ids), decoder.reader.cache
    assert cache.length == len(ids)
    assert (cache.k[:, :, :, : len(ids)] - right.k).abs().max() < 1e-4
    assert (cache.v[:, :, :, : len(ids)] - right.v).abs().max() < 1e-4


def test_tokens_after_exits_depend_on_all_that_was_recomputed(real):
    """The text is that of a plain loop, which reads everything anew up to the exit for every token."""
    lm, prompt = real
    heads = exit_heads.untrained(lm, [8])
    found = ExitDecoder(lm, heads, {8: 0.0}, "recompute", 40, most=3).decode(prompt, 9)
    ids = list(prompt)
    for i, token in enumerate(found.tokens):
        reader = Reader(lm, 40)
        hidden = reader.read(ids, layers=range(8 if i and found.depths[i - 1] == 8 else 30))[0, -1]
        logits = lm.lm_head(heads[8](hidden) if i and found.depths[i - 1] == 8 else lm.model.norm(hidden))
        assert logits.argmax() == token
        ids.append(token)


def test_copied_states_make_the_keys_of_deeper_layers(real):
    """The first layer that was skipped has its true ones, a later one what its own norm and maps make of that state."""
    lm, prompt = real
    decoder = ExitDecoder(lm, exit_heads.untrained(lm, [8]), {8: 0.0}, "copy", 40)
    found = decoder.decode(prompt, 2)
    ids, cache = [*prompt, found.tokens[0]], decoder.reader.cache
    right, at = whole(lm, ids), len(prompt)
    assert found.depths == [8] and cache.length == len(ids)
    for mine, true in ((cache.k, right.k), (cache.v, right.v)):
        torch.testing.assert_close(mine[:9, :, :, at], true[:9, :, :, at], atol=1e-4, rtol=1e-4)
        assert (mine[20, :, :, at] - true[20, :, :, at]).abs().max() > 0.01
    reader = Reader(lm, 40)
    hidden = reader.read(ids, layers=range(8))[:, -1]
    layer = lm.model.layers[20]
    value = layer.self_attn.v_proj(layer.input_layernorm(hidden)).view(3, 64)
    torch.testing.assert_close(cache.v[20, 0, :, at], value, atol=1e-4, rtol=1e-4)


def test_an_unknown_way_is_refused(real):
    with pytest.raises(ValueError, match="way: expected one of copy, recompute, got 'skip'"):
        ExitDecoder(real[0], {}, {}, "skip", 8)


def test_heads_before_and_after_training(real, lab):
    lm, prompt = real
    text = own_text.write(lab, lm, torch.tensor([prompt]), 24, layers=[16, 30])
    before = exit_heads.see(lm, exit_heads.untrained(lm, [16]), [text])
    own = text.ids[0, text.prompt :]
    assert torch.equal(before.answers[-1], own), "the last layer's answers are the greedy text"
    lens = lm.lm_head(lm.model.norm(text.states[16][0, text.prompt - 1 : -1].float()))
    assert torch.equal(before.answers[0], lens.argmax(-1))
    right = torch.nn.functional.cross_entropy(lens, own, reduction="none").double()
    torch.testing.assert_close(before.nll[0], right)
    heads = exit_heads.trained(lab, lm, [text], [16], steps=25, batch=16)
    after = exit_heads.see(lm, heads, [text])
    assert after.nll[0].mean() < 0.5 * before.nll[0].mean() and torch.equal(after.nll[1], before.nll[1])
    again = exit_heads.trained(lab, lm, [text], [16], steps=25, batch=16)
    assert torch.equal(again[16].map.weight, heads[16].map.weight)
