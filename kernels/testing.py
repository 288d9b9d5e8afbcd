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


def assert_as_exact_as(out: Tensor, peer: Tensor, exact: Tensor) -> None:
    """`out` errs at most twice as much as `peer`, plain PyTorch in the same dtype, both against `exact` (float64)."""
    if out.dtype != peer.dtype:
        raise AssertionError(f"expected dtype {peer.dtype}, got {out.dtype}")
    found, allowed = error(out, exact), max(2 * error(peer, exact), FLOOR * torch.finfo(out.dtype).eps)
    if not found <= allowed:  # NaN too
        raise AssertionError(f"error {found:.3g}, expected at most {allowed:.3g}")
