"""The trained drafter: what it drafts does not depend on how it got there, and it learns."""

import re

import pytest
import torch

from reproductions.lab import drafters, models
from reproductions.lab.chi_square import chi_square
from reproductions.lab.reading import Reader
from reproductions.lab.speculating import decode
from reproductions.spec import ParameterError


@pytest.fixture(scope="module")
def real():
    return models.load()


@pytest.fixture(scope="module")
def layer(real):
    """Untrained, but not idle: the token is looked at."""
    torch.manual_seed(0)
    made = drafters.FeatureLayer(real[0])
    torch.nn.init.normal_(made.mix.weight, std=0.02)
    return made.eval().requires_grad_(False)


WORDS = torch.arange(0, 49152, 7)


def test_a_chain_is_what_a_pass_over_the_whole_text_says(real, layer):
    """Drafts after several calls, with cuts between, against one call on the whole text; deeper levels too."""
    lm, tokenizer = real
    ids = tokenizer("It was the best of times, it was the worst of times, it was").input_ids
    states = Reader(lm, 40).read(ids)[0]
    several = drafters.FeatureDrafter(lm, layer, WORDS, (1, 1, 1), 60)
    several.draft(ids[:5], states[:4])
    several.draft(ids[:7], states[4:6])
    found = several.draft(ids, states[6:-1])
    whole = drafters.FeatureDrafter(lm, layer, WORDS, (1, 1, 1), 60).draft(ids, states[:-1])
    assert found.tokens == whole.tokens and found.parents == [0, 1, 2]
    plain = list(ids)
    guesses = states[:-1]
    for token in found.tokens:  # with no cache at all: the guesses so far serve as states
        n = len(guesses)
        angles = lm.model.rotary_emb(guesses[None], torch.arange(n)[None])
        out = layer(guesses[None], lm.model.embed_tokens(torch.tensor(plain[1:]))[None], angles)[0, -1]
        assert token == WORDS[(out @ lm.lm_head.weight[WORDS].T).argmax()]
        plain.append(token)
        guesses = torch.cat([guesses, out[None]])


def test_drafts_are_drawn_from_the_distribution_that_is_told(real, layer):
    """What the accepting rule takes for granted: by a chi-square test, which another temperature fails."""
    lm, tokenizer = real
    ids = tokenizer("It was the best of times").input_ids
    states = Reader(lm, 20).read(ids)[0, :-1]
    words = torch.arange(100, 112)
    tree = drafters.FeatureDrafter(lm, layer, words, (5000,), 20, 1.0).draft(
        ids, states, torch.Generator().manual_seed(0)
    )
    q = tree.draws[0][words].double()
    assert q.sum() == pytest.approx(1, abs=1e-5) and (tree.draws == tree.draws[0]).all()
    counts = torch.bincount(torch.tensor(tree.tokens) - 100, minlength=12)
    assert chi_square(counts, q)[2] > 0.001 > chi_square(counts, q**0.5)[2]


def test_untrained_it_passes_the_state_on(real):
    """Of states of the size that norms make, the copied layer would leave nothing."""
    lm, tokenizer = real
    ids = tokenizer("It was the best of times, it was the worst of times, it was").input_ids
    states = Reader(lm, 40).read(ids)[0, :-1]
    layer, angles = drafters.FeatureLayer(lm), lm.model.rotary_emb(states[None], torch.arange(len(states))[None])
    words = lm.model.embed_tokens(torch.tensor(ids[1:]))
    with torch.no_grad():
        assert torch.cosine_similarity(layer(states[None], words[None], angles)[0], states).mean() > 0.7
        layer.scale.fill_(1.0)
        assert torch.cosine_similarity(layer(states[None], words[None], angles)[0], states).mean() < 0.3


def test_a_tree_has_the_drafts_of_its_paths(real, layer):
    lm, tokenizer = real
    ids = tokenizer("Call me Ishmael. Some years ago, never mind how long").input_ids
    states = Reader(lm, 40).read(ids)[0]
    tree = drafters.FeatureDrafter(lm, layer, WORDS, (2, 1, 2), 60).draft(ids, states[:-1])
    assert tree.parents == [0, 0, 1, 2, 3, 3, 4, 4]
    chain = drafters.FeatureDrafter(lm, layer, WORDS, (1, 1, 1), 60).draft(ids, states[:-1])
    assert [tree.tokens[0], tree.tokens[2], tree.tokens[4]] == chain.tokens


def test_sampled_drafts_carry_the_distribution_they_came_from(real, layer):
    lm, tokenizer = real
    ids = tokenizer("Call me Ishmael. Some years ago").input_ids
    states = Reader(lm, 40).read(ids)[0]
    drafter = drafters.FeatureDrafter(lm, layer, WORDS, (3, 1), 60, 1.0)
    tree = drafter.draft(ids, states[:-1], torch.Generator().manual_seed(0))
    assert tree.draws.shape == (6, lm.config.vocab_size)
    assert torch.allclose(tree.draws.sum(-1), torch.ones(6)) and (tree.draws[:, 1] == 0).all()
    assert torch.equal(tree.draws[0], tree.draws[2]) and not torch.equal(tree.draws[0], tree.draws[3])
    assert all(tree.draws[i, t] > 0 for i, t in enumerate(tree.tokens))


@pytest.mark.parametrize("domain", drafters.DOMAINS)
@pytest.mark.parametrize("length", [32, 512])
def test_as_many_prompts_as_the_text_has_and_no_more(domain, length, real, lab):
    _, tokenizer = real
    with pytest.raises(ParameterError) as caught:
        drafters.prompts(lab, tokenizer, domain, 10**6, length, held=True)
    said = re.fullmatch(rf"expected at most (\d+) texts of {length} tokens of {domain}, got 1000000", str(caught.value))
    most = int(said[1])
    assert drafters.prompts(lab, tokenizer, domain, most, length, held=True).shape == (most, length)
    with pytest.raises(ParameterError, match=f"got {most + 1}$"):
        drafters.prompts(lab, tokenizer, domain, most + 1, length, held=True)


def test_a_text_of_longer_tokens_is_refused_too(real, lab):
    with pytest.raises(ParameterError, match="expected 1316 pieces of 4 tokens each, one of this text has 3"):
        drafters.prompts(lab, real[1], "code", 1316, 4, held=True)


def test_it_learns_and_greedy_text_stays(real, lab, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    lm, tokenizer = real
    layer, words = drafters.trained(lab, lm, tokenizer, texts=2, prompt=8, tokens=16, steps=30)
    prompt = drafters.prompts(lab, tokenizer, "prose", 1, 8)[0].tolist()
    plain = decode(Reader(lm, 40), prompt, 12)
    found = decode(Reader(lm, 40), prompt, 12, drafters.FeatureDrafter(lm, layer, words, (1, 1), 40))
    assert found.tokens == plain.tokens and found.per_call > 1.3, "a text that it was trained on"
