"""A key-value cache that keeps some tokens and lets others go: what every eviction policy shares.

B batch, H query heads, G key heads (H a multiple), D head size, C tokens kept. q (B, H, 1, D), k and v (B, G, 1, D), of
one new token, are un-rotated; keys are kept rotated by their place in the text, so that distances stay those of the
text whatever was dropped. Each key head keeps its own tokens. A policy is a class with `choose`: it sees the attention
that each kept token got and says, when the cache is over its budget, which tokens stay.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from kernels.cache.streaming import rotate


class KeptCache(ABC):
    """`budget`: the most tokens that a head holds after a step.

    `attend(q, k, v)` takes the next token and returns (B, H, 1, D): attention over what is kept and the token itself.
    """

    def __init__(self, budget: int, cos: Tensor, sin: Tensor):
        if budget < 1:
            raise ValueError(f"budget: expected at least 1, got {budget}")
        self.budget, self.cos, self.sin, self.seen = budget, cos, sin, 0
        self.k = self.v = self.places = torch.empty(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One token more."""
        at = slice(self.seen, self.seen + 1)
        place = torch.full((*k.shape[:2], 1), self.seen, device=k.device)
        new = rotate(k, self.cos[at], self.sin[at]), self.pack(v), place
        old = (self.k, self.v, self.places) if self.seen else tuple(x[:, :, :0] for x in new)
        self.k, self.v, self.places = (
            torch.cat(pair, 2) for pair in zip(old, (self.pack(new[0]), *new[1:]), strict=True)
        )
        self.seen += 1
        grouped = rotate(q, self.cos[at], self.sin[at]).unflatten(1, (k.shape[1], -1))[..., 0, :]  # (B, G, R, D)
        p = (grouped @ self.k.mT * q.shape[-1] ** -0.5).softmax(-1)
        self.observe(p)
        out = (p @ self.v).flatten(1, 2)[:, :, None]
        if self.k.shape[2] > self.budget:
            self.keep(self.choose())
        return out

    def pack(self, x: Tensor) -> Tensor:
        """What is stored of new keys or values; a quantising cache loses something here."""
        return x

    def observe(self, p: Tensor) -> None:  # noqa: B027 - not every policy looks
        """The attention of this step, (B, G, H/G, C)."""

    @abstractmethod
    def choose(self) -> Tensor:
        """Which tokens stay: their indices among the kept, (B, G, at most budget), in order."""

    def keep(self, index: Tensor) -> None:
        """Let all others go."""
        wide = index[..., None].expand(-1, -1, -1, self.k.shape[3])
        self.k, self.v, self.places = self.k.gather(2, wide), self.v.gather(2, wide), self.places.gather(2, index)

    @property
    def tokens(self) -> int:
        """Kept now, a head."""
        return self.k.shape[2] if self.seen else 0


def first_and_chosen(scores: Tensor, count: int, recent: int) -> Tensor:
    """The `count` indices with the highest scores (B, G, C), the older of equal ones first; the last `recent` of C are
    among them whatever theirs."""
    held = scores.clone()
    if recent:
        held[..., -recent:] = torch.inf
    return held.argsort(dim=-1, descending=True, stable=True)[..., :count].sort(-1).values


class FullCache(KeptCache):
    """Every token of as long a text as the tables reach: the dense model."""

    def __init__(self, cos: Tensor, sin: Tensor):
        super().__init__(len(cos), cos, sin)

    def choose(self) -> Tensor:
        """All that fit; never asked for, since a text ends where its tables do."""
        return self.places.argsort(-1)[..., -self.budget :]


class WindowCache(KeptCache):
    """The most recent tokens."""

    def choose(self) -> Tensor:
        """The last `budget` of them."""
        return self.places.argsort(-1)[..., -self.budget :]


class RandomCache(KeptCache):
    """The `recent` newest tokens, and others by chance: what a policy must beat."""

    def __init__(self, budget: int, cos: Tensor, sin: Tensor, recent: int, generator: torch.Generator):
        super().__init__(budget, cos, sin)
        self.recent, self.generator = recent, generator

    def choose(self) -> Tensor:
        """Another draw each time."""
        scores = torch.rand(self.places.shape, generator=self.generator, device=self.places.device)
        return first_and_chosen(scores, self.budget, self.recent)
