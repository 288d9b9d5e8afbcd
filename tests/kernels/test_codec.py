"""CacheGen's codec: exact round trips, near the entropy, and quantisation against a slow plain reference."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cache.codec import GROUP, LIMIT, ChannelCoder, Codec, entropy, packed, scaled, vectorwise

LAYERS, HEADS, D = 3, 2, 4
C = HEADS * D


def walk(tokens, seed, same=0.9):
    """A cache whose tokens are like the one before, with a correlation of `same`: (2, L, N, C)."""
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(2, LAYERS, tokens, C, generator=make)
    for i in range(1, tokens):
        x[:, :, i] = same * x[:, :, i - 1] + (1 - same**2) ** 0.5 * x[:, :, i]
    return x * torch.arange(1, C + 1)


@pytest.fixture(scope="module")
def codec():
    return Codec([walk(200, 1), walk(150, 2)], HEADS, (0.25, 0.5, 1.0))


def plain(x, widths, delta):
    """The quantised cache, a number at a time."""
    out = torch.empty_like(x)
    for kind in range(2):
        for layer in range(LAYERS):
            for n in range(x.shape[2]):
                if n % GROUP == 0:
                    for head in range(HEADS):
                        part = slice(head * D, head * D + D)
                        scale = (x[kind, layer, n, part].abs().max() / 127).half().float()
                        out[kind, layer, n, part] = (x[kind, layer, n, part] / scale).round() * scale
                else:
                    anchor = out[kind, layer, n // GROUP * GROUP] * delta
                    width = widths[kind, layer, 0]
                    out[kind, layer, n] = ((x[kind, layer, n] - anchor) / width).round() * width + anchor
    return out


def test_the_first_token_of_no_context_widens_the_bins():
    """It is unlike all others, in every context."""
    seen = [walk(50, 1), walk(50, 2)]
    odd = [torch.cat([1000 * torch.ones_like(x[:, :, :1]), x], 2) for x in seen]
    same = torch.cat(seen, 2).std(2, keepdim=True) * torch.tensor([0.25, 0.5, 1.0])[:, None, None]
    torch.testing.assert_close(Codec(odd, HEADS, (0.25, 0.5, 1.0)).widths, same)


@pytest.mark.parametrize("delta", [True, False])
def test_quantisation_by_its_own_rule(delta):
    seen, x = [walk(300, 1)], walk(23, 3)
    codec = Codec(seen, HEADS, (0.25, 0.5, 1.0), delta)
    std = seen[0][:, :, 1:].std(2)
    widths = torch.stack([std[:, i] * share for i, share in enumerate((0.25, 0.5, 1.0))], 1)[:, :, None]
    torch.testing.assert_close(codec.dequantise(codec.quantise(x)), plain(x, widths, delta), atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 45), size=st.sampled_from([0.0, 1e-6, 1.0, 1e4]), seed=st.integers(0, 9))
def test_what_is_decoded_is_what_was_quantised(codec, tokens, size, seed):
    """Also where symbols were never seen before, are cut, or all are zero."""
    x = walk(tokens, seed) * size
    stream = codec.encode(x)
    assert isinstance(stream, bytes)
    assert torch.equal(codec.decode(stream), codec.dequantise(codec.quantise(x)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-LIMIT, LIMIT), min_size=7, max_size=7), min_size=2, max_size=2))
def test_any_symbols_can_be_coded(rows):
    coder = ChannelCoder(torch.zeros(2, 100))
    assert coder.decode(coder.encode(torch.tensor(rows)), 7).tolist() == rows


def test_the_stream_is_as_long_as_the_entropy_says():
    x = (8 * torch.randn(6, 20000)).round().clamp(-LIMIT, LIMIT)
    bits = len(ChannelCoder(x).encode(x)) * 8 / x.numel()
    assert entropy(x).mean().item() == pytest.approx(bits, rel=0.01)


def test_similar_tokens_take_fewer_bytes_as_differences():
    """By about 30 % with this correlation, whatever is drawn: a difference from the anchor is half as large."""
    seen, x = [walk(900, 1, 0.98)], walk(300, 5, 0.98)
    sizes = [len(Codec(seen, HEADS, (0.5, 0.5, 0.5), delta).encode(x)) for delta in (True, False)]
    assert sizes[0] < 0.85 * sizes[1]


def test_wider_bins_take_fewer_bytes_and_lose_more():
    x = walk(100, 5)
    sizes, lost = [], []
    for bins in ((0.1, 0.1, 0.1), (0.5, 0.5, 0.5), (2, 2, 2)):
        codec = Codec([walk(300, 1)], HEADS, bins)
        stream = codec.encode(x)
        sizes.append(len(stream))
        lost.append((codec.decode(stream) - x).abs().mean().item())
    assert sizes == sorted(sizes, reverse=True) and lost == sorted(lost)


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_uniform_quantisation_is_counted_in_bits(bits):
    x = walk(20, 0)
    symbols, scales = vectorwise(x, HEADS, bits)
    assert len(packed(symbols, scales, bits)) == x.numel() * bits // 8 + scales.numel() * 2
    steps = scales.float().repeat_interleave(D, -1)
    assert ((scaled(symbols, scales) - x).abs() <= steps * 0.51 + 1e-3 * x.abs()).all()
    assert symbols.abs().max() == 2 ** (bits - 1) - 1


def test_entropy_by_counting():
    rows = torch.randint(-3, 4, (5, 50), generator=torch.Generator().manual_seed(0))
    for row, found in zip(rows.tolist(), entropy(rows).tolist(), strict=True):
        counts = Counter(row).values()
        plain = -sum(n / 50 * math.log2(n / 50) for n in counts)
        assert found == pytest.approx(plain + (len(counts) - 1) / (100 * math.log(2)))


def test_bins_that_are_not_three_are_refused():
    with pytest.raises(ValueError, match=r"bins: expected 3 widths above 0.*got \[1, 0, 1\]"):
        Codec([walk(20, 0)], HEADS, [1, 0, 1])
