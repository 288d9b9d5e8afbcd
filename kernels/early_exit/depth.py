"""Where a network may stop: the layers one by one until an exit answers, or, of answers at hand, the first that would.

L layers, an exit after each; B samples, independent of one another. A rule says of an answer whether it is good enough
to stop: those of entropy.py, confidence.py and learned.py. The last layer answers whatever its rule says.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Answer = TypeVar("Answer")


def run_until(
    layers: Sequence[Callable[[Tensor], Tensor]],
    x: Tensor,
    answer: Callable[[int, Tensor], Answer],
    leaves: Callable[[int, Tensor, Answer], bool],
) -> tuple[Answer, int]:
    """Run one sample until it leaves: (its answer, how many layers ran). `answer(i, x)` is that of the exit after layer
    i, `leaves(i, x, answer)` whether it will do; the last layer's is not asked."""
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    for i, layer in enumerate(layers):
        x = layer(x)
        found = answer(i, x)
        if i + 1 == len(layers) or leaves(i, x, found):
            break
    return found, i + 1


def first(leaves: Tensor) -> Tensor:
    """Of `leaves` (L, B), whether a sample would leave after a layer: the layers it runs, 1 to L, (B,)."""
    last = torch.ones_like(leaves[:1], dtype=torch.bool)
    return torch.cat([leaves[:-1].bool(), last]).int().argmax(0) + 1


def pick(answers: Tensor, depths: Tensor) -> Tensor:
    """Of `answers` (L, B, ...) the one a sample left with: (B, ...)."""
    return answers[depths - 1, torch.arange(answers.shape[1], device=answers.device)]


def saving(depths: Tensor, layers: int) -> float:
    """The expected saving: the share of the layers' runs that was left out."""
    return 1 - depths.double().mean().item() / layers


def threshold(certainty: Tensor, wanted: float) -> float:
    """The highest threshold of `certainty` (L, B), leaving at or above it, that saves at least the share `wanted`; the
    lowest there is if none does."""
    found = sorted(set(certainty[:-1].flatten().tolist()), reverse=True)
    low, high = 0, len(found) - 1
    while low < high:
        middle = (low + high) // 2
        enough = saving(first(certainty >= found[middle]), len(certainty)) >= wanted
        low, high = (low, middle) if enough else (middle + 1, high)
    return found[low]
