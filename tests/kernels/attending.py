"""What tests of differentiable attention share: inputs, output with gradients, and how exact they have to be."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kernels.testing import assert_as_exact_as
from tests.environment import DEVICE


def inputs(n, m, d=16, dtype=torch.float32, b=1, h=8, g=0) -> tuple[Tensor, ...]:
    """q and dO (b, h, n, d), k and v (b, g or h, m, d); 8 heads, since the largest error of few numbers is luck."""
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


def assert_exact(call: Callable, reference: Callable, given: Sequence[Tensor]) -> None:
    """Output within twice, gradients within three times plain PyTorch's error against float64."""
    exact, peer = gradients(reference, *given, torch.float64), gradients(reference, *given)
    for times, ours, theirs, true in zip((2, 3, 3, 3), gradients(call, *given), peer, exact, strict=True):
        if true.any():  # gradients take rowsum(dO * O) from the rounded output: the method's own loss
            assert_as_exact_as(ours, theirs, true, times)
        else:  # a lone key has weight 1, whatever the query
            assert ours.abs().max() < 1e-5
