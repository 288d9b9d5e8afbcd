"""Scissorhands (Liu et al. 2023, arXiv:2305.17118): tokens that mattered once will matter again, so keep those.

Shapes as in kept.py. Importance of a kept token: in how many of the last `history` steps its attention was above 1/t, t
the tokens kept then, counted over the query heads of its key head. When the buffer is full, the least important are
dropped, half of it at once (Algorithm 2); the `recent` newest always stay. In between, nothing is computed but counts.
"""

import torch
from torch import Tensor

from kernels.cache.kept import KeptCache, first_and_chosen

HISTORY, RECENT, DROPPED = 400, 10, 0.5  # the paper's w, r and m / B


class PersistentCache(KeptCache):
    """`budget` is the buffer B: the cache swings between B (1 - dropped) and B."""

    def __init__(
        self,
        budget: int,
        cos: Tensor,
        sin: Tensor,
        recent: int = RECENT,
        history: int = HISTORY,
        dropped: float = DROPPED,
    ):
        super().__init__(budget, cos, sin)
        if not 0 < dropped < 1 or not 1 <= recent < budget * (1 - dropped) or history < 1:
            raise ValueError(
                f"expected 0 < dropped < 1, 1 <= recent < what stays, history >= 1, got {dropped}, {recent}, {history}"
            )
        self.recent, self.history, self.dropped = recent, history, dropped
        self.important: list[Tensor] = []  # of each remembered step: (B, G, C then), how many heads were above 1/t

    def observe(self, p: Tensor) -> None:
        """Remember whom this step looked at."""
        self.important = [*self.important[-self.history + 1 :], (p > 1 / p.shape[-1]).sum(2)]

    def counts(self) -> Tensor:
        """Importance of the kept tokens, (B, G, C)."""
        total = torch.zeros(self.places.shape, device=self.places.device)
        for step in self.important:
            total[..., : step.shape[-1]] += step
        return total

    def choose(self) -> Tensor:
        """What stays of a full buffer."""
        stay = max(self.recent + 1, round(self.budget * (1 - self.dropped)))
        return first_and_chosen(self.counts(), stay, self.recent)

    def keep(self, index: Tensor) -> None:
        """Counts go with their tokens."""
        super().keep(index)
        kept = []
        for step in self.important:
            padded = torch.nn.functional.pad(step, (0, max(0, int(index.max()) + 1 - step.shape[-1])))
            kept.append(padded.gather(2, index))
        self.important = kept


class QuantisedPersistentCache(PersistentCache):
    """The same with keys and values in 4 bits: a minimum and a scale for each token and key head (Section 5.3)."""

    bits = 4

    def pack(self, x: Tensor) -> Tensor:
        """x at the nearest of 16 even steps between its least and its largest."""
        low, steps = x.amin(-1, keepdim=True), 2**self.bits - 1
        size = (x.amax(-1, keepdim=True) - low).clamp_min(torch.finfo(x.dtype).tiny) / steps
        return low + ((x - low) / size).round() * size


def pivotal(p: Tensor, above: float) -> Tensor:
    """Whether a key was looked at with more than `above` / t by any of the queries: p (..., N, M) of causal queries,
    the i-th of which sees t = M - N + i + 1 keys -> (..., M)."""
    n, m = p.shape[-2:]
    seen = torch.arange(m - n + 1, m + 1, device=p.device)[:, None]
    return (p > above / seen).any(-2)


def persistence(p: Tensor, above: float = 1.0, nearest: int = 0) -> tuple[Tensor, Tensor]:
    """(ratio, share) of causal attention p (..., N, N), split in the middle (Section 3.2).

    Ratio: of the first half's tokens that are pivotal in the second half, how many were so in the first. Share: how
    many of the first half were pivotal at all, which is the ratio that chance would give. The `nearest` keys of each
    query, itself included, are left out.
    """
    n = p.shape[-1]
    if nearest:
        i = torch.arange(n, device=p.device)
        p = p.masked_fill(i[:, None] - i[None, :] < nearest, 0)
    half = n // 2
    before, after = pivotal(p[..., :half, :half], above), pivotal(p[..., half:, :], above)[..., :half]
    return (before & after).sum(-1) / after.sum(-1), before.double().mean(-1)
