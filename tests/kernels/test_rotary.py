"""Rotary position embedding: both layouts against the explicit matrix, transformers and complex numbers."""

import math

import pytest
import torch

from kernels.position.rotary import rotary, rotary_reference, tables
from kernels.testing import error
from tests.environment import DEVICE
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device
from tests.kernels.rounding import assert_within, half_ulp, rounding


def tensors(n, d=16, heads=5, groups=3, dtype=torch.float32):
    torch.manual_seed(n * d)
    return torch.randn(2, heads, n, d).to(DEVICE, dtype), torch.randn(2, groups, n, d).to(DEVICE, dtype)


def matrix(d, positions, width, base, layout):
    """R of each position, written out block by block, (N, D, D) in float64."""
    turn = torch.eye(d, dtype=torch.float64, device=positions.device).repeat(len(positions), 1, 1)
    for i in range(width // 2):
        a, b = (2 * i, 2 * i + 1) if layout == "pairs" else (i, i + width // 2)
        angle = positions.double() * base ** (-2 * i / width)
        turn[:, a, a], turn[:, a, b] = angle.cos(), -angle.sin()
        turn[:, b, a], turn[:, b, b] = angle.sin(), angle.cos()
    return turn


CASES = [(1, 16, 16), (31, 16, 16), (32, 16, 10), (33, 12, 12), (70, 20, 4), (5, 2, 2)]


@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.parametrize("layout", ["pairs", "halves"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("n", "d", "width"), CASES)
def test_as_the_matrix(n, d, width, dtype, layout, impl):
    positions = torch.arange(n, device=DEVICE) * 37 + 5
    given, (cos, sin) = tensors(n, d, dtype=dtype), tables(positions, width)
    found = rotary(*given, cos, sin, layout, impl)
    turn = matrix(d, positions, width, 10000.0, layout)
    for x, out in zip(given, found, strict=True):
        exact, size = ((r @ y.double()[..., None])[..., 0] for r, y in ((turn, x), (turn.abs(), x.abs())))
        bound = rounding(2, torch.float32) * size  # no more than two numbers of a row of R are not 0
        if impl == "triton" and DEVICE == "cpu" and dtype == torch.bfloat16:
            bound += half_ulp(exact, dtype)  # Triton's interpreter cuts where it should round
        assert_within(out, exact, bound, dtype)
        assert torch.equal(out[..., width:], x[..., width:])


def test_halves_are_what_transformers_does():
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    (q, k), (cos, sin) = tensors(40), tables(torch.arange(40, device=DEVICE), 16, 500.0)
    theirs = apply_rotary_pos_emb(q, k, torch.cat([cos, cos], -1)[None], torch.cat([sin, sin], -1)[None])
    for found, other in zip(rotary(q, k, cos, sin, "halves"), theirs, strict=True):
        assert torch.allclose(found, other, atol=1e-6)


@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.parametrize("layout", ["pairs", "halves"])
def test_the_gradient_turns_back(layout, impl):
    q, k = (x.requires_grad_() for x in tensors(33, 12))
    cos, sin = tables(torch.arange(33, device=DEVICE), 8)
    grads = [torch.randn(x.shape).to(DEVICE) for x in (q, k)]
    found = torch.autograd.grad(rotary(q, k, cos, sin, layout, impl), (q, k), grads)
    expected = torch.autograd.grad(rotary_reference(q, k, cos, sin, layout), (q, k), grads)
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs) < 1e-6
    back = rotary(*(x.detach() for x in rotary(q, k, cos, sin, layout, impl)), cos, -sin, layout, impl)
    assert error(back[0].detach(), q.detach()) < 1e-6


def test_large_positions_keep_their_angles():
    """Angles in bfloat16 or float32 would not: neighbours collide, or are 0.01 off."""
    places = [1_000_000, 1_000_001]
    cos, sin = tables(torch.tensor(places), 4)
    for row, place in enumerate(places):
        assert cos[row].tolist() == pytest.approx([math.cos(place), math.cos(place / 100)], abs=1e-7)
        assert sin[row].tolist() == pytest.approx([math.sin(place), math.sin(place / 100)], abs=1e-7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(2, 3, 4)}, "expected q"),
        ({"k": torch.zeros(2, 3, 7, 16)}, "alike"),
        ({"k": torch.zeros(2, 3, 8, 16).half()}, "alike"),
        ({"cos": torch.zeros(8, 9), "sin": torch.zeros(8, 9)}, "W <= 16, got"),
        ({"cos": torch.zeros(7, 8), "sin": torch.zeros(7, 8)}, r"\(8, W/2\)"),
        ({"layout": "thirds"}, "layout: expected one of pairs, halves, got 'thirds'"),
        ({"impl": "triton", "cos": torch.zeros(8, 8).double(), "sin": torch.zeros(8, 8).double()}, "tables float32"),
    ],
)
def test_what_is_refused(change, words):
    q, k = tensors(8)
    cos, sin = tables(torch.arange(8), 16)
    given = {"q": q, "k": k, "cos": cos, "sin": sin} | change
    with pytest.raises(ValueError, match=words):
        rotary(**on_device(given))


def test_compiles_for_sm90():
    cases = []
    for dtype in ("fp16", "bf16", "fp32"):
        pointers = dict.fromkeys(("q", "k", "q_out", "k_out"), f"*{dtype}") | {"cos": "*fp32", "sin": "*fp32"}
        for pairs, d, w in ((True, 128, 128), (False, 128, 128), (False, 80, 32)):
            wp = 1 << (w // 2 - 1).bit_length()
            constants = {"BACK": pairs, "D": d, "W": w, "WP": wp, "DP": 1 << (d - 1).bit_length(), "PAIRS": pairs,
                         "BN": 32, "HEADS": 4}  # fmt: skip
            cases.append(("_rotate", pointers | {"N": "i32", "H": "i32", "G": "i32"}, constants, {"num_warps": 4}))
    compile_for_sm90("kernels.position.rotary", cases)
