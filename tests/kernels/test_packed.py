"""Padding-free attention, packing and the fused steps of a layer."""

import pytest
import torch

from kernels.attention import packed
from kernels.attention.packed import packed_attention, packed_reference
from kernels.encoder import fusions
from kernels.encoder.layer import EncoderLayer, random_lengths
from kernels.encoder.packing import Packing
from kernels.testing import error
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device
from tests.kernels.rounding import assert_within, half_ulp, rounding

BATCHES = [[1], [5, 33], [64, 1, 65, 63], [32, 130]]


def tensors(lengths, d=20, dtype=torch.float32, heads=8):
    torch.manual_seed(sum(lengths))
    offsets = torch.tensor([0, *lengths]).cumsum(0).int().to(DEVICE)
    return *(torch.randn(sum(lengths), heads, d).to(DEVICE, dtype) for _ in range(3)), offsets


def turned(x):
    """(T, H, D) as (1, H, T, D)."""
    return x.transpose(0, 1)[None]


@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.parametrize("short", [packed.SHORT, 0], ids=["whole rows", "grouped products"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("lengths", BATCHES, ids=str)
def test_as_a_block_diagonal_mask(lengths, dtype, short, impl):
    if impl == "triton" and dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bfloat16 as integers in tl.dot")
    heads = 8 if impl == "torch" else 2
    q, k, v, offsets = tensors(lengths, dtype=dtype, heads=heads)
    found = packed_attention(q, k, v, offsets, short, impl)
    dense = lambda *x: turned(packed_reference(*(y[0].transpose(0, 1) for y in x), offsets))  # noqa: E731
    assert_exact([turned(found)], dense, [turned(x) for x in (q, k, v)])


@pytest.mark.parametrize(("short", "names"), [(130, {"_short"}), (129, {"_scores", "_complete", "_values"})])
def test_the_threshold_decides_which_kernels_run(short, names, monkeypatch):
    ran = set()
    for name in ("_short", "_scores", "_complete", "_values"):
        real = getattr(packed, name)

        class Seen:
            def __getitem__(self, grid, name=name, real=real):
                ran.add(name)
                return real[grid]

        monkeypatch.setattr(packed, name, Seen())
    q, k, v, offsets = tensors([32, 130], heads=1)
    packed_attention(q, k, v, offsets, short, "triton")
    assert ran == names


@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.parametrize("short", [packed.SHORT, 0])
def test_large_scores_and_no_look_at_neighbours(short, impl):
    q, k, v, offsets = tensors([40, 70], heads=1)
    q *= 100
    found = packed_attention(q, k, v, offsets, short, impl)
    k[40:], v[40:] = torch.nan, torch.nan
    again = packed_attention(q, k, v, offsets, short, impl)
    assert found.isfinite().all() and torch.equal(found[:40], again[:40])


def test_lengths_that_the_host_knows_are_taken_and_checked():
    q, k, v, offsets = tensors([5, 33])
    assert torch.equal(packed_attention(q, k, v, offsets, lengths=[5, 33]), packed_attention(q, k, v, offsets))
    for wrong in ([5, 32], [38], [38, 0]):
        with pytest.raises(ValueError, match="expected to rise from 0 to 38"):
            packed_attention(q, k, v, offsets, lengths=wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(5, 4)}, r"expected q, k and v \(T, H, D\)"),
        ({"k": torch.zeros(38, 8, 20).half()}, "alike"),
        ({"offsets": torch.tensor([0, 5, 37])}, r"expected to rise from 0 to 38, got \[0, 5, 37\]"),
        ({"offsets": torch.tensor([0, 5, 5, 38])}, "expected to rise"),
        ({"impl": "triton", "q": torch.zeros(38, 8, 20).double(), "k": torch.zeros(38, 8, 20).double(),
          "v": torch.zeros(38, 8, 20).double()}, "at most 32 bits"),
    ],
)  # fmt: skip
def test_what_is_refused(change, words):
    given = dict(zip(("q", "k", "v", "offsets"), tensors([5, 33]), strict=True)) | change
    with pytest.raises(ValueError, match=words):
        packed_attention(**on_device(given))


def test_packing_and_back():
    packing = Packing.of([3, 1, 5], 5)
    x = torch.randn(3, 5, 2)
    rows = packing.pack(x)
    assert rows.shape == (9, 2) and packing.offsets.tolist() == [0, 3, 4, 9] and packing.share == 0.6
    assert torch.equal(packing.unpack(rows) * packing.mask[:, 0, 0, :, None], x * packing.mask[:, 0, 0, :, None])
    assert packing.unpack(rows)[1, 1:].abs().sum() == 0
    for lengths in ([], [0, 2], [6]):
        with pytest.raises(ValueError, match="lengths from 1 to 5"):
            Packing.of(lengths, 5)


def test_lengths_have_the_share_that_was_asked_for():
    lengths = random_lengths(2000, 100, 0.6, torch.Generator().manual_seed(0))
    assert 58 < sum(lengths) / 2000 < 62 and min(lengths) >= 20 and max(lengths) == lengths[0] == 100
    assert random_lengths(4, 8, 1.0, torch.Generator()) == [8] * 4


def gelu_bound(x, bias):
    """gelu(y) = y (1 + erf(y / sqrt 2)) / 2, y = x + bias: y times a number of at most 1, itself off by a few u.

    Its slope is at most 1.13, so that what y loses hardly grows either: all of it is of the size of y's two terms.
    """
    return rounding(2, torch.float32) * (x.abs() + bias.abs())


