"""Decoding over splits of the keys, contiguous and paged, against float64: awkward sizes, empty splits, sm90."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.attention import split_kv
from kernels.attention.combine import combine
from kernels.attention.flash2 import attention_reference
from kernels.attention.masks import Mask
from kernels.attention.paged import gather, paged_attention, paged_reference
from kernels.attention.split_kv import decoding_reference, split_kv_attention
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device

IMPLS = ["torch", "triton"]


def inputs(n, m, h=16, g=2, b=4, d=64, dtype=torch.float32):
    make = torch.Generator().manual_seed(1000 * n + m)
    q, k, v = (torch.randn(b, x, y, d, generator=make).to(DEVICE, dtype) for x, y in ((h, n), (g, m), (g, m)))
    return q, k, v


def paged(k, v, page, table_dtype=torch.int32):
    """The same keys and values in shuffled blocks, and the table; blocks that belong to nobody are NaN."""
    b, g, m, d = k.shape
    t = -(-m // page)
    order = torch.randperm(b * t + 3, generator=torch.Generator().manual_seed(m))[: b * t].to(k.device)
    caches = []
    for x in (k, v):
        cache = x.new_full((b * t + 3, page, g, d), torch.nan)
        full = x.new_full((b, g, t * page, d), torch.nan)
        full[:, :, :m] = x
        cache[order] = full.unflatten(2, (t, page)).permute(0, 2, 3, 1, 4).flatten(0, 1)
        caches.append(cache)
    return *caches, order.view(b, t).to(table_dtype)


def check(q, k, v, lengths, impl, causal=False, page=0, scale=None, splits=None):
    dense = partial(attention_reference, mask=Mask(causal), scale=scale, key_lengths=lengths)
    if page:
        lengths = torch.full((len(q),), k.shape[2], device=q.device) if lengths is None else lengths
        found = paged_attention(q, *paged(k, v, page), lengths, causal, scale, splits, impl)
    else:
        found = split_kv_attention(q, k, v, lengths, causal, scale, splits, impl)
    assert_exact([found], dense, (q, k, v), scale=scale)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("page", [0, 5])
@pytest.mark.parametrize(("n", "causal"), [(1, False), (3, True)])
@pytest.mark.parametrize(("m", "splits"), [(1, 1), (129, 2), (90, 7)])
def test_exact_but_for_rounding_with_any_number_of_splits(m, splits, n, causal, page, impl):
    check(*inputs(n, m), None, impl, causal, page, splits=splits)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("page", [0, 16])
@pytest.mark.parametrize("splits", [1, 4])
def test_every_sequence_has_its_length(splits, page, impl):
    q, k, v = inputs(2, 130)
    lengths = torch.tensor([130, 0, 1, 65], device=DEVICE)
    check(q, k, v, lengths, impl, True, page, splits=splits)
    if impl == "triton":  # which does not look at what lies behind
        for i, size in enumerate(lengths.tolist()):
            k[i, :, size:], v[i, :, size:] = torch.nan, torch.nan
    found = split_kv_attention(q, k, v, lengths, True, splits=splits, impl=impl)
    assert found.isfinite().all() and (found[1] == 0).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("h", "g", "n"), [(16, 16, 1), (16, 1, 1), (16, 1, 5), (12, 4, 2)])
def test_groups_are_packed_into_tiles(h, g, n, impl):
    check(*inputs(n, 80, h, g), None, impl, n > 1, splits=2)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("d", [1, 24, 64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_head_sizes_and_half_precision(d, dtype, impl):
    check(*inputs(1, 80, d=d, dtype=dtype), None, impl, splits=2, scale=0.3)


@pytest.mark.parametrize("impl", ["torch", "triton"] if DEVICE == "cuda" else ["torch"])
def test_bfloat16(impl):  # which Triton's interpreter multiplies as integers
    check(*inputs(1, 300, d=64, dtype=torch.bfloat16), None, impl)


@pytest.mark.parametrize("impl", IMPLS)
def test_the_cache_is_a_view_and_is_not_copied(impl):
    q, k, v = inputs(1, 90)
    room = [torch.full((4, 128, 2, 64), torch.nan, device=DEVICE) for _ in range(2)]
    views = [x.transpose(1, 2)[:, :, :90] for x in room]
    for view, x in zip(views, (k, v), strict=True):
        view.copy_(x)
    check(q, *views, None, impl, splits=2)
    shared = [x[:, :, None].expand(4, 2, 8, 90, 64)[:, 0] for x in (k, v)]  # one head for four, by a stride of 0
    check(q[:, :8], *shared, None, impl, splits=2)


@pytest.mark.parametrize("impl", IMPLS)
def test_large_scores_do_not_overflow(impl):
    q, k, v = inputs(1, 100)
    exact = decoding_reference(100 * q.double(), k.double(), v.double())
    torch.testing.assert_close(
        split_kv_attention(100 * q, k, v, splits=2, impl=impl).double(), exact, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("b", "n", "m"), [(0, 1, 5), (1, 0, 5), (1, 1, 0)])
def test_nothing_to_do(b, n, m, impl):
    q, k, v = inputs(n, m, b=b)
    out = split_kv_attention(q, k, v, impl=impl)
    assert out.shape == q.shape and (out == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 9), st.integers(1, 9), st.data())
def test_pages_and_splits_change_nothing(m, splits, page, n, data):
    q, k, v = inputs(n, m, dtype=torch.float64)
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, m), min_size=4, max_size=4)), device=DEVICE)
    expected = decoding_reference(q, k, v, lengths, True)
    torch.testing.assert_close(split_kv_attention(q, k, v, lengths, True, splits=splits, impl="torch"), expected)
    caches = paged(k, v, page)
    torch.testing.assert_close(paged_reference(q, *caches, lengths, True), expected)
    torch.testing.assert_close(paged_attention(q, *caches, lengths, True, splits=splits, impl="torch"), expected)


def test_the_reference_is_pytorchs_own_attention_and_gathering_is_a_copy():
    q, k, v = inputs(1, 50, dtype=torch.float64)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    torch.testing.assert_close(decoding_reference(q, k, v), theirs)
    cache, _, table = paged(k, v, 8)
    assert torch.equal(gather(cache, table, torch.tensor([50] * 4, device=DEVICE)), k)


def test_splits_fill_the_device_and_no_split_is_too_short():
    cpu = torch.device("cpu")
    assert split_kv.splits_for(2, 131072, 64, cpu) == 128  # no more than can be summed at once
    assert split_kv.splits_for(512, 256, 64, cpu) == 1
    assert split_kv.splits_for(8, 65536, 64, cpu) == 33
    assert split_kv.splits_for(1, 300, 64, cpu) == 3


MISTAKES = {
    "averaged": lambda parts, tops, totals: torch.stack([a / t for a, t in zip(parts, totals, strict=True)]).mean(0),
    "not rescaled": lambda parts, tops, totals: sum(parts) / sum(totals),
    "weights a little off": lambda parts, tops, totals: combine(parts, [t * 1.01 for t in tops], totals),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_outside_the_bound(mistake, monkeypatch):
    monkeypatch.setattr(split_kv, "combine", mistake)
    with pytest.raises(AssertionError, match="allowed error"):
        check(*inputs(1, 100), None, "torch", splits=3)


Q, K = torch.zeros(1, 4, 1, 8), torch.zeros(1, 2, 6, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(3, 4)}, "expected 4 axes"),
        ({"k": K.half()}, "expected 4 axes of torch.float32"),
        ({"k": torch.zeros(1, 2, 6, 16)}, "expected k and v"),
        ({"q": torch.zeros(1, 3, 1, 8)}, "groups divide, got 3 and 2"),
        ({"lengths": torch.tensor([1.0])}, "lengths: expected 1 integers"),
        ({"splits": 0}, "splits: expected at least 1, got 0"),
        ({"impl": "cuda"}, "expected one of"),
        ({"q": Q.double(), "k": K.double(), "v": K.double(), "impl": "triton"}, "expected at most 32 bits"),
    ],
)
def test_bad_input_is_refused(change, words):
    given = {"q": Q, "k": K, "v": K} | change
    with pytest.raises(ValueError, match=words):
        split_kv_attention(**on_device(given))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": torch.zeros(3, 4, 2, 16)}, "expected k and v"),
        ({"table": torch.zeros(2, 2, dtype=torch.int32)}, "table: expected integers"),
        ({"table": torch.zeros(1, 2)}, "table: expected integers"),
        ({"lengths": torch.tensor([9])}, "lengths: expected 0 to 8"),
    ],
)
def test_bad_tables_are_refused(change, words):
    cache = torch.zeros(3, 4, 2, 8)
    given = {
        "q": Q,
        "k": cache,
        "v": cache,
        "table": torch.zeros(1, 2, dtype=torch.int32),
        "lengths": torch.tensor([8]),
    }
    if DEVICE == "cpu":
        with pytest.raises(ValueError, match=words):
            paged_attention(**given | change)


def test_every_kernel_compiles_for_sm90():
    cases = []
    numbers = ["T", "G", "ROWS", "N", "M", "S", *(f"{x}_{y}" for x in "kv" for y in ("outer", "group", "token"))]
    for dtype, size in (("fp32", 4), ("bf16", 2)):
        pointers = dict.fromkeys(["q", "k", "v"], f"*{dtype}") | {
            "tops": "*fp32",
            "totals": "*fp32",
            "lengths": "*i32",
            "table": "*i32",
        }
        pointers |= {"scale2": "fp32", "out": "*fp32"}
        for d, rows, causal, lengths, page, ones in (
            (64, 1, False, False, 0, ("N", "ROWS", "M", "S", "T")),  # Triton makes constants of arguments that are 1
            (128, 8, False, False, 0, ()),
            (128, 40, True, True, 16, ()),
            (256, 8, True, True, 256, ("G",)),
        ):
            if dtype == "fp32" and (d != 128 or causal):
                continue
            br, bk, warps, stages = split_kv.tile_sizes(d, rows, size)
            constants = {"D": d, "DP": d, "CAUSAL": causal, "LENGTHS": lengths, "PAGE": page}
            constants |= {"ONE": "S" in ones, "BR": br, "BK": bk} | dict.fromkeys(ones, 1)
            signature = pointers | {x: "i32" for x in numbers if x not in ones}
            cases.append(("_split", signature, constants, {"num_warps": warps, "num_stages": stages}))
    compile_for_sm90("kernels.attention.split_kv", cases)
    sums = [
        (
            "_combine",
            {"parts": "*fp32", "tops": "*fp32", "totals": "*fp32", "out": f"*{dtype}", "S": "i32"},
            {"D": d, "DP": 32 if d == 24 else d, "SP": sp, "BS": min(sp, 16)},
            {"num_warps": 4},
        )
        for dtype, d, sp in (("bf16", 128, 128), ("fp16", 24, 2))
    ]
    compile_for_sm90("kernels.attention.combine", sums)
