"""Exits that leave by one learned module for all layers: their training, for classes and for a number.

L layers, B texts, E width, C outputs; `h` (L, B, E) is what the exits read (encoders.states).
"""

import torch
from torch import Tensor, nn

from kernels.early_exit import learned
from reproductions.lab.exits import Ramps, classify, correlation, fit


def _module(width: int, seed: int) -> learned.ExitModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return learned.ExitModule(width)


class Exits(nn.Module):
    """An off-ramp after each layer, and one module for all of them that learns where they are right."""

    def __init__(self, layers: int, width: int, outputs: int, seed: int = 0):
        super().__init__()
        self.ramps, self.module = Ramps(layers, width, outputs), _module(width, seed)

    def loss(self, h: Tensor, labels: Tensor) -> Tensor:
        """Of all off-ramps, and of the module: h (L, B, E), labels (B,)."""
        logits = self.ramps(h)
        return classify(logits, labels) + learned.exit_loss(self.module(h), learned.right(logits, labels))


def fit_regression(h: Tensor, targets: Tensor, seed: int, steps: int = 300) -> tuple[Tensor, Tensor]:
    """Off-ramps that give a number, and the module that learns how near they are, fitted to `targets` (F,), of mean 0
    and deviation 1, on the first F texts of h (L, B, E): (values, certainty), (L, B) each, of all texts."""
    f = len(targets)
    h = (h - h[:, :f].mean(1, keepdim=True)) / h[:, :f].std(1, keepdim=True)
    values = ridge(h[:, :f], targets, h)
    wanted = learned.near(values[:, :f], targets)
    module = _module(h.shape[-1], seed).to(h)

    def loss(x: Tensor, chosen: Tensor) -> Tensor:
        return learned.exit_loss(module(x), wanted[:, chosen])

    fit(module, h[:, :f], torch.arange(f, device=h.device), loss, steps=steps, batch=64, seed=seed)
    with torch.no_grad():
        return values, module(h)


def ridge(h: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """A linear regression after each layer in closed form, of the least mean squared error + |w|^2 / 10, fitted to
    `targets` (B,) on h (L, B, E), both of mean 0; its values (L, A) for `asked` (L, A, E)."""
    eye = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    return (asked @ torch.linalg.solve(h.mT @ h + 0.1 * len(targets) * eye, h.mT @ targets[:, None]))[..., 0]


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation of x and y (B,), ties at their mean rank; 0 where one of them does not vary."""
    return correlation(_ranks(x), _ranks(y))


def _ranks(x: Tensor) -> Tensor:
    _, place, count = x.double().unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2)[place]
