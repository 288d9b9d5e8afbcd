"""Softmax and fused top-k against float64: awkward sizes, edge rows, wrong variants, the compiler."""

import math

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given
from hypothesis import strategies as st

from kernels.softmax import counted, online, topk
from kernels.softmax.online import METHODS, normaliser, softmax, softmax_reference
from kernels.softmax.topk import softmax_topk, softmax_topk_reference
from tests.environment import DEVICE
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.rounding import assert_within, rounding, softmax_bound

IMPLS = ["torch", "triton"]


def rows(v, dtype=torch.float32, scale=3.0):
    return (scale * torch.randn(3, v, generator=torch.Generator().manual_seed(v))).to(DEVICE, dtype)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("v", [1, 15, 16, 17, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_softmax_is_exact_but_for_rounding(v, method, impl, dtype):
    x = rows(v, dtype)
    assert_within(softmax(x, method, impl, block=16), torch.softmax(x.double(), 1), softmax_bound(x), dtype)


LEAST = torch.linspace(0, -80, 321)[None]


def assert_proportions(y):
    """y (1, V) are in the proportions of exp(LEAST), each to its own size: what they were divided by cancels."""
    exact = LEAST.double().exp()
    found = y.double().cpu() / y[0, 0].item()
    assert_within(found, exact, rounding(4, torch.float32) * exact, torch.float64)  # two exponentials, two divisions


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("method", ["safe", "online"])
def test_the_least_likely_are_as_exact_as_the_likeliest(method, impl):
    """An exponential that errs with its argument's size shows only here."""
    assert_proportions(softmax(LEAST.to(DEVICE), method, impl))


def test_an_exponential_by_way_of_powers_of_two_is_not_as_exact():
    with pytest.raises(AssertionError, match="allowed error"):
        assert_proportions(torch.exp2(LEAST * 1.4426950408889634))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("method", ["safe", "online"])
def test_edge_rows(method, impl):
    x = torch.zeros(5, 40, device=DEVICE)
    x[0] = -torch.inf
    x[1] = 1.0e4
    x[2, 20] = 1.0e4
    x[3, ::2] = -torch.inf
    x[4, :39] = -torch.inf
    y = softmax(x, method, impl, block=16)
    assert (y[0] == 0).all()
    torch.testing.assert_close(y[1:], torch.softmax(x[1:], 1))


@pytest.mark.parametrize("impl", IMPLS)
def test_naive_overflows_as_the_paper_says(impl):
    assert not softmax(torch.full((1, 20), 1.0e4, device=DEVICE), "naive", impl, block=16).isfinite().all()


@pytest.mark.parametrize("impl", IMPLS)
def test_no_rows_and_strided_rows(impl):
    assert softmax(torch.empty(0, 5, device=DEVICE), impl=impl).shape == (0, 5)
    x = rows(34)[:, ::2]
    torch.testing.assert_close(softmax(x, impl=impl, block=16), torch.softmax(x, 1))


def test_the_reference_is_the_formula():
    x = rows(33).double()
    torch.testing.assert_close(softmax_reference(x), x.exp() / x.exp().sum(1, keepdim=True))


@given(st.lists(st.floats(-80, 80), min_size=1, max_size=12), st.randoms())
def test_any_order_and_any_tree_give_the_same_normaliser(values, random):
    parts = [(torch.tensor(x, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)) for x in values]
    while len(parts) > 1:
        random.shuffle(parts)
        parts.append(online.merge(*parts.pop(), *parts.pop()))
    m, d = parts[0]
    assert m == max(values)
    assert math.isclose(d, sum(math.exp(x - max(values)) for x in values), rel_tol=1e-12)
    assert d * (1 + 1e-12) >= 1 and d <= len(values) * (1 + 1e-12)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_the_normaliser_in_one_pass(block):
    x = rows(50).double()
    m, d = normaliser(x, block)
    torch.testing.assert_close(m + d.log(), x.logsumexp(1, keepdim=True))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("v", "k"), [(1, 1), (5, 5), (16, 3), (17, 5), (50, 30), (50, 1)])
def test_topk_is_exact_but_for_rounding(v, k, fused, impl):
    x = rows(v)
    values, columns = softmax_topk(x, k, fused, impl, block=16)
    exact, at = softmax_topk_reference(x.double(), k)
    assert_within(values, exact, softmax_bound(x).gather(1, at), torch.float32)
    assert (columns == at).all() and columns.dtype == torch.int64


@pytest.mark.parametrize("impl", IMPLS)
def test_topk_of_ties_and_of_rows_that_are_mostly_minus_infinity(impl):
    x = torch.full((3, 40), -torch.inf, device=DEVICE)
    x[1, 7], x[1, 33] = 1.0, 2.0
    x[2] = 5.0
    values, columns = softmax_topk(x, 4, impl=impl, block=16)
    assert (values[0] == 0).all() and columns[1, :2].tolist() == [33, 7] and (values[1, 2:] == 0).all()
    torch.testing.assert_close(values[2], torch.full((4,), 1 / 40, device=DEVICE))
    assert len(set(columns[2].tolist())) == 4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: softmax(torch.zeros(3)), r"expected floating point \(R, V\)"),
        (lambda: softmax(torch.zeros(3, 3, dtype=torch.int32)), "got torch.int32"),
        (lambda: softmax(torch.zeros(3, 3), "quick"), "method: expected one of naive, safe, online"),
        (lambda: softmax(torch.zeros(3, 3), block=3), "power of two"),
        (lambda: softmax(torch.zeros(3, 3).double().to(DEVICE), impl="triton"), "got torch.float64"),
        (lambda: softmax_topk(torch.zeros(3, 3), 4), "k: expected 1 to 3, got 4"),
        (lambda: softmax_topk(torch.zeros(3), 1), "expected floating point"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def too_much(m, d, m2, d2, merge=online.merge):
    top, total = merge(m, d, m2, d2)
    return top, 1.02 * total


WRONG = {
    "not rescaled": lambda m, d, m2, d2: (torch.maximum(m, m2), d + d2),
    "first blocks forgotten": lambda m, d, m2, d2: (torch.maximum(m, m2), d2),
    "rescaled by the wrong sign": lambda m, d, m2, d2: (
        torch.maximum(m, m2), d * torch.exp((torch.maximum(m, m2) - m).nan_to_num(posinf=0)) + d2,
    ),
    "2 % off": too_much,
}  # fmt: skip


def assert_wrong(call, x):
    """What `call` returns, in any order, is outside the bound."""
    exact, order = torch.softmax(x.double(), 1).sort(descending=True)
    with pytest.raises(AssertionError, match="allowed error"):
        assert_within(call().sort(descending=True).values, exact, softmax_bound(x).gather(1, order), torch.float32)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_merge_is_caught(name, monkeypatch):
    x = rows(50)
    monkeypatch.setattr(online, "merge", WRONG[name])
    monkeypatch.setattr(topk, "merge", WRONG[name])
    assert_wrong(lambda: softmax(x, "online", "torch", block=16), x)
    assert_wrong(lambda: softmax_topk(x, 50, impl="torch", block=16)[0], x)


@triton.jit
def _not_rescaled(m, d, m2, d2):
    return tl.maximum(m, m2), d + d2


@triton.jit
def _load_one_short(row_ptr, cols, V):
    return tl.load(row_ptr + cols, mask=cols < V - 1, other=float("-inf")).to(tl.float32)


@triton.jit
def _load_unmasked_as_zero(row_ptr, cols, V):
    return tl.load(row_ptr + cols, mask=cols < V, other=0.0).to(tl.float32)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("_merge", _not_rescaled), ("_load", _load_one_short), ("_load", _load_unmasked_as_zero)],
)
def test_a_wrong_kernel_is_caught(name, wrong, monkeypatch):
    x = rows(50)
    for module, kernel in ((online, "_softmax_kernel"), (topk, "_topk_kernel")):
        monkeypatch.setattr(module, name, wrong)
        monkeypatch.setattr(module, kernel, triton.jit(getattr(module, kernel).fn))  # compiled anew
    assert_wrong(lambda: softmax(x, "online", "triton", block=16), x)
    assert_wrong(lambda: softmax_topk(x, 50, impl="triton", block=16)[0], x)


