"""The first tokens and the most recent ones (Xiao et al. 2023, arXiv:2309.17453), as a policy of kept.py.

Places are those of the text here; streaming.py re-numbers them inside the cache, for streams beyond the trained length.
"""

import torch
from torch import Tensor

from kernels.cache.kept import KeptCache


class SinkCache(KeptCache):
    """`sinks` first tokens, and the last `budget - sinks`."""

    def __init__(self, budget: int, cos: Tensor, sin: Tensor, sinks: int = 4):
        super().__init__(budget, cos, sin)
        if not 0 <= sinks < budget:
            raise ValueError(f"sinks: expected 0 to {budget - 1}, fewer than the budget, got {sinks}")
        self.sinks = sinks

    def choose(self) -> Tensor:
        """All but the oldest that is no sink."""
        index = torch.arange(self.tokens, device=self.places.device)
        stay = torch.cat([index[: self.sinks], index[self.sinks - self.budget :]])
        return stay.expand(*self.places.shape[:2], -1)
