"""Pearson's test that draws follow a distribution."""

import torch
from torch import Tensor

FEWEST = 5.0  # draws expected of a cell; rarer cells are counted as one


def chi_square(counts: Tensor, p: Tensor) -> tuple[float, int, float]:
    """(statistic, degrees of freedom, probability of one as large by chance) of `counts` (n,) against p (n,).

    Rare outcomes are put together; a draw of what has no probability gives an infinite statistic.
    """
    counts, expected = counts.double(), p.double() / p.double().sum() * counts.sum()
    if (counts[expected == 0] > 0).any():
        return float("inf"), max(1, int((expected > 0).sum()) - 1), 0.0
    rare = expected < FEWEST
    observed = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic, degrees = ((observed - expected) ** 2 / expected).sum(), max(1, len(expected) - 1)
    return (
        statistic.item(),
        degrees,
        torch.special.gammaincc(torch.tensor(degrees / 2.0).double(), statistic / 2).item(),
    )
