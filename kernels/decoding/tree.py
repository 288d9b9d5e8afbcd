"""A tree of drafted tokens below the last token of a text: node 0 is that token, nodes 1 .. M the drafts.

A chain is the tree in which each node has one child. Parents come before their children.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """M drafts: `tokens`, the node that each hangs on (0: the text's last token), and what each was drawn from.

    `draws`: (M, V) probabilities of the drafter's distribution at each draft, where it sampled; None where it named
    its tokens for certain (an argmax, a copy), which is a distribution with one token. ValueError for what is no tree.
    """

    tokens: list[int]
    parents: list[int]
    draws: Tensor | None = None

    def __post_init__(self):
        if len(self.tokens) != len(self.parents):
            raise ValueError(f"tree: {len(self.tokens)} tokens, {len(self.parents)} parents")
        for node, parent in enumerate(self.parents, 1):
            if not 0 <= parent < node:
                raise ValueError(f"tree: the parent of node {node} must be 0 to {node - 1}, got {parent}")
        if self.draws is not None and len(self.draws) != len(self.tokens):
            raise ValueError(f"tree: {len(self.tokens)} tokens, {len(self.draws)} distributions")

    def __len__(self) -> int:
        return len(self.tokens)

    def children(self) -> list[list[int]]:
        """Of each node 0 .. M, in the order in which they were drafted."""
        found: list[list[int]] = [[] for _ in range(len(self) + 1)]
        for node, parent in enumerate(self.parents, 1):
            found[parent].append(node)
        return found


def chain(tokens: list[int], draws: Tensor | None = None) -> Tree:
    """One draft after another."""
    return Tree(list(tokens), list(range(len(tokens))), draws)


def depths(parents: list[int]) -> list[int]:
    """Of node 0 and the nodes whose parents are given: how far below node 0."""
    found = [0]
    for parent in parents:
        found.append(found[parent] + 1)
    return found


def sees(parents: list[int]) -> Tensor:
    """(M + 1, M + 1) bool: a node sees itself and the nodes above it, and no other branch."""
    count = len(parents) + 1
    found = torch.eye(count, dtype=torch.bool)
    for node, parent in enumerate(parents, 1):
        found[node] |= found[parent]
    return found
