"""The decode loop on the real model: the same text as plain decoding, whatever is drafted."""

import pytest
import torch

from kernels.decoding.lookup import PromptLookup
from kernels.decoding.tree import Tree
from reproductions.lab import models
from reproductions.lab.reading import Reader
from reproductions.lab.speculating import decode, differs, distinct, repeats_from

PROMPT = "The cat sat on the mat. The dog sat on the"


@pytest.fixture(scope="module")
def real():
    lm, tokenizer = models.load()
    return lm, tokenizer(PROMPT).input_ids


@pytest.fixture(scope="module")
def plain(real):
    """transformers' own greedy text."""
    lm, prompt = real
    found = lm.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24, min_new_tokens=24)
    return found[0, len(prompt) :].tolist()


class Oracle:
    """A drafter that knows the text: trees with the true token as the last of three children, wrong ones beside it."""

    def __init__(self, text, depth):
        self.text, self.depth, self.asked = text, depth, []

    def draft(self, ids, states, generator):
        self.asked.append((list(ids), states))
        tokens, parents, above = [], [], 0
        for true in self.text[len(ids) :][: self.depth]:
            tokens += [true + 1, true + 2, true]
            parents += [above] * 3
            above = len(tokens)
        return Tree(tokens, parents)


def test_a_tree_that_knows_the_text_is_taken_whole(real, plain):
    lm, prompt = real
    oracle = Oracle([*prompt, *plain], 3)
    found = decode(Reader(lm, 80), prompt, 24, oracle)
    assert found.tokens == plain
    assert set(found.accepted[:-1]) == {3} and found.per_call > 3
    ids, states = oracle.asked[0]
    assert len(ids) == len(prompt) + 1 and len(states) == len(prompt)
    assert all(len(states) == 4 for _, states in oracle.asked[1:])


def test_states_are_those_that_gave_the_tokens(real, plain):
    lm, prompt = real
    oracle = Oracle([*prompt, *plain], 2)
    decode(Reader(lm, 80), prompt, 16, oracle)
    whole = lm.model(torch.tensor([[*prompt, *plain]])).last_hidden_state[0]
    for ids, states in oracle.asked:
        right = whole[len(ids) - 1 - len(states) : len(ids) - 1]
        assert (states - right).abs().max() < 1e-3 * right.abs().max()


@pytest.mark.parametrize("drafter", [None, PromptLookup(3)], ids=["plain", "prompt lookup"])
def test_greedy_text_is_that_of_transformers(drafter, real, plain):
    lm, prompt = real
    found = decode(Reader(lm, 80), prompt, 24, drafter)
    assert found.tokens == plain
    assert (found.per_call > 1) == bool(drafter)
    assert len(found.accepted) == len(found.call_s) == len(found.draft_s) == len(found.drafted)


def test_a_wrong_draft_costs_a_call_and_no_token(real, plain):
    lm, prompt = real
    found = decode(Reader(lm, 80), prompt, 12, Oracle([t + 7 for t in [*prompt, *plain]], 2))
    assert found.tokens == plain[:12] and found.per_call == 1


def test_every_node_of_a_tree_is_read_as_its_own_text(real):
    """The mask hides siblings, and a position is a depth."""
    lm, prompt = real
    reader, parents = Reader(lm, 64), [0, 0, 1, 2, 2, 4]
    nodes = [prompt[-1], 11, 12, 13, 14, 15, 16]
    reader.read(prompt[:-1])
    reader.keep(len(prompt) - 1)
    found = reader.logits(reader.read(nodes, parents)[0])
    for node in range(len(nodes)):
        path, at = [], node
        while at:
            path.insert(0, nodes[at])
            at = parents[at - 1]
        right = lm(torch.tensor([[*prompt, *path]])).logits[0, -1]
        assert (found[node] - right).abs().max() < 1e-3


def test_layers_one_part_after_another(real):
    lm, prompt = real
    reader = Reader(lm, 32)
    early = reader.read(prompt, layers=range(0, 8))
    late = lm.model.norm(reader.through(early, range(8, 30)))
    assert torch.equal(late, Reader(lm, 32).read(prompt))


def test_sampling_is_seeded_and_needs_room(real):
    lm, prompt = real
    first, again = (
        decode(Reader(lm, 64), prompt, 8, PromptLookup(2), 1.0, generator=torch.Generator().manual_seed(5)).tokens
        for _ in range(2)
    )
    assert first == again
    with pytest.raises(ValueError, match="do not fit into 16 slots"):
        decode(Reader(lm, 16), prompt, 8)


def test_distinct():
    assert distinct([1, 2, 3, 4, 5]) == 1 and distinct([1, 2] * 10) == 2 / 17 and distinct([1]) == 1
    assert repeats_from([1, 2, 3, 4, 5, 1, 2, 3, 4]) == 5 and repeats_from([1, 2, 3, 4]) == 4


def test_texts_differ_unless_the_model_is_undecided(real, plain):
    lm, prompt = real
    reader, other = Reader(lm, 80), [*plain[:3], plain[3] + 1, *plain[4:]]
    assert not differs(reader, prompt, plain, plain)
    assert differs(reader, prompt, plain, other)
    assert not differs(reader, prompt, plain, other, tie=1e3)
