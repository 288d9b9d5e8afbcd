"""What the tests of reproductions share."""

import pytest
import triton

from reproductions.lab import Lab
from tests.kernels.compiling import refused


@pytest.fixture
def lab(tmp_path):
    """A run's folder, on the CPU."""
    return Lab(tmp_path)


@pytest.fixture(autouse=True)
def compiled_elsewhere(monkeypatch):
    """No test compiles in this process."""
    monkeypatch.setattr(triton, "compile", refused)
