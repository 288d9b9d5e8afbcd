"""The reproduction of blockwise parallel decoding at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.decoding.tree import chain
from reproductions.lab import Lab, heads, models, own_text
from reproductions.lab.speculating import decode
from reproductions.papers import blockwise_parallel_decoding as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


class Right:
    """Heads that know the text (n places, one head more than asked): `wrong` of each place is off."""

    def __init__(self, model, ids, prompt, ahead, gold=False):
        self.model, self.ids, self.prompt, self.ahead = model, ids, prompt, ahead


@pytest.fixture(scope="module")
def real():
    return models.load()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return Lab(tmp_path)


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab, "cuda")
    assert found["exactness", ""] == "replicated"
    late = {key for key, outcome in found.items() if outcome == "no result"}
    assert late <= {("frozen-block-size", "distilled data, texts that do not repeat themselves")}
    assert verdicts(lab)["wallclock", "the gain"] == "not testable here"


def test_blocks_are_what_decoding_accepts(real, lab):
    """Offline counts against the live loop, with a stub of heads that are right at every other place."""
    lm, tokenizer = real
    prompt = tokenizer("Once upon a time there was a").input_ids
    text = decode(paper.Reader(lm, 64), prompt, 20).tokens
    whole = [*prompt, *text]

    class Drafter:
        def draft(self, ids, states, generator=None):
            true = whole[len(ids) :][:3]
            return chain([t if (len(ids) + i) % 2 else t + 1 for i, t in enumerate(true)])

    right = torch.tensor([[(t + 2 + i) % 2 == 1 for i in range(3)] for t in range(len(prompt) - 1, len(whole) - 4)])
    live = decode(paper.Reader(lm, 64), prompt, 20, Drafter())
    assert live.tokens == text
    offline = heads.blocks(right)
    assert offline == [1 + n for n in live.accepted][: len(offline)]


def test_a_target_is_the_token_after_the_next(real):
    lm, _ = real
    ids = torch.arange(100, 112)[None]
    text = own_text.Text(ids, {30: torch.zeros(1, 12, 576)}, 4)
    _, targets = heads.examples(lm, text, 3)
    assert targets[0].tolist() == [105, 106, 107] and targets[-1].tolist() == [109, 110, 111]
    assert len(heads.examples(lm, text, 3, own=False)[1]) == 8


def _lab_of(lab, blocks, fresh="fresh"):
    """Rows as `_blocks` writes them, of heads that are right for so many tokens."""
    for method, block in blocks.items():
        for i in range(6):
            lab.row(method=method, k=8, of=i, block=block + 0.01 * (i % 2), text=fresh)
    return verdicts(lab)


def test_heads_that_name_the_wrong_place_contradict(real, lab, monkeypatch):
    """Off by one: trained on the next token, which p_1 names already."""
    lm, tokenizer = real
    good = heads.examples

    def next_token(model, text, ahead, own=True):
        states, targets = good(model, text, ahead, own)
        return states, torch.roll(targets, 7, 0)

    monkeypatch.setattr(heads, "examples", next_token)
    paper.run(lab, **(SMOKE.parameters | {"timed_tokens": 4}))
    found = verdicts(lab)
    assert found["frozen-block-size", "gold data"] == found["frozen-block-size", "distilled data"] == "contradicted"


def test_a_drafter_that_rewrites_the_text_is_no_identity(real, lab, monkeypatch):
    lm, tokenizer = real
    monkeypatch.setattr("reproductions.lab.speculating.verify", lambda tree, p, g: ([], int(p[0].argmin())))
    real_decode = paper.decode

    def decode(reader, ids, count, drafter=None):
        found = real_decode(reader, ids, count, drafter)
        if drafter:
            found.tokens[1] += 1
        return found

    monkeypatch.setattr(paper, "decode", decode)
    paper._decode(lab, lm, *_any_heads(lm), [tokenizer("The sea was").input_ids] * 5, 3, [2])
    assert verdicts(lab)["exactness", ""] == "contradicted"


def _any_heads(lm):
    return paper.BlockwiseHeads(lm.config.hidden_size, 7), torch.arange(50)


def test_slow_drafts_contradict_the_clock(real, lab, monkeypatch):
    lm, tokenizer = real
    real_draft = heads.ChainDrafter.draft

    def slow(self, ids, states, generator=None):
        time.sleep(0.05 if self.ahead == 1 else 0.3)
        return real_draft(self, ids, states)

    monkeypatch.setattr(heads.ChainDrafter, "draft", slow)
    prompts = [tokenizer("The sea was").input_ids] * 5
    paper._decode(lab, lm, *_any_heads(lm), prompts, 4, [2, 8])
    found = verdicts(lab, "cuda")
    assert found["wallclock", "the gain"] == found["wallclock", "a gain"] == "contradicted"
    assert found["wallclock", "falls for larger k"] == "replicated"
