"""Blockwise parallel decoding (Stern et al. 2018, arXiv:1811.03115): predictors p_2 .. p_k beside a model's own p_1.

E width of the decoder's output, k - 1 predictors. One feed-forward layer for all of them, each with a residual from
its input, before the model's own vocabulary projection (Section 6). p_1 is the model itself, so that with exact
acceptance the text is the model's (Section 3); the paper's own p_1 passes the new layer too (its footnote 1).
"""

import torch
from torch import Tensor, nn


class BlockwiseHeads(nn.Module):
    """From the state that gives the next token to those that give the `ahead` tokens after it."""

    def __init__(self, width: int, ahead: int):
        super().__init__()
        self.width, self.ahead = width, ahead
        self.inner = nn.Linear(width, (ahead + 1) * width)
        self.outer = nn.ModuleList(nn.Linear((ahead + 1) * width, width) for _ in range(ahead))
        for outer in self.outer:  # each predictor starts as p_1
            nn.init.zeros_(outer.weight)
            nn.init.zeros_(outer.bias)

    def forward(self, states: Tensor, ahead: int | None = None) -> Tensor:
        """(..., E) -> (..., ahead, E): the first `ahead` predictors' states; all by default."""
        inner = self.inner(states).relu()
        return torch.stack([states + outer(inner) for outer in self.outer[:ahead]], -2)

    def loss(self, states: Tensor, targets: Tensor, table: Tensor, draw: torch.Generator) -> Tensor:
        """Cross-entropy of one predictor, drawn for this mini-batch (Section 6), in nats.

        states (n, E), targets (n, ahead): rows of `table` (R, E), the vocabulary projection.
        """
        i = int(torch.randint(self.ahead, (), generator=draw))
        state = states + self.outer[i](self.inner(states).relu())
        return nn.functional.cross_entropy(state @ table.mT, targets[:, i])
