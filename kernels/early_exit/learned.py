"""BERxiT (Xin et al. 2021): learning to exit, one small module for all layers that says how certain an exit is.

h (..., E) is what an exit reads, after any of the layers. The module sees no answer, so it also serves exits that give
a number and have no distribution.
"""

from torch import Tensor, nn


class ExitModule(nn.Module):
    """u = sigmoid(c . h + b): the certainty (...) of an exit that reads h (..., E); c and b serve every layer."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, h: Tensor) -> Tensor:
        """h (..., E) -> (...), between 0 and 1."""
        return self.linear(h)[..., 0].sigmoid()


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """What the module is to say of exits that choose a class: 1 where logits (..., C) choose labels (...), else 0."""
    return (logits.argmax(-1) == labels).to(logits.dtype)


def near(values: Tensor, targets: Tensor) -> Tensor:
    """What it is to say of exits that give a number: 1 - tanh |value - target|, targets of standard deviation 1."""
    return 1 - (values - targets).abs().tanh()


def exit_loss(certainty: Tensor, wanted: Tensor) -> Tensor:
    """The squared error of the certainties, its mean over all exits and samples; the exits' answers get no gradient."""
    return (certainty - wanted.detach()).square().mean()


def leaves(certainty: Tensor, threshold: float | Tensor) -> Tensor:
    """Whether the certainty is at least the threshold; above 1 nothing leaves."""
    return certainty >= threshold
