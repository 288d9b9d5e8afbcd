"""How a kernel is compared: with float64, allowing twice what plain PyTorch errs in the same dtype."""

import torch
from torch import Tensor

# A peer that happens to be exact leaves no room for rounding at all; a few units in the last place are always allowed.
FLOOR = 4.0


def error(out: Tensor, exact: Tensor) -> float:
    """max |out - exact| / max |exact|, in float64; NaN anywhere in `out` is NaN. Shapes must agree."""
    if out.shape != exact.shape:
        raise AssertionError(f"expected shape {tuple(exact.shape)}, got {tuple(out.shape)}")
    if exact.numel() == 0:
        return 0.0
    scale = exact.double().abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    return ((out.double() - exact.double()).abs().max() / scale).item()


def error_ratio(out: Tensor, peer: Tensor, exact: Tensor) -> float:
    """How many times `peer`, plain PyTorch in the same dtype, errs `out` against `exact` (float64); NaN if it is."""
    if out.dtype != peer.dtype:
        raise AssertionError(f"expected dtype {peer.dtype}, got {out.dtype}")
    return error(out, exact) / max(error(peer, exact), FLOOR / 2 * torch.finfo(out.dtype).eps)


def assert_as_exact_as(out: Tensor, peer: Tensor, exact: Tensor, times: float = 2) -> None:
    """`out` errs at most `times` as much as `peer`, plain PyTorch in the same dtype, both against `exact` (float64)."""
    if not (ratio := error_ratio(out, peer, exact)) <= times:  # NaN too
        raise AssertionError(f"expected at most {times} times PyTorch's own error, got {ratio:.3g} times")
