"""H2O (Zhang et al. 2023, arXiv:2306.14048): the tokens that got the most attention so far, and the most recent ones.

Shapes as in kept.py. The score of a kept token is the attention it has received since it came, from the softmax over
what was kept at each step (Algorithm 1), summed over the query heads of its key head. Over the budget, the token with
the smallest score outside the recent part goes.
"""

import torch
from torch import Tensor

from kernels.cache.kept import KeptCache, first_and_chosen


class HeavyHitterCache(KeptCache):
    """`recent` of the `budget` tokens are the newest; half of it unless given."""

    def __init__(self, budget: int, cos: Tensor, sin: Tensor, recent: int | None = None):
        super().__init__(budget, cos, sin)
        self.recent = budget // 2 if recent is None else recent
        if not 1 <= self.recent <= budget:
            raise ValueError(f"recent: expected 1 to {budget}, the budget, got {self.recent}")
        self.scores = torch.empty(0)

    def observe(self, p: Tensor) -> None:
        """Add this step's attention; the new token starts with its own."""
        before = torch.nn.functional.pad(self.scores, (0, 1)) if self.seen > 1 else 0
        self.scores = before + p.sum(2)

    def choose(self) -> Tensor:
        """All but the one with the smallest score."""
        return first_and_chosen(self.scores, self.budget, self.recent)

    def keep(self, index: Tensor) -> None:
        """Scores go with their tokens."""
        super().keep(index)
        self.scores = self.scores.gather(2, index)