def norm_bound(x, bias, residual, weight, shift):
    """A chain of three sums: of three numbers, of a row for its mean, and of the squares of what differs from it.

    With y the row less its mean and s the root of the mean of y^2, the result is weight y / s + shift. Where y is off
    by e, y / s is by e / s, and by the share mean(|y| e) / s^2 of itself, since s is off by that share.
    """
    y, size = x + bias + residual, x.abs() + bias.abs() + residual.abs()
    y, size = y - y.mean(1, keepdim=True), size + size.mean(1, keepdim=True)
    s = y.square().mean(1, keepdim=True).sqrt()
    share = (y.abs() * size).mean(1, keepdim=True) / s**2
    return rounding(3 * x.shape[1], torch.float32) * (weight.abs() * (size + y.abs() * share) / s + shift.abs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "width"), [(1, 3), (7, 64), (5, 100), (3, 1025)])
def test_the_fused_steps(rows, width, dtype):
    torch.manual_seed(rows)
    x, residual = torch.randn(2, rows, width).to(DEVICE, dtype)
    bias, weight, shift = torch.randn(3, width).to(DEVICE, dtype)
    given, cut = (x, bias, residual, weight, shift), DEVICE == "cpu" and dtype == torch.bfloat16
    for name, count, bound_of in (("bias_gelu", 2, gelu_bound), ("bias_residual_norm", 5, norm_bound)):
        found = getattr(fusions, name)(*given[:count], impl="triton")
        double = [one.double() for one in given[:count]]
        exact, bound = getattr(fusions, f"{name}_reference")(*double), bound_of(*double)
        # Triton's interpreter cuts to bfloat16 where it should round
        assert_within(found, exact, bound + half_ulp(exact, dtype) if cut else bound, dtype)


def test_steps_refuse_other_shapes():
    x, row = torch.zeros(3, 4), torch.zeros(4)
    with pytest.raises(ValueError, match=r"bias: expected \(4,\), got \(3,\)"):
        fusions.bias_gelu(x, torch.zeros(3))
    with pytest.raises(ValueError, match=r"residual: expected \(3, 4\)"):
        fusions.bias_residual_norm(x, row, torch.zeros(2, 4), row, row)
    with pytest.raises(ValueError, match=r"x: expected \(T, E\)"):
        fusions.bias_gelu(torch.zeros(3), row)
    with pytest.raises(ValueError, match="heads that divide"):
        EncoderLayer(10, 3, 20)


def test_a_layer_is_that_of_transformers():
    """The same weights in transformers' BERT, padded and packed alike."""
    from transformers.models.bert.modeling_bert import BertConfig, BertLayer

    config = BertConfig(hidden_size=32, num_attention_heads=4, intermediate_size=64, attn_implementation="eager")
    theirs, ours = BertLayer(config).eval(), EncoderLayer(32, 4, 64)
    own, out = theirs.attention.self, theirs.attention.output
    pairs = {ours.out: out.dense, ours.up: theirs.intermediate.dense, ours.down: theirs.output.dense,
             ours.norms[0]: out.LayerNorm, ours.norms[1]: theirs.output.LayerNorm}  # fmt: skip
    for one, other in pairs.items():
        one.load_state_dict(other.state_dict())
    for part in ("weight", "bias"):
        getattr(ours.qkv, part).data = torch.cat([getattr(x, part).data for x in (own.query, own.key, own.value)])
    packing, x = Packing.of([7, 3], 7), torch.randn(2, 7, 32)
    mask = torch.zeros(2, 1, 1, 7).masked_fill(~packing.mask, torch.finfo(torch.float32).min)
    found = theirs(x, attention_mask=mask)
    expected = packing.pack(found[0] if isinstance(found, tuple) else found)
    assert error(packing.pack(ours.padded(x, packing.mask)), expected) < 1e-5
    for padded_attention in (False, True):
        assert error(ours.packed(packing.pack(x), packing, padded_attention), expected) < 1e-5


def test_compiles_for_sm90():
    cases = []
    for dtype, d, dp, keys in (("fp16", 64, 64, 512), ("bf16", 80, 128, 256), ("fp32", 32, 32, 64)):
        x = dict.fromkeys(("q", "k", "v", "out"), f"*{dtype}")
        floats = dict.fromkeys(("scores", "tops", "sums"), "*fp32") | {"offsets": "*i32", "places": "*i64"}
        shape = {"H": 12, "D": d, "DP": dp, "BQ": 32}
        tiled = shape | {"BK": 64, "TILES": 16}
        short = x | {"offsets": "*i32", "scale2": "fp32"}
        cases.append(("_short", short, shape | {"KEYS": keys}, {"num_warps": 8}))
        scores = {"q": x["q"], "k": x["k"], **floats, "scale2": "fp32", "rows": "i32"}
        cases.append(("_scores", scores, tiled, {}))
        cases.append(("_values", {"v": x["v"], "out": x["out"], **floats, "rows": "i32"}, tiled, {}))
    complete = {"tops": "*fp32", "sums": "*fp32", "tiles": "*i64"}
    cases.append(("_complete", complete, {"TILES": 16, "TP": 16}, {"num_warps": 1}))
    compile_for_sm90("kernels.attention.packed", cases)


def test_the_fused_steps_compile_for_sm90():
    cases = []
    for dtype in ("fp16", "fp32"):
        names = dict.fromkeys(("x", "bias", "out"), f"*{dtype}")
        cases.append(("_bias_gelu", names | {"size": "i32"}, {"E": 3072, "BLOCK": 1024}, {}))
        more = dict.fromkeys(("residual", "weight", "shift"), f"*{dtype}")
        cases.append(("_bias_residual_norm", names | more | {"eps": "fp32"}, {"E": 768, "EP": 1024}, {"num_warps": 4}))
    compile_for_sm90("kernels.encoder.fusions", cases)
