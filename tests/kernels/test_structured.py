"""Structured matrices in registers: values, refused input, and what the compiler makes of the two ways.

Gluon has no interpreter, and its layouts say where an element lies, never which it is: so the kernel's own source is
interpreted as Triton, layouts left out, and the layouts are the compiler's to check.
"""

from functools import partial
from types import FunctionType, SimpleNamespace

import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from kernels.gemm import structured
from kernels.gemm.structured import givens, householder, structured_matmul
from tests.environment import DEVICE
from tests.kernels.compiling import uninterpreted
from tests.kernels.rounding import assert_within, rounding

compiled = partial(uninterpreted, "kernels.gemm.structured", "compiled")
LAYOUTS = ("NVMMADistributedLayout", "BlockedLayout", "DotOperandLayout", "SliceLayout")
GLUON = SimpleNamespace(
    **{name: getattr(tl, name) for name in ("constexpr", "float16", "float32", "int64")},
    **{name: lambda *given: None for name in LAYOUTS},
    **{
        name: lambda *given, name=name, **options: getattr(tl, name)(*given, **options)
        for name in ("program_id", "load", "store", "where", "cos", "sin")
    },
    arange=lambda start, end, layout: tl.arange(start, end),
    zeros=lambda shape, dtype, layout: tl.zeros(shape, dtype),
    convert_layout=lambda x, layout: x,
)


def interpreted(x, numbers, places, stage):
    """The kernel run by Triton's interpreter."""
    names = {"gl": GLUON, "tl": tl, "mma_v2": lambda a, b, acc: tl.dot(a, b, acc)}
    kernel = structured._structured.fn
    function = InterpretedFunction(FunctionType(kernel.__code__, kernel.__globals__ | names, kernel.__name__))
    function.rewrite().__annotations__ = dict.fromkeys(kernel.__annotations__, "constexpr")
    out = torch.empty(x.shape)
    options = {"N": x.shape[1], "BM": 16, "GIVENS": places is not None, "STAGE": stage, "WARPS": 1}
    grid = -(-x.shape[2] // 16), len(x)
    function[grid](numbers, numbers if places is None else places, x, out, x.shape[2], **options)
    return out


def inputs(b, n, m, rotates, seed=0):
    make = torch.Generator().manual_seed(100 * b + n + 1000 * seed)
    x = torch.randn(b, n, m, generator=make).half()
    if not rotates:
        return x, torch.nn.functional.normalize(torch.randn(b, n, generator=make)), None
    places = torch.stack([torch.randperm(n, generator=make)[:2] for _ in range(b)]).int()
    return x, 6.3 * torch.rand(b, generator=make), places


def check(found, x, numbers, places):
    numbers, x = numbers.double(), x.double()
    matrix = householder(numbers) if places is None else givens(numbers, places, x.shape[1])
    # An entry is rounded from float32 to float16: where that is near the middle of two numbers, either is right.
    eye = torch.eye(x.shape[1], device=x.device)
    off = rounding(1, torch.float32) * (eye + matrix.abs())
    low, high = (y.half().double() for y in (matrix - off, matrix + off))
    matrix = matrix.half().double()
    bound = (rounding(x.shape[1], torch.float32) * matrix.abs() + high - low) @ x.abs()
    assert_within(found, matrix @ x, bound, torch.float32)


@pytest.mark.parametrize("rotates", [False, True])
@pytest.mark.parametrize(("b", "n", "m"), [(1, 16, 1), (3, 32, 40), (8, 64, 33)])
def test_products_are_right(b, n, m, rotates):
    for seed in range(3):
        given = inputs(b, n, m, rotates, seed)
        check(structured_matmul(*given, impl="torch"), *given)
        for stage in (0, 1, 2):
            if DEVICE == "cuda":
                given = tuple(x if x is None else x.cuda() for x in given)
                check(structured_matmul(*given, stage, "gluon"), *given)
            else:
                check(interpreted(*given, stage), *given)


def test_the_matrices_are_orthogonal_and_turn_the_right_way():
    _, v, _ = inputs(3, 16, 1, False)
    _, angle, places = inputs(3, 16, 1, True)
    for matrix in (householder(v), givens(angle, places, 16)):
        torch.testing.assert_close(matrix @ matrix.mT, torch.eye(16).expand(3, 16, 16))
    torch.testing.assert_close((householder(v) @ v[..., None])[..., 0], -v)
    quarter = givens(torch.tensor([torch.pi / 2]), torch.tensor([[0, 1]]), 2)[0]
    torch.testing.assert_close(quarter @ torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("rotates", [False, True])
def test_a_matrix_built_in_registers_needs_no_shared_memory(rotates, capability):
    few, more, most = (compiled(32, rotates, stage, capability=capability) for stage in (0, 1, 2))
    assert few["shared"] == few["read"] == 0
    assert 0 < more["shared"] < most["shared"] and 0 < more["read"] < most["read"]
    assert few["flops"] == more["flops"] == most["flops"] == 2 * 32 * 32 * structured.COLUMNS


def test_a_tile_without_reuse_reads_an_eighth_of_a_byte_an_operation():
    found = compiled(16, False, 2, columns=16, warps=1)
    assert found["read"] / found["flops"] == 0.125, "two fragments of 512 bytes for 8192 operations"


def test_nothing_to_do():
    assert structured_matmul(torch.ones(0, 16, 4).half(), torch.ones(0, 16)).shape == (0, 16, 4)


X = torch.ones(2, 16, 4).half()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((X.float(), torch.ones(2, 16)), "x: expected float16"),
        ((X[:, :15], torch.ones(2, 15)), "N one of"),
        ((X, torch.ones(2, 15)), r"numbers: expected float32 \(2, 16\)"),
        ((X, torch.ones(2), torch.ones(2, 2)), "places: expected int32"),
        ((X, torch.ones(2, 16), None, 3), "got 'auto' and 3"),
        ((X, torch.ones(2, 16), None, 0, "gluon"), "expected a CUDA tensor"),
    ],
)
def test_bad_input_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        structured_matmul(*given)
