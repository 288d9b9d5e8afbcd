"""Medusa's heads, the two ways to build a tree, and typical acceptance against its formula."""

import itertools
import math

import pytest
import torch

from kernels.decoding.medusa import MedusaHeads, TreeDrafter, accepted, dense, sparse, typical
from kernels.decoding.tree import Tree, chain

E = 16


def test_heads_start_as_the_models_own_and_learn_what_comes_after():
    torch.manual_seed(0)
    heads, table, states = MedusaHeads(E, 2), torch.randn(6, E), torch.randn(64, E)
    assert torch.equal(heads(states), states[:, None].expand(-1, 2, -1))
    words = (states @ table.mT).argmax(-1)
    targets = torch.stack([(words + 1) % 6, (words + 2) % 6], 1)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=3e-2)
    first = heads.loss(states, targets, table).item()
    right = [torch.nn.functional.cross_entropy(states @ table.mT, t).item() for t in targets.T]
    assert first == pytest.approx(0.8 * right[0] + 0.64 * right[1], rel=1e-5)
    for _ in range(300):
        optimiser.zero_grad()
        heads.loss(states, targets, table).backward()
        optimiser.step()
    assert ((heads(states) @ table.mT).argmax(-1) == targets).float().mean() > 0.9


def test_dense_trees():
    assert dense([2, 2]) == [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(dense([5, 3, 2])) == 50


@pytest.mark.parametrize("nodes", [1, 4, 9, 30])
def test_the_sparse_tree_is_the_most_valuable_one(nodes):
    """Against the sum of the largest products of all paths: a prefix is never worth less, so they form a tree."""
    accuracy = [[0.5, 0.2, 0.1], [0.4, 0.15, 0.05], [0.3, 0.1, 0.02]]
    found = sparse(accuracy, nodes)
    value = {path: math.prod(accuracy[k][i] for k, i in enumerate(path)) for path in dense([3, 3, 3])}
    assert len(set(found)) == len(found) == nodes
    assert sum(map(value.get, found)) == pytest.approx(sum(sorted(value.values(), reverse=True)[:nodes]))
    assert all(path[:-1] in found for path in found if len(path) > 1)


def test_no_more_nodes_than_there_are_and_choices_that_are_never_right():
    assert sorted(sparse([[0.5, 0.0], [0.0]], 9)) == [(0,), (0, 0), (1,), (1, 0)]


def test_how_deep_a_tree_goes():
    paths = {(0,), (1,), (0, 1)}
    assert [accepted(r, paths) for r in ([0, 1, 0], [1, 1, 0], [0, 0, 0], [2, 0, 0])] == [2, 1, 1, 0]


def test_a_drafter_lays_choices_out_as_its_paths():
    heads, table = MedusaHeads(E, 2), torch.randn(9, E)
    words = torch.arange(9) + 100
    state = torch.randn(3, E)
    tree = TreeDrafter(heads, words, table, [(1, 0), (0,), (1,)]).draft([1], state)
    best = (100 + (state[-1] @ table.mT).topk(2).indices).tolist()
    assert (tree.tokens, tree.parents) == ([best[0], best[1], best[0]], [0, 0, 2])


def test_typical_acceptance_by_its_formula():
    torch.manual_seed(1)
    for _ in range(50):
        target = (2 * torch.randn(4, 6)).softmax(-1)
        tokens = torch.randint(6, (3,)).tolist()
        passes = [
            p[t] > min(0.09, 0.3 * math.exp((p * p.log()).sum())) for p, t in zip(target[:3], tokens, strict=True)
        ]
        depth = len(list(itertools.takewhile(bool, passes)))
        assert typical(chain(tokens), target) == (list(range(1, depth + 1)), int(target[depth].argmax()))


def test_typical_takes_the_deepest_branch():
    certain = torch.eye(6)[[2, 0, 4, 5]]
    assert typical(Tree([1, 2, 4], [0, 0, 2]), certain) == ([2, 3], 5)
