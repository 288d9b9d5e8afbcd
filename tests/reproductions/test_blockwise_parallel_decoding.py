"""The reproduction of blockwise parallel decoding at its smallest size, and that it would find the opposite."""

import time
from functools import partial

import pytest
import torch

from kernels.decoding.tree import chain
from reproductions.lab import heads, models, own_text
from reproductions.lab.speculating import decode
from reproductions.papers import blockwise_parallel_decoding as paper
from tests.reproductions import no_time
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


@pytest.fixture(scope="module")
def real():
    return models.load()


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **SMOKE.parameters)
    found = verdicts(lab, "cuda")
    assert found["exactness", ""] == "replicated"
    assert "no result" not in found.values()
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


class Knows:
    """Heads that are right wherever the text they are asked about is this one."""

    def __init__(self, lm, text, ahead):
        self.rows = lm.lm_head.weight[heads.examples(lm, text, ahead)[1]] * 100

    def __call__(self, states, ahead=None):
        return self.rows[: len(states)]


def test_heads_that_name_the_next_token_again_contradict(real, lab):
    """Off by one: untrained heads are p_1, whose token is there already."""
    lm, tokenizer = real
    prompt = tokenizer("A boat lay at the pier, and", return_tensors="pt").input_ids
    text = own_text.write(lab, lm, prompt.repeat(6, 1), 12, 1.0, layers=[30])
    words = torch.arange(lm.config.vocab_size)
    blind = paper.BlockwiseHeads(lm.config.hidden_size, 5)
    paper._blocks(lab, lm, "distilled", blind, words, text, [6])
    paper._blocks(lab, lm, "gold", Knows(lm, text, 5), words, text, [6])
    found = verdicts(lab)
    assert found["frozen-block-size", "distilled data"] == "contradicted"
    assert found["frozen-block-size", "distilled data, before a text repeats itself"] == "contradicted"
    assert found["frozen-block-size", "distilled against gold"] == "contradicted"
    assert found["frozen-block-size", "gold data"] == "replicated"


def test_a_drafter_that_rewrites_the_text_is_no_identity(real, lab, monkeypatch):
    lm, tokenizer = real
    no_time.another_text(monkeypatch, paper)
    paper._decode(lab, lm, *_any_heads(lm), [tokenizer("The sea was").input_ids] * 5, 3, [2])
    assert verdicts(lab)["exactness", ""] == "contradicted"


def _any_heads(lm):
    return paper.BlockwiseHeads(lm.config.hidden_size, 5), torch.arange(50)


@pytest.mark.parametrize("slow", [1, 5])
def test_slow_drafts_contradict_the_clock(slow, real, lab, monkeypatch):
    lm, tokenizer = real
    real_draft = heads.ChainDrafter.draft

    def draft(self, ids, states, generator=None):
        time.sleep(0.4 if self.ahead == slow else 0.1)
        return real_draft(self, ids, states)

    monkeypatch.setattr(heads.ChainDrafter, "draft", draft)
    prompts = [tokenizer("The sea was").input_ids] * 5
    paper._decode(lab, lm, *_any_heads(lm), prompts, 2, [2, 6])
    found = verdicts(lab, "cuda")
    assert found["wallclock", "the gain"] == found["wallclock", "a gain"] == "contradicted"
    assert found["wallclock", "rises to a peak"] == ("contradicted" if slow == 5 else "replicated")
    assert found["wallclock", "then falls"] == ("replicated" if slow == 5 else "contradicted")
