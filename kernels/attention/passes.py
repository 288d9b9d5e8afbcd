"""Attention in three passes over the logits, in two, and in one (Ye 2023, "From Online Softmax to FlashAttention").

R rows, N keys, D head size; logits (R, N), values (N, D), output (R, D). `Stream` serves logits and counts how often
each is asked for; what an algorithm keeps in local variables is the state of a row. m is the running maximum, d the
normaliser, d' its surrogate relative to the running maximum, o' the surrogate of the output: the attention over the
keys so far, normalised at every step, unlike FlashAttention-2's. A masked logit is -inf; a row that sees nothing gives
0. Everything is computed in the dtype of the logits. No kernel: the notes derive the one of flash.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Look = Callable[[int, Tensor, Tensor, Tensor], None]


class Stream:
    """Logits (R, N) and values (N, D); `requests` counts logits served."""

    def __init__(self, logits: Tensor, values: Tensor):
        if logits.dim() != 2 or values.dim() != 2 or logits.shape[1] != len(values) or logits.dtype != values.dtype:
            raise ValueError(
                f"expected logits (R, N) and values (N, D) alike, got {(*logits.shape,)}, {(*values.shape,)}"
            )
        self._logits, self._values = logits, values
        self.rows, self.length = logits.shape
        self.requests = 0

    def logits(self, cols: slice) -> Tensor:
        """(R, cols)."""
        found = self._logits[:, cols]
        self.requests += found.numel()
        return found

    def values(self, cols: slice) -> Tensor:
        """(cols, D)."""
        return self._values[cols]

    def start(self) -> tuple[Tensor, Tensor, Tensor]:
        """m = -inf, d = 0 (R, 1), o = 0 (R, D)."""
        m = self._logits.new_full((self.rows, 1), -torch.inf)
        return m, torch.zeros_like(m), self._logits.new_zeros(self.rows, self._values.shape[1])

    def steps(self, size: int = 1) -> list[slice]:
        """The keys in order, `size` at a time."""
        return [slice(i, min(i + size, self.length)) for i in range(0, self.length, size)]


def passes_reference(logits: Tensor, values: Tensor) -> Tensor:
    """softmax(logits) values; rows that see nothing give 0."""
    return logits.softmax(-1).nan_to_num(0) @ values


def three_passes(stream: Stream) -> Tensor:
    """Safe softmax: the maximum, the normaliser, the weighted sum."""
    m, d, o = stream.start()
    for cols in stream.steps():
        m = torch.maximum(m, stream.logits(cols))
    for cols in stream.steps():
        d = d + _exp(stream.logits(cols), m)
    for cols in stream.steps():
        o = o + _divide(_exp(stream.logits(cols), m), d) * stream.values(cols)
    return o


def two_passes(stream: Stream) -> Tensor:
    """Online softmax: d' with the maximum, then the weighted sum, d'_N = d_N."""
    m, d, o = stream.start()
    for cols in stream.steps():
        m, d = _grow(m, d, stream.logits(cols))
    for cols in stream.steps():
        o = o + _divide(_exp(stream.logits(cols), m), d) * stream.values(cols)
    return o


def one_pass(stream: Stream, look: Look | None = None) -> Tensor:
    """o'_i = o'_(i-1) d'_(i-1)/d'_i e^(m_(i-1) - m_i) + e^(x_i - m_i)/d'_i v_i. `look(i, m, d, o)` sees each step."""
    return tiled(stream, 1, look)


def tiled(stream: Stream, tile: int, look: Look | None = None) -> Tensor:
    """The same, `tile` keys at a time: a tile's maximum and sums in place of an element's."""
    m, d, o = stream.start()
    for i, cols in enumerate(stream.steps(tile)):
        x = stream.logits(cols)
        higher = torch.maximum(m, x.amax(-1, keepdim=True))
        p, fade = _exp(x, higher), _exp(m, higher)
        grown = d * fade + p.sum(-1, keepdim=True)
        o = o * _divide(d * fade, grown) + _divide(p, grown) @ stream.values(cols)
        m, d = higher, grown
        if look:
            look(i, m, d, o)
    return o


def softmax_two_passes(stream: Stream) -> Tensor:
    """Softmax itself, (R, N): online normaliser, then the outputs."""
    m, d, _ = stream.start()
    for cols in stream.steps():
        m, d = _grow(m, d, stream.logits(cols))
    return torch.cat([_divide(_exp(stream.logits(cols), m), d) for cols in stream.steps()], 1)


def softmax_written_at_once(stream: Stream) -> Tensor:
    """What one pass could write of a softmax: each output with the m and d' of its moment, which are not the last."""
    m, d, _ = stream.start()
    written = []
    for cols in stream.steps():
        x = stream.logits(cols)
        m, d = _grow(m, d, x)
        written.append(_divide(_exp(x, m), d))
    return torch.cat(written, 1)


def _grow(m: Tensor, d: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    higher = torch.maximum(m, x)
    return higher, d * _exp(m, higher) + _exp(x, higher)


def _exp(x: Tensor, m: Tensor) -> Tensor:
    """e^(x - m), 0 for x = -inf whatever m is."""
    return torch.exp(x - m.masked_fill(m == -torch.inf, 0))


def _divide(x: Tensor, d: Tensor) -> Tensor:
    return x / d.masked_fill(d == 0, 1)
