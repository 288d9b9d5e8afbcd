"""StreamingLLM attention against float64, against itself token by token, and against what it must not be."""

import pytest
import torch
import triton

from kernels.attention.grouped_query import grouped_query_reference
from kernels.cache import streaming
from kernels.cache.streaming import (
    StreamingCache,
    decode_reference,
    rotate,
    streaming_attention,
    streaming_decode,
    streaming_reference,
)
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact
from tests.kernels.compiling import compile_for_sm90

DOUBLE = {"rtol": 1e-10, "atol": 1e-10}


def tables(length, d, dtype=torch.float64):
    angles = torch.arange(length, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)
    return angles.cos().to(DEVICE, dtype), angles.sin().to(DEVICE, dtype)


def inputs(n, h=3, g=1, d=16, b=1, queries=None, dtype=torch.float64, seed=0):
    make = torch.Generator().manual_seed(seed)
    q = torch.randn(b, h, queries or n, d, generator=make, dtype=torch.float64)
    k, v = (torch.randn(b, g, n, d, generator=make, dtype=torch.float64) for _ in range(2))
    return q.to(DEVICE, dtype), k.to(DEVICE, dtype), v.to(DEVICE, dtype)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 70])
@pytest.mark.parametrize(("sinks", "window"), [(4, 12), (0, 16), (1, 1), (20, 5), (4, 400), (16, 16)])
def test_the_parallel_form_in_blocks_is_the_whole_matrix(n, sinks, window):
    q, k, v = inputs(n, h=6, g=2, b=2)
    cos, sin = tables(500, 16)
    expected = streaming_reference(q, k, v, cos, sin, sinks, window)
    for block in (1, 16, 33):
        found = streaming_attention(q, k, v, cos, sin, sinks=sinks, window=window, block=block)
        torch.testing.assert_close(found, expected, **DOUBLE)


@pytest.mark.parametrize(("sinks", "window"), [(4, 12), (0, 9), (1, 1), (30, 5), (4, 100)])
def test_the_parallel_form_is_the_real_cache_token_by_token(sinks, window):
    q, k, v = inputs(50, h=4, g=2, b=2)
    cos, sin = tables(110, 16)
    cache = StreamingCache(sinks, window, cos[: sinks + window], sin[: sinks + window], impl="torch")  # in float64
    steps = [cache.attend(*(x[:, :, t : t + 1] for x in (q, k, v))) for t in range(50)]
    torch.testing.assert_close(torch.cat(steps, 2), streaming_reference(q, k, v, cos, sin, sinks, window), **DOUBLE)


def test_a_cache_as_long_as_the_text_is_dense_causal_attention():
    q, k, v = inputs(40, h=6, g=2)
    cos, sin = tables(40, 16)
    turned = rotate(q, cos, sin), rotate(k, cos, sin), v
    dense = torch.nn.functional.scaled_dot_product_attention(*turned, is_causal=True, enable_gqa=True)
    for sinks, window in [(4, 36), (0, 40), (39, 1), (4, 400)]:
        found = streaming_attention(q, k, v, cos, sin, sinks=sinks, window=window, block=16)
        torch.testing.assert_close(found, dense, **DOUBLE)


def test_it_needs_no_more_positions_than_the_cache_and_a_block():
    q, k, v = inputs(300)
    cos, sin = tables(300, 16)
    expected = streaming_reference(q, k, v, cos, sin, 4, 28)
    found = streaming_attention(q, k, v, cos[:44], sin[:44], sinks=4, window=28, block=16)
    torch.testing.assert_close(found, expected, **DOUBLE)


def wrong(q, k, v, cos, sin, sinks, window, mistake):
    """The reference with one mistake that people make."""
    n = q.shape[2]
    i, j = torch.arange(n, device=DEVICE)[:, None], torch.arange(n, device=DEVICE)
    place = j if mistake == "positions in the text" else j.clamp(max=sinks + window - 1)
    keys = rotate(k, cos[:n], sin[:n]).mT
    near, far = rotate(q, cos[:n], sin[:n]) @ keys, rotate(q, cos[place], sin[place]) @ keys
    sink = j < (0 if mistake == "sinks dropped" else sinks)
    band = j > i - window - int(mistake == "window off by one")
    scores = torch.where(sink, far, near).masked_fill(~((j <= i) & (sink | band)), float("-inf"))
    if mistake == "sinks counted twice":
        again = near.masked_fill(~((j <= i) & sink & band), float("-inf"))
        scores, v = torch.cat([scores, again], -1), torch.cat([v, v], 2)
    return (scores * q.shape[-1] ** -0.5).softmax(-1) @ v


