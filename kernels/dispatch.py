"""The one decision that every public function shares: Triton or PyTorch."""

import os

from torch import Tensor

IMPLEMENTATIONS = ("auto", "triton", "torch")


def choose(impl: str, tensor: Tensor) -> str:
    """ "triton" or "torch" for `impl` = "auto", "triton" or "torch"; ValueError if a wish cannot be obeyed.

    Auto is Triton on a GPU and PyTorch elsewhere. Triton on a CPU tensor needs its interpreter (TRITON_INTERPRET=1).
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl: expected one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}")
    if impl == "auto":
        return "triton" if tensor.is_cuda else "torch"
    if impl == "triton" and not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"impl='triton': expected a CUDA tensor (or TRITON_INTERPRET=1), got one on {tensor.device}")
    return impl
