"""Loading a context's KV cache over a network, chunk by chunk: a simulation, of bytes that were really counted.

A trace is a list of (seconds, bytes a second), the last of which goes on. Decoding runs beside the transfer.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Trace = Sequence[tuple[float, float]]
TEXT = "text"


def draw(low: float, high: float, every: float, count: int, seed: int) -> list[tuple[float, float]]:
    """A trace of `count` bandwidths, each for `every` seconds, evenly spread from `low` to `high` bytes a second."""
    of = random.Random(seed)
    return [(every, of.uniform(low, high)) for _ in range(count)]


def arrival(trace: Trace, start: float, size: float) -> float:
    """When the last of `size` bytes is there, sent from second `start` on."""
    begins = 0.0
    for i, (seconds, rate) in enumerate(trace):
        ends = begins + seconds if i + 1 < len(trace) else float("inf")
        if start < ends:
            if size <= (ends - start) * rate:
                return start + size / rate
            size -= (ends - start) * rate
            start = ends
        begins = ends
    raise ValueError("expected a trace of at least one bandwidth, got none")


@dataclass
class Loaded:
    """Seconds until all of a context was there and decoded, and the level of each chunk."""

    seconds: float
    levels: list[str]


def load(chunks: Sequence[Mapping[str, int]], trace: Trace, level: str, decode: float = 0.0) -> Loaded:
    """Every chunk at `level`: `chunks` name the bytes of each level. `decode`: seconds a byte."""
    return adapt([{level: chunk[level]} for chunk in chunks], trace, float("inf"), decode=decode)


def adapt(
    chunks: Sequence[Mapping[str, int]],
    trace: Trace,
    target: float,
    rate: float | None = None,
    compute: float | None = None,
    decode: float = 0.0,
) -> Loaded:
    """The levels, best first, chosen a chunk at a time so that all is there within `target` seconds.

    What the last chunk's transfer was measured at (before the first: `rate`, else the middle level is taken) is what
    the rest is expected at. Text is sent, and takes no time, if computing it, `compute` seconds a chunk, fits for all
    the rest; else the best level that fits, or the smallest.
    """
    clock, ready, levels = 0.0, 0.0, []
    for i, chunk in enumerate(chunks):
        rest, names = chunks[i:], list(chunk)
        if compute is not None and ready + compute * len(rest) <= target:
            level = TEXT
        elif rate is None:
            level = names[len(names) // 2]
        else:
            fits = [name for name in names if clock + sum(one[name] for one in rest) / rate <= target]
            level = fits[0] if fits else names[-1]
        levels.append(level)
        if level == TEXT:
            ready += compute or 0.0
            continue
        arrived = arrival(trace, clock, chunk[level])
        rate = chunk[level] / max(arrived - clock, 1e-12)
        clock, ready = arrived, max(arrived, ready) + decode * chunk[level]
    return Loaded(ready, levels)
