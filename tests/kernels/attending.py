"""What tests of attention share: inputs, output with gradients, and how exact they have to be."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.environment import DEVICE
from tests.kernels.rounding import assert_within, attention_bounds


def inputs(n, m, d=16, dtype=torch.float32, b=1, h=8, g=0) -> tuple[Tensor, ...]:
    """q and dO (b, h, n, d), k and v (b, g or h, m, d)."""
    make = torch.Generator().manual_seed(1000 * n + m)
    q, grad = (torch.randn(b, h, n, d, generator=make).to(DEVICE, dtype) for _ in range(2))
    k, v = (torch.randn(b, g or h, m, d, generator=make).to(DEVICE, dtype) for _ in range(2))
    return q, k, v, grad


def gradients(call: Callable, q, k, v, g, dtype=None) -> list[Tensor]:
    """[O, dQ, dK, dV] of call(q, k, v) for dO = g."""
    q, k, v = (x.to(dtype or x.dtype).detach().requires_grad_() for x in (q, k, v))
    out = call(q, k, v)
    out.backward(g.to(out.dtype))
    return [out.detach(), q.grad, k.grad, v.grad]


def assert_exact(found: Sequence[Tensor], reference: Callable, given: Sequence[Tensor], **options) -> None:
    """`found` = [O] for given q, k, v, or [O, dQ, dK, dV] for q, k, v, dO, is reference(q, k, v) but for rounding.

    `reference` is attention over all of k in float64, whatever its mask; `options` are those of `attention_bounds`.
    """
    q, k, v = (x.detach().double() for x in given[:3])
    each = torch.eye(k.shape[2], dtype=torch.float64, device=k.device).expand(*k.shape[:2], -1, -1)
    p = reference(q, k, each)  # attention is linear in v: from one value a key, the weights
    exact = gradients(reference, *given, torch.float64) if len(given) == 4 else [reference(q, k, v)]
    bounds = attention_bounds(p, *given, **options)
    for ours, true, bound in zip(found, exact, bounds, strict=True):
        assert_within(ours, true, bound, given[2].dtype)
