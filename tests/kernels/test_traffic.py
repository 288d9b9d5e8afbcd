"""The counted algorithms: their results against float64 autograd, and what they cost by hand."""

import pytest
import torch

from kernels import traffic
from kernels.attention.flash import attention_reference
from kernels.traffic import SlowMemory, block_sizes


def inputs(n, d):
    make = torch.Generator().manual_seed(n)
    return {name: torch.randn(n, d, generator=make, dtype=torch.float64) for name in ("Q", "K", "V", "dO")}


@pytest.mark.parametrize("algorithm", ["standard", "flash"])
@pytest.mark.parametrize(("n", "d", "fast"), [(1, 4, 16), (30, 4, 64), (64, 8, 256), (65, 8, 300), (100, 16, 4000)])
def test_results_are_attention_and_its_gradients(algorithm, n, d, fast):
    given = inputs(n, d)
    memory = SlowMemory(**given)
    getattr(traffic, f"{algorithm}_forward")(memory, fast)
    getattr(traffic, f"{algorithm}_backward")(memory, fast)
    q, k, v = (given[name].requires_grad_() for name in "QKV")
    out = attention_reference(*(x[None, None] for x in (q, k, v)))[0, 0]
    out.backward(given["dO"])
    for name, expected in (("O", out), ("dQ", q.grad), ("dK", k.grad), ("dV", v.grad)):
        torch.testing.assert_close(memory.result(name), expected)


def test_flash_costs_what_its_lines_say():
    n, d, fast = 64, 8, 256
    br, bc = block_sizes(fast, d)
    assert (br, bc) == (8, 8)
    memory = SlowMemory(**inputs(n, d))
    traffic.flash_forward(memory, fast)
    once = 2 * n * d + n * d + 2 * n  # K and V; O, l and m filled
    each = 2 * n * d + 2 * n + n * d + 2 * n  # Q, O, l, m loaded; O, l, m stored
    assert memory.accesses == once + n // bc * each


def test_standard_moves_the_whole_matrix_four_times_forward():
    n, d, fast = 64, 8, 3 * 64 * 64
    memory = SlowMemory(**inputs(n, d))
    traffic.standard_forward(memory, fast)
    assert memory.accesses == 4 * n * n + 4 * n * d


def test_memory_counts_every_element_and_nothing_else():
    memory = SlowMemory(A=torch.zeros(4, 6))
    block = memory.load("A", slice(0, 2), slice(1, 4))
    block += 1
    assert memory.accesses == 6 and (memory.result("A") == 0).all()
    memory.store("A", block, slice(0, 2), slice(1, 4))
    memory.create("B", 3, 3)
    assert memory.accesses == 12 and memory.result("B").isnan().all()
    memory.create("C", 3, 3, fill=0.0)
    assert memory.accesses == 21 and memory.shape("A") == (4, 6)
