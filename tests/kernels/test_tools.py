"""What all kernels share: the choice of implementation, the comparison, the stopwatch."""

import pytest
import torch

from kernels import bench, testing
from kernels.dispatch import choose


def test_auto_is_pytorch_on_a_cpu_and_a_wish_is_obeyed_or_refused(monkeypatch):
    x = torch.zeros(1)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("auto", x) == choose("torch", x) == "torch"
    assert choose("triton", x) == "triton"
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="expected a CUDA tensor"):
        choose("triton", x)
    with pytest.raises(ValueError, match="impl: expected one of auto, triton, torch, got 'cuda'"):
        choose("cuda", x)


def test_the_comparison_allows_twice_the_peers_error_and_no_more():
    exact = torch.ones(4, dtype=torch.float64)
    peer = torch.full((4,), 1.001)
    testing.assert_as_exact_as(torch.full((4,), 1.0019), peer, exact)
    for wrong in (torch.full((4,), 1.0021), torch.full((4,), torch.nan)):
        with pytest.raises(AssertionError, match="error"):
            testing.assert_as_exact_as(wrong, peer, exact)
    with pytest.raises(AssertionError, match="shape"):
        testing.assert_as_exact_as(torch.ones(3), peer, exact)
    with pytest.raises(AssertionError, match="dtype"):
        testing.assert_as_exact_as(torch.ones(4).half(), peer, exact)


def test_timing_takes_turns():
    order: list[str] = []
    found = bench.interleaved(3, "cpu", a=lambda: order.append("a"), b=lambda: order.append("b"))
    assert "".join(order) == "aabb" + "ab" + "ba" + "ab"
    assert {name: len(samples) for name, samples in found.items()} == {"a": 3, "b": 3}
    assert all(sample >= 0 for samples in found.values() for sample in samples)
    with pytest.raises(ValueError, match="repeats >= 1"):
        bench.interleaved(0, "cpu", a=lambda: None)
