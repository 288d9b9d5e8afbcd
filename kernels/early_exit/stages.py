"""EE-LLM (Chen et al. 2023, arXiv:2312.04916): a loss with exits, its gradient by stages that see their own part.

K stages in a row; stage k makes x_k of x_(k-1) and owns some of the weighted losses w_i L_i. It is given g_k, the
gradient of all later losses by x_k, as a constant, and goes backward through its auxiliary loss

    its own losses + <g_k, x_k>

which leaves the gradient of all losses from k on in its parameters, and by x_(k-1): the g_(k-1) of the stage before.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor], Tensor]  # of a stage's output, or of its exits' share in it, weighted


def backward(output: Tensor, own: Tensor | None, gradient: Tensor | None) -> None:
    """Go backward through a stage's auxiliary loss. `own`: its weighted losses, if it has any; `gradient` as `output`,
    if a stage follows. ValueError if there is neither."""
    parts = [] if own is None else [own]
    if gradient is not None:
        if gradient.shape != output.shape:
            raise ValueError(f"gradient: expected shape {tuple(output.shape)}, got {tuple(gradient.shape)}")
        parts.append((gradient.detach() * output).sum())
    if not parts:
        raise ValueError("expected losses of this stage or a gradient from the next, got neither")
    torch.stack(parts).sum().backward()


def pipelined(stages: Sequence[nn.Module], x: Tensor, losses: Sequence[Loss | None]) -> float:
    """Forward and backward, one stage at a time, with nothing but x_k handed on and g_k handed back: parameters get
    their gradients; returns the sum of all losses. `losses[k]` is that of stage k's output."""
    ends, total = [], 0.0
    for stage, loss in zip(stages, losses, strict=True):
        x = x.detach().requires_grad_(x.is_floating_point())
        output = stage(x)
        own = loss(output) if loss else None
        total += own.item() if own is not None else 0.0
        ends.append((x, output, own))
        x = output
    gradient = None
    for given, output, own in reversed(ends):
        backward(output, own, gradient)
        gradient = given.grad
    return total


def together(stages: Sequence[nn.Module], x: Tensor, losses: Sequence[Loss | None]) -> float:
    """The same by one backward pass of autograd over all of it: what `pipelined` is held to."""
    parts = []
    for stage, loss in zip(stages, losses, strict=True):
        x = stage(x)
        parts += [loss(x)] if loss else []
    total = torch.stack(parts).sum()
    total.backward()
    return total.item()
