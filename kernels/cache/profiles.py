"""FastGen (Ge et al. 2023, arXiv:2310.01801): each head keeps what it looks at, by a policy chosen from the prompt.

Shapes as in kept.py; N tokens of the prompt. After the prompt, which is read with everything kept, each key head takes
the first of POLICIES, every one of which keeps what the one before keeps and more, that loses at most 1 - T of its
attention: the mean over the prompt's rows, and over the query heads of the key head, of what falls on tokens it would
not keep. Frequent: the share of the tokens so far with the most attention in all. Local: a distance of at most a share
of the prompt. From then on the head keeps by its policy; nothing is profiled again.
"""

import math

import torch
from torch import Tensor

from kernels.cache.heavy_hitters import HeavyHitterCache
from kernels.cache.kept import KeptCache, first_and_chosen

POLICIES = ("special", "punctuation", "frequent", "local", "full")
SHARE = 0.3  # the paper's r_f and r_l


def profile(p: Tensor, special: Tensor, punctuation: Tensor, recover: float, frequent: float, local: float) -> Tensor:
    """The policy of each key head, as an index (B, G) into POLICIES: the cheapest that loses at most 1 - `recover`.

    p (B, G, N, N): causal attention over the prompt, whose tokens are `special` or `punctuation` (B, N).
    """
    n = p.shape[-1]
    often = torch.zeros(p.shape[:2] + (n,), dtype=torch.bool, device=p.device)
    often.scatter_(2, first_and_chosen(p.sum(2), math.ceil(frequent * n), 0), True)
    i = torch.arange(n, device=p.device)
    near = i[:, None] - i <= local * n
    keep = special[:, None, None, :n]
    lost = []
    for more in (keep, punctuation[:, None, None, :n], often[:, :, None], near):
        keep = keep | more
        lost.append((p * ~keep).sum(-1).mean(-1))
    lost.append(torch.zeros_like(lost[0]))
    return (torch.stack(lost) <= 1 - recover).int().argmax(0)


class ProfiledCache(KeptCache):
    """A cache of `prompt` tokens and what follows them. `special` and `punctuation` (B, tokens of the text).

    Heads hold different numbers of tokens: a slot that one head still needs is masked in the others, and not counted.
    """

    def __init__(
        self,
        prompt: int,
        special: Tensor,
        punctuation: Tensor,
        cos: Tensor,
        sin: Tensor,
        recover: float = 0.95,
        frequent: float = SHARE,
        local: float = SHARE,
    ):
        super().__init__(len(cos), cos, sin)
        if prompt < 1 or not all(0 <= x <= 1 for x in (recover, frequent, local)):
            raise ValueError(
                f"expected prompt >= 1 and shares of 0 to 1, got {prompt}, {recover}, {frequent} and {local}"
            )
        self.prompt, self.special, self.punctuation = prompt, special, punctuation
        self.recover, self.frequent, self.local = recover, frequent, local
        self.rows: list[Tensor] = []  # of the prompt's attention, until it is profiled
        self.policies = self.alive = self.scores = self.p = torch.empty(0)

    def observe(self, p: Tensor) -> None:
        """Attention over what this head holds, by a softmax over it alone; added to what its tokens had before."""
        new = torch.ones(*self.places.shape[:2], 1, dtype=torch.bool, device=p.device)
        self.alive = torch.cat([self.alive, new], 2) if self.seen > 1 else new
        p = p * self.alive[:, :, None]
        self.p = p / p.sum(-1, keepdim=True)
        before = torch.nn.functional.pad(self.scores, (0, 1)) if self.seen > 1 else 0
        self.scores = before + self.p.mean(2)
        if self.seen <= self.prompt:
            self.rows.append(torch.nn.functional.pad(self.p.mean(2), (0, self.prompt - self.seen)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One token more."""
        super().attend(q, k, v)
        out = (self.p @ self.v).flatten(1, 2)[:, :, None]
        if self.seen == self.prompt:
            kinds = self.special, self.punctuation
            self.policies = profile(torch.stack(self.rows, 2), *kinds, self.recover, self.frequent, self.local)
            self.rows = []
        if self.seen >= self.prompt:
            self.alive &= self.wanted()
            self.keep(self.choose())
        return out

    def wanted(self) -> Tensor:
        """What each head keeps by its policy, (B, G, C)."""
        scores = self.scores.masked_fill(~self.alive, -torch.inf)
        most = first_and_chosen(scores, math.ceil(self.frequent * self.seen), 0)
        often = torch.zeros_like(self.alive).scatter_(2, most, True)
        near = self.seen - 1 - self.places <= self.local * self.prompt
        special, marks = (x[:, None].expand(-1, self.places.shape[1], -1).gather(2, self.places)
                          for x in (self.special, self.punctuation))  # fmt: skip
        keep = special
        for i, more in enumerate((marks, often, near, torch.ones_like(near)), 1):
            keep = keep | more & (self.policies >= i)[..., None]
        return keep

    def choose(self) -> Tensor:
        """The slots that any head needs: each head's own first, in order, as many as the fullest head has."""
        most = int(self.alive.sum(-1).max())
        return self.alive.int().argsort(dim=-1, descending=True, stable=True)[..., :most]

    def keep(self, index: Tensor) -> None:
        """Masks and scores go with their tokens."""
        super().keep(index)
        self.alive, self.scores = self.alive.gather(2, index), self.scores.gather(2, index)

    @property
    def tokens(self) -> float:  # type: ignore[override]
        """Kept now, the mean over heads and texts."""
        return self.alive.sum().item() / self.places.shape[:2].numel() if self.seen else 0.0


class FixedCache(HeavyHitterCache):
    """One policy for all heads, what the method is held against: after the prompt, `share` of the tokens so far.

    Of these, `recent` (a share again) are the newest, the others those with the most attention: 1 is a window, 0 heavy
    hitters alone, a half H2O.
    """

    def __init__(self, prompt: int, share: float, recent: float, cos: Tensor, sin: Tensor):
        super().__init__(len(cos), cos, sin)
        if not 0 < share <= 1 or not 0 <= recent <= 1:
            raise ValueError(f"share, recent: expected shares of 0 to 1, got {share} and {recent}")
        self.prompt, self.share, self.newest = prompt, share, recent

    def observe(self, p: Tensor) -> None:
        """The budget follows the text."""
        super().observe(p)
        if self.seen >= self.prompt:
            self.budget = max(1, round(self.share * self.seen))
            self.recent = round(self.newest * self.budget)
