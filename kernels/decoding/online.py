"""Online speculative decoding (Liu et al. 2024, arXiv:2310.07177): a draft learns while serving, from what was refused.

After each request the places where the target refused the draft are kept, with the target's own distribution there;
every few requests the draft takes some steps of forward KL on them, and they are forgotten.
n places of one or of several requests, V tokens.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """The chance (n,) that a draft from q is accepted by the target p, both (n, V): sum of min(p, q)."""
    return torch.minimum(p, q).sum(-1)


def refused(p: Tensor, q: Tensor, tokens: Tensor, draw: torch.Generator | None = None) -> Tensor:
    """Whether (n,) the draft was refused at each place of a text whose `tokens` (n,) came out; p, q (n, V).

    A draft y is accepted with chance min(1, p(y) / q(y)). Given that x came out, an accepted x was the draft with
    chance min(p(x), q(x)) / p(x), so that over texts of the target the share accepted is `acceptance`.
    """
    p, q = (x.gather(-1, tokens[..., None])[..., 0] for x in (p, q))
    return torch.rand(p.shape, generator=draw, device=p.device) * p >= q


def forward_kl(p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), (n,), in nats: of the distances that the paper tries, the one that it found best."""
    return (torch.xlogy(p, p) - p * log_q).sum(-1)


class OnlineDraft:
    """A draft that is served, and learns after every `interval` requests by `steps` steps of AdamW.

    `log_q(*inputs, where)` gives its log-probabilities (m, V) at the m places of `inputs` where `where` is true;
    `parameters` are what learns. The optimiser's state outlives an update; what was kept does not.
    """

    def __init__(self, log_q: Callable[..., Tensor], parameters: Iterable[nn.Parameter], interval: int = 8,
                 steps: int = 1, rate: float = 1e-3):  # fmt: skip
        self.log_q, self.parameters = log_q, list(parameters)
        self.interval, self.steps = interval, steps
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate)
        self.kept: list[tuple[tuple[Any, ...], Tensor, Tensor]] = []
        self.waiting = 0

    def served(self, inputs: tuple[Any, ...], p: Tensor, wrong: Tensor) -> bool:
        """B requests were answered: the target's p (B, n, V), and where (B, n) the draft was refused. Whether the draft
        has learnt from them and from those before."""
        self.kept.append((inputs, wrong, p[wrong]))
        self.waiting += len(wrong)
        if self.waiting < self.interval:
            return False
        for _ in range(self.steps):
            self.step()
        self.kept, self.waiting = [], 0
        return True

    def step(self) -> None:
        """One step on the mean over all places kept."""
        places = sum(len(p) for _, _, p in self.kept)
        if not places:
            return
        self.optimiser.zero_grad()
        for inputs, where, p in self.kept:
            (forward_kl(p, self.log_q(*inputs, where)).sum() / places).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
