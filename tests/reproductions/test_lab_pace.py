"""How slow a machine is: a product and an emptied cache, each against the reference's, the slower of the two."""

import pytest
import torch

from kernels import bench
from reproductions.lab import pace


@pytest.mark.parametrize(("products", "emptying", "factor"), [(0.5, 0.9, 1.0), (3.0, 2.0, 3.0), (1.2, 40.0, 40.0)])
def test_the_slower_of_the_two_counts_and_never_less_than_one(monkeypatch, products, emptying, factor):
    took = iter([products * pace.PRODUCTS_S, emptying * pace.EMPTYING_S])
    monkeypatch.setattr(pace, "_seconds", lambda call: next(took))
    assert pace.time_factor() == pytest.approx(factor)


def test_a_last_cache_of_a_server_is_felt(monkeypatch):
    """The stopwatch empties twice of it before each sample."""
    emptying = pace._seconds(pace._emptying())
    found = bench._cache_bytes()
    monkeypatch.setattr(bench, "_cache_bytes", lambda: 12 * found)
    assert pace._seconds(pace._emptying()) > 4 * emptying


def test_it_is_measured_with_one_thread_and_leaves_the_rest_as_it_was(monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(pace, "_seconds", lambda call: seen.append(torch.get_num_threads()) or 1.0)
    torch.set_num_threads(2)
    try:
        pace.time_factor()
        assert seen == [1, 1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
