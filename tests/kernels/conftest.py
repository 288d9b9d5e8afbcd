"""Memory that no program wrote shows as NaN in every kernel test."""

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
def compiled_elsewhere(monkeypatch):
    """No test compiles in this process."""
    monkeypatch.setattr(triton, "compile", refused)