MISTAKES = ["positions in the text", "sinks counted twice", "sinks dropped", "window off by one"]


def test_without_a_mistake_the_wrong_form_is_right():
    q, k, v = inputs(40, h=1)
    cos, sin = tables(40, 16)
    torch.testing.assert_close(
        wrong(q, k, v, cos, sin, 4, 12, None), streaming_reference(q, k, v, cos, sin, 4, 12), **DOUBLE
    )


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_far_outside_the_tolerance(mistake):
    q, k, v = inputs(40, h=1)
    cos, sin = tables(40, 16)
    found = streaming_attention(q, k, v, cos, sin, sinks=4, window=12)
    assert (wrong(q, k, v, cos, sin, 4, 12, mistake) - found).abs().max() > 0.05


CASES = [  # (slots, query heads, key heads, head size, sinks, oldest)
    (1, 1, 1, 16, 4, 0),
    (3, 3, 1, 64, 4, 0),
    (63, 6, 2, 64, 4, 0),
    (64, 4, 4, 32, 0, 17),
    (65, 9, 3, 64, 4, 60),
    (20, 2, 1, 24, 19, 0),
    (200, 20, 1, 32, 1, 5),
]


@pytest.mark.parametrize(("impl", "chunk"), [("torch", 256), ("triton", 256), ("triton", 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("length", "h", "g", "d", "sinks", "oldest"), CASES)
def test_one_step_is_exact_but_for_rounding(impl, dtype, length, h, g, d, sinks, oldest, chunk, monkeypatch):
    if impl == "triton" and dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bfloat16 as integers in tl.dot")
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    q, k, v = inputs(length, h, g, d, b=2, queries=1, dtype=dtype)
    cos, sin = tables(length, d)
    found = streaming_decode(q, k, v, cos.float(), sin.float(), sinks=sinks, oldest=oldest, impl=impl)
    # Attention does not mind the order of slots: keys turned by their places in the cache may lie where they are.
    slot = torch.arange(length, device=DEVICE)
    place = torch.where(slot < sinks, slot, sinks + (slot - sinks - oldest) % max(length - sinks, 1))

    def turned(q, k, cos, sin):
        return rotate(q, cos[-1:], sin[-1:]), rotate(k, cos[place], sin[place])

    ordered = decode_reference(q.double(), k.double(), v.double(), cos, sin, sinks, oldest)
    exact = grouped_query_reference(*turned(q.double(), k.double(), cos, sin), v.double())
    torch.testing.assert_close(exact, ordered, **DOUBLE)
    # Turned vectors are rounded to the inputs' dtype, and by PyTorch's product scores before they are scaled and after.
    given = *turned(q, k, cos.float(), sin.float()), v
    assert_exact([found], grouped_query_reference, given, roundings=0 if impl == "triton" else 2)


@pytest.mark.parametrize("impl", ["torch", "triton"])
def test_the_ring_may_start_anywhere(impl):
    q, k, v = inputs(40, h=3, queries=1, dtype=torch.float32)
    cos, sin = tables(40, 16, torch.float32)
    expected = streaming_decode(q, k, v, cos, sin, sinks=4, impl=impl)
    rolled = [torch.cat([x[:, :, :4], x[:, :, 4:].roll(11, 2)], 2) for x in (k, v)]
    torch.testing.assert_close(streaming_decode(q, *rolled, cos, sin, sinks=4, oldest=11, impl=impl), expected)
    assert (streaming_decode(q, *rolled, cos, sin, sinks=4, oldest=12, impl=impl) - expected).abs().max() > 0.05


def test_every_part_of_a_split_is_written(monkeypatch):
    """Memory from torch.empty is poisoned, and a cache of a larger buffer is read in place, beyond its end never."""
    real = torch.empty
    poisoned = []

    def empty(*shape, **options):
        poisoned.append(shape)
        return real(*shape, **options).fill_(float("nan"))

    q, k, v = inputs(200, queries=1, dtype=torch.float32)
    k[:, :, 150:], v[:, :, 150:] = float("nan"), float("nan")
    cos, sin = tables(150, 16, torch.float32)
    monkeypatch.setattr(streaming, "CHUNK", 64)
    monkeypatch.setattr(torch, "empty", empty)
    found = streaming_decode(q, k[:, :, :150], v[:, :, :150], cos, sin, sinks=4, impl="triton")
    assert poisoned and found.isfinite().all()


def test_a_triton_cache_streams_like_the_reference():
    q, k, v = inputs(30, h=3, dtype=torch.float32)
    cos, sin = tables(30, 16, torch.float32)
    cache = StreamingCache(2, 7, cos, sin, impl="triton")
    steps = [cache.attend(*(x[:, :, t : t + 1] for x in (q, k, v))) for t in range(30)]
    torch.testing.assert_close(torch.cat(steps, 2), streaming_reference(q, k, v, cos, sin, 2, 7), rtol=1e-4, atol=1e-5)


def test_a_prompt_taken_at_once_is_one_taken_token_by_token():
    q, k, v = inputs(30)
    cos, sin = tables(12, 16)
    whole, steps = (StreamingCache(4, 8, cos, sin, impl="torch") for _ in range(2))
    whole.prefill(k[:, :, :12], v[:, :, :12])
    for t in range(30):
        step = [x[:, :, t : t + 1] for x in (q, k, v)]
        expected = steps.attend(*step)
        if t >= 12:
            torch.testing.assert_close(whole.attend(*step), expected, **DOUBLE)
    with pytest.raises(ValueError, match="an empty cache"):
        whole.prefill(k[:, :, :1], v[:, :, :1])
    with pytest.raises(ValueError, match="at most 12 tokens"):
        StreamingCache(4, 8, cos, sin).prefill(k[:, :, :13], v[:, :, :13])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sinks": -1}, "sinks >= 0"),
        ({"oldest": 36}, "oldest: expected"),
        ({"oldest": -1}, "oldest: expected"),
        ({"k": torch.zeros(1, 2, 40, 16)}, "H a multiple of G"),
        ({"v": torch.zeros(1, 1, 39, 16)}, "k and v"),
        ({"q": torch.zeros(1, 3, 2, 16)}, "one query"),
        ({"q": torch.zeros(1, 3, 1, 16).half()}, "one dtype"),
        ({"cos": torch.zeros(39, 8), "sin": torch.zeros(39, 8)}, "at least 40 positions"),
        ({"cos": torch.zeros(40, 16)}, "tables: expected"),
        ({"impl": "cuda"}, "impl"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    q, k, v = inputs(40, queries=1, dtype=torch.float32)
    cos, sin = tables(40, 16, torch.float32)
    with pytest.raises(ValueError, match=words):
        streaming_decode(**{"q": q, "k": k, "v": v, "cos": cos, "sin": sin, "sinks": 4} | change)


def test_the_parallel_form_refuses_short_tables_and_an_empty_window():
    q, k, v = inputs(40)
    cos, sin = tables(20, 16)
    with pytest.raises(ValueError, match="enough positions"):
        streaming_attention(q, k, v, cos, sin, sinks=4, window=28, block=16)
    with pytest.raises(ValueError, match="window >= 1"):
        streaming_attention(q, k, v, cos, sin, sinks=4, window=0)


def test_the_kernel_compiles_for_sm90():
    numbers = ["length", "oldest", "sinks", "q_b", "q_h", "k_b", "k_g", "k_n", "v_b", "v_g", "v_n"]
    cases = []
    for kind, d, block in [("fp32", 64, 64), ("fp32", 256, 16), ("fp16", 128, 64), ("bf16", 24, 64)]:
        signature = dict.fromkeys(["q", "k", "v"], f"*{kind}") | dict.fromkeys(["cos", "sin", "out", "lse"], "*fp32")
        signature |= dict.fromkeys(numbers, "i32") | {"scale": "fp32"}
        wide = triton.next_power_of_2(d)
        tiles = {"RP": 16, "HP": max(16, wide // 2), "DP": wide, "CHUNK": 256, "BLOCK": block}
        cases.append(("_decode", signature, {"G": 3, "R": 3, "D": d} | tiles, {"num_stages": 2}))
    compile_for_sm90("kernels.cache.streaming", cases, most=99 * 1024)
