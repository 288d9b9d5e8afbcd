"""Trees of drafts, and rules that accept them: what comes out is the target's, and a wrong rule is caught."""

import pytest
import torch

from kernels.decoding import verify as rules
from kernels.decoding.lookup import PromptLookup, look_up
from kernels.decoding.sampling import distribution
from kernels.decoding.tree import Tree, chain, depths, sees
from kernels.decoding.verify import verify, verify_naively
from reproductions.lab.chi_square import chi_square

V, DRAWS = 5, 20_000


@pytest.fixture(scope="module")
def language():
    """(target, draft): first-order Markov, (V, V) each; row: the token before."""
    torch.manual_seed(1)
    return [(1.5 * torch.randn(V, V)).softmax(-1) for _ in range(2)]


def drawn(target, draft, width, rule):
    """Counts (V * V) of the first two tokens after token 0, decoded by trees of `width` children, two deep."""
    generator = torch.Generator().manual_seed(2)
    parents = [0] * width + [1 + i // width for i in range(width * width)]
    counts = torch.zeros(V * V)
    first = torch.multinomial(draft[0], DRAWS * width, True, generator=generator).view(DRAWS, width)
    second = torch.multinomial(draft[first.flatten()], width, True, generator=generator).view(DRAWS, width * width)
    spare = torch.multinomial(target, DRAWS, True, generator=generator)
    for i in range(DRAWS):
        tokens = [*first[i].tolist(), *second[i].tolist()]
        before = torch.tensor([0, *tokens])
        tree = Tree(tokens, parents, draft[before[parents]])
        path, token = rule(tree, target[before], generator)
        out = [*(tokens[node - 1] for node in path), token][:2]
        if len(out) == 1:
            out.append(int(spare[out[0], i]))
        counts[out[0] * V + out[1]] += 1
    return counts


def chance(target, counts):
    joint = (target[0][:, None] * target).flatten()
    return chi_square(counts, joint)[2]


@pytest.mark.parametrize("width", [1, 2])
def test_what_is_accepted_and_added_is_the_targets(width, language):
    target, draft = language
    assert chance(target, drawn(target, draft, width, verify)) > 0.001


def test_naive_sampling_is_the_targets_too_and_accepts_less(language):
    target, draft = language
    assert chance(target, drawn(target, draft, 2, verify_naively)) > 0.001


@pytest.mark.parametrize(
    ("width", "residual"),
    [(1, lambda p, q: p), (1, lambda p, q: q), (2, lambda p, q: p)],
    ids=["from the target itself", "from the draft", "a stale target at the second child"],
)
def test_a_biased_rule_is_caught(width, residual, language, monkeypatch):
    monkeypatch.setattr(rules, "residual", residual)
    assert chance(language[0], drawn(*language, width, verify)) < 1e-6


def test_always_accepting_is_caught(language):
    def always(tree, target, generator):
        path = [1, tree.children()[1][0]]
        return path, int(torch.multinomial(target[path[-1]], 1, generator=generator))

    assert chance(language[0], drawn(*language, 1, always)) < 1e-6


def test_acceptance_is_the_overlap(language):
    """Leviathan et al., Theorem 3.5: sum of min(p, q)."""
    p, q = language[0][0], language[1][0]
    generator = torch.Generator().manual_seed(3)
    tokens = torch.multinomial(q, 4000, True, generator=generator).tolist()
    accepted = sum(bool(verify(chain([t], q[None]), p.expand(2, V), generator)[0]) for t in tokens)
    assert abs(accepted / 4000 - torch.minimum(p, q).sum().item()) < 0.03


def test_greedy_follows_the_argmax_and_nothing_else():
    """With the target's mass on one token the rule is a comparison, whatever the draft and the chance."""
    logits = torch.randn(6, V, generator=torch.Generator().manual_seed(4))
    best = logits.argmax(-1).tolist()
    other = [(b + 1) % V for b in best]
    tree = Tree([other[0], best[0], other[2], best[2], best[4]], [0, 0, 2, 2, 4])
    assert verify(tree, distribution(logits, 0.0)) == ([2, 4, 5], best[5])
    assert verify(chain([other[0], best[1]]), distribution(logits, 0.0)) == ([], best[0])
    assert verify(chain([]), distribution(logits, 0.0)) == ([], best[0])


def test_depths_and_what_a_node_sees():
    parents = [0, 0, 2, 3, 1]
    assert depths(parents) == [0, 1, 1, 2, 3, 2]
    assert [row.nonzero()[:, 0].tolist() for row in sees(parents)] == [
        [0],
        [0, 1],
        [0, 2],
        [0, 2, 3],
        [0, 2, 3, 4],
        [0, 1, 5],
    ]


@pytest.mark.parametrize(
    ("tokens", "parents", "draws", "message"),
    [
        ([1], [0, 1], None, "1 tokens, 2 parents"),
        ([1, 2], [0, 2], None, "the parent of node 2 must be 0 to 1, got 2"),
        ([1], [0], torch.ones(2, V), "1 tokens, 2 distributions"),
    ],
)
def test_what_is_no_tree(tokens, parents, draws, message):
    with pytest.raises(ValueError, match=message):
        Tree(tokens, parents, draws)


def test_nucleus_and_temperature():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert distribution(logits, top_p=0.7).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert distribution(logits, top_p=0.5).tolist() == pytest.approx([1, 0, 0, 0])
    assert distribution(logits, 0.5).tolist() == pytest.approx([x**2 / 0.365 for x in (0.5, 0.3, 0.15, 0.05)], rel=1e-5)
    assert distribution(torch.tensor([1.0, 3.0, 3.0]), 0.0).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="temperature"):
        distribution(logits, -1.0)


def test_look_up_copies_what_came_after_the_last_words():
    assert look_up([5, 1, 2, 3, 9, 1, 2], 2) == [3, 9]
    assert look_up([1, 2, 7, 1, 2, 8, 1, 2], 3) == [8, 1, 2], "the latest of them"
    assert look_up([4, 2, 6, 1, 3, 2], 4, longest=3) == [6, 1, 3, 2], "one word, where three and two are new"
    assert look_up([1, 2, 3], 4) == [] and look_up([1], 4) == []
    assert PromptLookup(2).draft([1, 2, 1], None) == chain([2, 1])


def test_the_test_itself():
    """A fair die passes, a loaded one does not; 11.07 at 5 degrees is the 5 % point of the tables."""
    counts = torch.tensor([95.0, 105.0, 110.0, 90.0, 98.0, 102.0])
    assert chi_square(counts, torch.full((6,), 1 / 6))[2] > 0.5
    assert chi_square(torch.tensor([200.0, 80, 80, 80, 80, 80]), torch.full((6,), 1 / 6))[2] < 1e-9
    assert torch.special.gammaincc(torch.tensor(2.5), torch.tensor(11.07 / 2)).item() == pytest.approx(0.05, abs=1e-4)
    assert chi_square(torch.tensor([1.0, 9.0]), torch.tensor([0.0, 1.0]))[2] == 0
