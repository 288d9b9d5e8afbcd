"""What the tests of reproductions share."""

import pytest

from reproductions.lab import Lab


@pytest.fixture
def lab(tmp_path):
    """A run's folder, on the CPU."""
    return Lab(tmp_path)
