"""Which drafted tokens a model accepts, so that what comes out is distributed as if it had decoded alone.

Speculative decoding and speculative sampling (Leviathan et al. 2023, Section 2.3; Chen et al. 2023, Algorithm 2) and,
for more than one child of a node, SpecInfer's multi-step speculative sampling (Miao et al. 2024, Algorithm 2). Greedy
decoding is the same rule with all of the target's probability on its argmax. M drafts, V tokens.
"""

import torch
from torch import Tensor

from kernels.decoding.sampling import sample
from kernels.decoding.tree import Tree


def residual(p: Tensor, q: Tensor) -> Tensor:
    """normalise(max(0, p - q)), of p and q (V,): what is left of p once a draft from q was refused.

    p itself where nothing is left, which only rounding can bring about.
    """
    left = (p - q).clamp(min=0)
    total = left.sum()
    return left / total if total > 0 else p


def verify(tree: Tree, target: Tensor, generator: torch.Generator | None = None) -> tuple[list[int], int]:
    """(accepted nodes from the top down, the token that follows them), by the target's probabilities (M + 1, V).

    Each child in turn is accepted with probability min(1, p(x) / q(x)), q what it was drawn from; after a refusal p
    becomes the residual. When no child is left the next token is drawn from what p has become.
    """
    node, children = 0, tree.children()
    path: list[int] = []
    while True:
        p = target[node]
        for child in children[node]:
            token = tree.tokens[child - 1]
            q = torch.zeros_like(p).index_fill(0, torch.tensor(token, device=p.device), 1.0)
            if tree.draws is not None:
                q = tree.draws[child - 1]
            chance = torch.rand((), generator=generator, device=p.device)
            if chance * q[token] < p[token]:
                node = child
                path.append(child)
                break
            p = residual(p, q)
        else:
            return path, sample(p, generator)


def verify_naively(tree: Tree, target: Tensor, generator: torch.Generator | None = None) -> tuple[list[int], int]:
    """The rule that SpecInfer compares with (its Section 4.3): draw from the target, and see whether a child is it."""
    node, children = 0, tree.children()
    path: list[int] = []
    while True:
        token = sample(target[node], generator)
        same = [child for child in children[node] if tree.tokens[child - 1] == token]
        if not same:
            return path, token
        node = same[0]
        path.append(node)
