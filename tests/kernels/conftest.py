"""What holds in every kernel test: memory that no program wrote shows as NaN, sums are in float32, none compiles."""

import pytest
import torch
import triton

from tests.kernels.compiling import refused


@pytest.fixture(autouse=True)
def poisoned():
    """`torch.empty` is filled with NaN."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.fixture(autouse=True)
def summed_in_float32(monkeypatch):
    """cuBLAS adds parts of 16-bit products up in float32; by default it may in 16 bits."""
    for kind in ("fp16", "bf16"):
        monkeypatch.setattr(torch.backends.cuda.matmul, f"allow_{kind}_reduced_precision_reduction", False)


@pytest.fixture(autouse=True)
def compiled_elsewhere(monkeypatch):
    """No test compiles in this process."""
    monkeypatch.setattr(triton, "compile", refused)
