"""Medusa (Cai et al. 2024, arXiv:2401.10774): heads on the last hidden state, trees of their candidates, two rules.

E width, A heads; head k names the token k + 1 places after the state's own next one. A tree is a list of paths: (0, 2)
is the third choice of head 2 below the first choice of head 1. M nodes, V tokens.
"""

import heapq
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kernels.decoding.tree import Tree

Path = tuple[int, ...]


class MedusaHeads(nn.Module):
    """A residual block a head (Section 2.1.1): h + SiLU(W h + b), W and b zero at first, before the projection."""

    def __init__(self, width: int, ahead: int):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(ahead))
        for block in self.blocks:
            nn.init.zeros_(block.weight)
            nn.init.zeros_(block.bias)

    def forward(self, states: Tensor, ahead: int | None = None) -> Tensor:
        """(..., E) -> (..., A, E), or of the first `ahead` heads."""
        return torch.stack([states + nn.functional.silu(block(states)) for block in self.blocks[:ahead]], -2)

    def loss(self, states: Tensor, targets: Tensor, table: Tensor, draw=None) -> Tensor:
        """sum_k 0.8^k CE_k (Section 2.2.1), in nats: states (n, E), targets (n, A), rows of `table` (R, E)."""
        scores = self(states) @ table.mT
        return sum(
            0.8**k * nn.functional.cross_entropy(scores[:, k - 1], targets[:, k - 1])
            for k in range(1, targets.shape[1] + 1)
        )


def dense(widths: Sequence[int]) -> list[Path]:
    """The Cartesian product: the first widths[0] choices of head 1, widths[1] of head 2 below each, and so on."""
    levels = (itertools.product(*(range(w) for w in widths[:depth])) for depth in range(1, len(widths) + 1))
    return [path for level in levels for path in level]


def sparse(accuracy: Sequence[Sequence[float]], nodes: int) -> list[Path]:
    """The `nodes` most valuable paths (Section 2.3.3): accuracy[k][i] is how often choice i of head k + 1 is right.

    A path is worth the product of its choices' accuracies; the best one whose parent is in is added, again and again.
    """
    heap: list[tuple[float, Path]] = [(-accuracy[0][0], (0,))]
    found: list[Path] = []
    while heap and len(found) < nodes:
        value, path = heapq.heappop(heap)
        found.append(path)
        depth, last = len(path), path[-1]
        if last + 1 < len(accuracy[depth - 1]):
            above = value / accuracy[depth - 1][last] if accuracy[depth - 1][last] else 0.0
            heapq.heappush(heap, (above * accuracy[depth - 1][last + 1], (*path[:-1], last + 1)))
        if depth < len(accuracy):
            heapq.heappush(heap, (value * accuracy[depth][0], (*path, 0)))
    return found


def accepted(ranks: Sequence[int], paths: set[Path]) -> int:
    """How deep a tree goes along a text whose next tokens are the heads' choices `ranks`."""
    depth = 0
    while depth < len(ranks) and tuple(ranks[: depth + 1]) in paths:
        depth += 1
    return depth


class TreeDrafter:
    """Candidates of `heads` in the shape of `paths`; `words` (R,): the tokens that rows of `table` (R, E) stand for."""

    def __init__(self, heads: nn.Module, words: Tensor, table: Tensor, paths: Sequence[Path]):
        ordered = sorted(paths, key=lambda path: (len(path), path))
        node = {path: i for i, path in enumerate(ordered, 1)}
        self.heads, self.words, self.table, self.paths = heads, words, table, ordered
        self.parents = [node.get(path[:-1], 0) for path in ordered]
        self.ahead = max(map(len, ordered))
        self.most = 1 + max(map(max, ordered))

    @torch.no_grad()
    def draft(self, ids: list[int], states: Tensor, generator=None) -> Tree:
        """From the state that gave ids[-1]."""
        scores = self.heads(states[-1], self.ahead) @ self.table.mT
        choices = self.words[scores.topk(self.most, -1).indices].tolist()
        return Tree([choices[len(path) - 1][path[-1]] for path in self.paths], self.parents)


def typical(
    tree: Tree, target: Tensor, generator=None, epsilon: float = 0.09, delta: float = 0.3
) -> tuple[list[int], int]:
    """Typical acceptance (Section 2.3.1): a draft passes where p(x) > min(epsilon, delta exp(-H(p))), by the target's
    probabilities (M + 1, V); of the deepest nodes the first; the token after it is the likeliest one.

    This is another distribution than the target's. The paper takes delta = sqrt(epsilon).
    """
    entropy = -(target * target.clamp(min=1e-12).log()).sum(-1)
    least = [min(epsilon, delta * math.exp(-h)) for h in entropy.tolist()]
    paths: dict[int, list[int]] = {0: []}
    for child, parent in enumerate(tree.parents, 1):
        if parent in paths and target[parent, tree.tokens[child - 1]].item() > least[parent]:
            paths[child] = [*paths[parent], child]
    path = max(paths.values(), key=len)
    return path, int(target[path[-1] if path else 0].argmax())
