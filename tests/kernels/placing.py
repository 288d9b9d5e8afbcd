"""Where tests of refused input put what they hand over: a compiled kernel refuses any tensor of the CPU first."""

from torch import Tensor

from tests.environment import DEVICE


def on_device(given: dict) -> dict:
    """The arguments of a call, its tensors on the device that is tested."""
    return {name: x.to(DEVICE) if isinstance(x, Tensor) else x for name, x in given.items()}
