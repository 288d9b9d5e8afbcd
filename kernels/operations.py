"""Arithmetic that is no matrix product, counted while PyTorch runs an algorithm: what is counted makes the result."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ARITHMETIC = ("add", "sub", "mul", "div", "exp", "log", "maximum", "amax", "sum")


class Operations(TorchDispatchMode):
    """`with Operations() as found:` adds up in `found.count` the elements of the largest operand of each operation."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.__name__.split(".")[0].rstrip("_") in ARITHMETIC:
            self.count += max(x.numel() for x in args if isinstance(x, torch.Tensor))
        return func(*args, **kwargs or {})
