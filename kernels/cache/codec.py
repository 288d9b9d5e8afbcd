"""CacheGen's codec (Liu et al. 2023, arXiv:2310.07240): a KV cache as a bitstream, by what is known of each channel.

x (2, L, N, C): keys and values of L layers, N tokens, C channels (G heads side by side). Tokens go in groups of 10. The
first of a group, its anchor, is kept in 8 bits, with a scale a token and head; the others as their difference to the
decoded anchor, in bins that are a share of the channel's standard deviation, wider in each third of the layers. All
symbols are range-coded with one distribution a (keys or values, layer, channel), and a lone stream for each of the two
kinds. Distributions and deviations come from other contexts, beforehand: both ends have them, they are not sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import constriction
import numpy as np
import torch
from torch import Tensor

GROUP, LIMIT = 10, 127  # tokens; the largest symbol, where what is larger is cut


class ChannelCoder:
    """Symbols (channels, any) of -LIMIT to LIMIT, coded with a distribution for each channel, counted on `seen`."""

    def __init__(self, seen: Tensor):
        rows, wide = len(seen), 2 * LIMIT + 1
        at = seen.long() + LIMIT + torch.arange(rows, device=seen.device)[:, None] * wide
        counts = at.flatten().bincount(minlength=rows * wide).view(rows, wide).double() + 1 / wide
        self.probabilities = (counts / counts.sum(1, keepdim=True)).float().cpu().numpy()
        self.models = [constriction.stream.model.Categorical(row, perfect=False) for row in self.probabilities]

    def encode(self, symbols: Tensor) -> bytes:
        """One stream, channel after channel."""
        encoder = constriction.stream.queue.RangeEncoder()
        for row, model in zip((symbols + LIMIT).int().cpu().numpy(), self.models, strict=True):
            encoder.encode(row, model)
        return encoder.get_compressed().tobytes()

    def decode(self, stream: bytes, count: int) -> Tensor:
        """`count` symbols of each channel, int64 (channels, count)."""
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, np.uint32))
        rows = [decoder.decode(model, count) for model in self.models]
        return torch.from_numpy(np.stack(rows)).long() - LIMIT


def vectorwise(x: Tensor, heads: int, bits: int) -> tuple[Tensor, Tensor]:
    """(symbols like x, float16 scales (..., heads)): even steps up to the largest of each token and head."""
    split = x.unflatten(-1, (heads, -1))
    most = 2 ** (bits - 1) - 1
    scales = (split.abs().amax(-1) / most).clamp_min(2**-24).half()
    return (split / scales[..., None].float()).round().clamp(-most, most).flatten(-2), scales


def scaled(symbols: Tensor, scales: Tensor) -> Tensor:
    """What `vectorwise` symbols stand for."""
    return (symbols.unflatten(-1, (scales.shape[-1], -1)) * scales[..., None].float()).flatten(-2)


def packed(symbols: Tensor, scales: Tensor, bits: int) -> bytes:
    """The bytes of uniform quantisation: each symbol in `bits` bits, and the scales."""
    whole = (symbols.flatten().long() + 2 ** (bits - 1)).cpu().numpy()
    each = (whole[:, None] >> np.arange(bits)) & 1
    return np.packbits(each.astype(np.uint8)).tobytes() + scales.cpu().numpy().tobytes()


@dataclass
class Symbols:
    """A quantised cache of `tokens`: scales (2, L, A, G), anchors (2, L, A, C), differences (2, L, N - A, C)."""

    tokens: int
    scales: Tensor
    anchors: Tensor
    differences: Tensor


class Codec:
    """`seen`: caches (2, L, N, C) of other contexts. `bins`: of each third of the layers, in standard deviations.

    `delta=False` codes values in place of differences, to see what these are worth.
    """

    def __init__(self, seen: Sequence[Tensor], heads: int, bins: Sequence[float], delta: bool = True):
        if len(bins) != 3 or not all(width > 0 for width in bins):
            raise ValueError(f"bins: expected 3 widths above 0, one for each third of the layers, got {list(bins)}")
        layers = seen[0].shape[1]
        self.heads, self.delta = heads, delta
        third = torch.arange(layers, device=seen[0].device) * 3 // layers
        widths = torch.tensor(bins, device=seen[0].device)[third]
        self.widths = torch.cat([x[:, :, 1:] for x in seen], 2).std(2, keepdim=True) * widths[:, None, None]
        symbols = [self.quantise(x) for x in seen]
        rows = [torch.cat([getattr(one, kind) for one in symbols], 2) for kind in ("anchors", "differences")]
        self.anchors, self.differences = (ChannelCoder(_by_channel(x)) for x in rows)

    def quantise(self, x: Tensor) -> Symbols:
        """What is sent of x, before it is coded."""
        first = torch.arange(x.shape[2], device=x.device) % GROUP == 0
        anchors, scales = vectorwise(x[:, :, first], self.heads, 8)
        rest = x[:, :, ~first] - self._past(anchors, scales, x.shape[2])
        differences = (rest / self.widths).round().clamp(-LIMIT, LIMIT)
        return Symbols(x.shape[2], scales, anchors, differences)

    def dequantise(self, symbols: Symbols) -> Tensor:
        """The cache that `symbols` stand for, (2, L, N, C)."""
        first = torch.arange(symbols.tokens, device=symbols.anchors.device) % GROUP == 0
        anchors = scaled(symbols.anchors, symbols.scales)
        x = anchors.new_empty(*anchors.shape[:2], symbols.tokens, anchors.shape[3])
        x[:, :, first] = anchors
        x[:, :, ~first] = symbols.differences * self.widths + self._past(
            symbols.anchors, symbols.scales, symbols.tokens
        )
        return x

    def _past(self, anchors: Tensor, scales: Tensor, tokens: int) -> Tensor:
        """Of each token that is no anchor, its decoded anchor."""
        place = torch.arange(tokens, device=anchors.device)
        return scaled(anchors, scales)[:, :, place[place % GROUP > 0] // GROUP] * self.delta

    def encode(self, x: Tensor) -> bytes:
        """The bytes on the wire: tokens and the first stream's length in 4 bytes each, the scales, two streams."""
        symbols = self.quantise(x)
        first = self.anchors.encode(_by_channel(symbols.anchors))
        second = self.differences.encode(_by_channel(symbols.differences))
        head = np.array([symbols.tokens, len(first)], np.uint32).tobytes()
        return head + symbols.scales.cpu().numpy().tobytes() + first + second

    def decode(self, stream: bytes) -> Tensor:
        """The quantised cache, exactly: `dequantise(quantise(x))`."""
        tokens, length = np.frombuffer(stream[:8], np.uint32).tolist()
        layers, channels, device = self.widths.shape[1], self.widths.shape[3], self.widths.device
        count = -(-tokens // GROUP)
        shape = 2, layers, count, self.heads
        end = 8 + 2 * int(np.prod(shape))
        scales = torch.from_numpy(np.frombuffer(stream[8:end], np.float16).copy()).view(shape).to(device)
        parts = (
            (self.anchors, stream[end : end + length], count),
            (
                self.differences,
                stream[end + length :],
                tokens - count,
            ),
        )
        found = [coder.decode(part, n).view(2, layers, channels, n).mT.to(device) for coder, part, n in parts]
        return self.dequantise(Symbols(tokens, scales, *(x.float() for x in found)))


def _by_channel(symbols: Tensor) -> Tensor:
    """(2, L, n, C) -> (2 L C, n): a row for what shares a distribution."""
    return symbols.transpose(2, 3).flatten(0, 2)


def entropy(symbols: Tensor) -> Tensor:
    """Bits a symbol under each row's own distribution, (rows,), of integers (rows, n); Miller and Madow's correction,
    so that small groups do not look better than they are."""
    symbols = symbols - symbols.min()
    wide = int(symbols.max()) + 1
    at = symbols.long() + torch.arange(len(symbols), device=symbols.device)[:, None] * wide
    counts = at.flatten().bincount(minlength=len(symbols) * wide).view(-1, wide).double()
    p = counts / symbols.shape[1]
    own = -(p * p.clamp_min(1e-300).log2()).sum(1)
    return own + ((counts > 0).sum(1) - 1) / (2 * symbols.shape[1] * np.log(2))