def test_the_counted_algorithms_are_right_and_count():
    x = torch.randn(40, dtype=torch.float64)
    exact = torch.softmax(x, 0)
    for algorithm, each in ((counted.naive, 3), (counted.safe, 4), (counted.online, 3)):
        memory = counted.Memory(x.tolist())
        algorithm(memory)
        torch.testing.assert_close(torch.tensor(memory.result(), dtype=torch.float64), exact)
        assert memory.accesses == each * 40
    for algorithm, each in (
        (counted.then_topk(counted.safe), 5),
        (counted.then_topk(counted.online), 4),
        (counted.fused, 1),
    ):
        memory = counted.Memory(x.tolist())
        values, places = zip(*algorithm(memory, 5), strict=True)
        assert list(places) == exact.topk(5).indices.tolist() and memory.accesses == each * 40
        torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), exact.topk(5).values)


def test_the_kernels_compile_for_sm90():
    cases = []
    for kind in ("fp32", "fp16", "bf16"):
        for method in METHODS:
            signature = {"x_ptr": f"*{kind}", "out_ptr": f"*{kind}", "V": "i32"}
            cases.append(("_softmax_kernel", signature, {"METHOD": method, "BLOCK": 1024}, {}))
        for fused in (True, False):
            signature = {"x_ptr": f"*{kind}", "out_ptr": f"*{kind}", "column_ptr": "*i64", "V": "i32", "K": "i32"}
            cases.append(("_topk_kernel", signature, {"SLOTS": 8, "FUSED": fused, "BLOCK": 1024}, {}))
    compile_for_sm90("kernels.softmax.online", [case for case in cases if case[0] == "_softmax_kernel"])
    compile_for_sm90("kernels.softmax.topk", [case for case in cases if case[0] == "_topk_kernel"])
