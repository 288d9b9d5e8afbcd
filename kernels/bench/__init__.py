"""Timing side by side, A B, B A, A B …, so that drift and noise fall on both, and so that a cheat does not pay.

`compare()` gives each call inputs of its own that nobody has seen before, empties the cache outside the window, takes
a copy of the output the moment the window closes, and only then looks: an answer that is old, late or a promise is
wrong, an input that was written to is seen, a rate above what the device was measured to reach is refused.
`interleaved()` only times: for steps that keep a state and so cannot be asked twice.
"""

import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev
from typing import Any

import torch
from torch import Tensor

from kernels.testing import error

FLUSH_BYTES = 256 * 2**20  # more than any L2 cache of a GPU
MOST = 1000  # repeats
WARM_UP = 2
ALLOWED = 1.1  # times the measured roof: the roof is a measurement too
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
TIES = 0.01  # share of whole numbers (places in an order) that rounding may turn


class Refused(RuntimeError):
    """A timing that shows nothing; the message says which method and what it did."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each repeat, and why there are no more: "repeats", "standard error" or "time limit"."""

    samples: list[float]
    stopped: str

    @property
    def median(self) -> float:
        """Milliseconds."""
        return median(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """The median's 95 % interval, from the ranks of the samples: no shape is assumed.

        Below 6 samples it is their whole range, which covers less than 95 %.
        """
        ordered, n = sorted(self.samples), len(self.samples)
        rank, tail = 0, 0.5**n  # the chance that at most `rank` samples lie below the median
        while tail <= 0.025:
            rank += 1
            tail += math.comb(n, rank) * 0.5**n
        rank = max(rank, 1)
        return ordered[rank - 1], ordered[n - rank]

    @property
    def standard_error(self) -> float:
        """Of the mean, relative to the median; infinite for a single sample."""
        return stdev(self.samples) / math.sqrt(len(self.samples)) / self.median if len(self.samples) > 1 else math.inf


@dataclass(frozen=True)
class Roofline:
    """The most that a device was seen to do: FLOP/s of a large matmul in `dtype`, bytes/s of a large copy or sum."""

    device: str
    dtype: torch.dtype
    flops: float
    bytes: float


def roofline(device: str, dtype: torch.dtype = torch.float32, times: int = 5) -> Roofline:
    """Measure it: the best of `times`, on random numbers, with the threads this process has.

    On a CPU also by small matmuls, which fit between a busy neighbour's turns.
    """
    sizes, elements = ((8192,), 2**28) if device == "cuda" else ((256, 512, 1024), 2**25)
    x = torch.randn(elements, device=device)
    y = torch.empty_like(x)
    calls: dict[str, Callable[[], Any]] = {"copy": lambda: y.copy_(x), "sum": x.sum}
    for n in sizes:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        calls[str(n)] = functools.partial(torch.matmul, a, b)
    best = {name: min(ms) / 1e3 for name, ms in interleaved(times, device, **calls).items()}
    size = x.numel() * x.itemsize
    flops = max(2 * n**3 / best[str(n)] for n in sizes)
    return Roofline(device, dtype, flops, max(2 * size / best["copy"], size / best["sum"]))


def compare(
    make: Callable[[], tuple],
    methods: dict[str, Callable],
    *,
    device: str,
    repeats: int,
    reference: Callable | None = None,
    spread: float = 0.0,
    limit_s: float = math.inf,
    flops: float = 0.0,
    read: float = 0.0,
    roof: Roofline | None = None,
) -> dict[str, Timing]:
    """Time `methods` on the tensors that `make()` draws anew for every repeat; all get as many samples.

    Outputs (tensors, or tuples of them) are compared with `reference`'s, or with those of the first method called once
    more. It stops after `repeats`; from 5 on, once every `standard_error` is at most `spread`, or after `limit_s`.
    `flops` and `read` (bytes) are the least that a call must do: medians faster than `roof` allows are refused.
    Raises Refused, and ValueError for arguments that cannot be.
    """
    if not 1 <= repeats <= MOST or not methods:
        raise ValueError(f"expected 1 to {MOST} repeats and a method, got {repeats} and {len(methods)}")
    stopwatch = Stopwatch(device)
    exact = reference or next(iter(methods.values()))
    samples: dict[str, list[float]] = {name: [] for name in methods}
    order, began, stopped = list(methods), time.monotonic(), "repeats"
    for repeat in range(-WARM_UP, repeats):
        inputs = make()
        expected = _tensors(exact(*_copies(inputs)))
        for name in order:
            given = _copies(inputs)
            ms, output = stopwatch(methods[name], given, _snapshot)
            _look(name, repeat, inputs, given, output, expected)
            if repeat >= 0:
                samples[name].append(ms)
        order.reverse()
        if repeat + 1 >= min(5, repeats) and (why := _enough(samples, spread, time.monotonic() - began > limit_s)):
            stopped = why
            break
    timings = {name: Timing(found, stopped) for name, found in samples.items()}
    if roof:
        for name, timing in timings.items():
            _hold_to_roof(name, timing, flops, read, roof)
    return timings


class Stopwatch:
    """Times one call from a cold cache: by events on the current stream of a GPU, by the clock on a CPU."""

    def __init__(self, device: str):
        self.device = device
        self.flush = torch.zeros(FLUSH_BYTES if device == "cuda" else 2 * _cache_bytes(), dtype=torch.uint8).to(device)

    def __call__(self, call: Callable, inputs: Sequence = (), keep: Callable = lambda output: None) -> tuple:
        """(milliseconds, what `keep` made of the output the moment the window closed, before anything waits).

        Refused if the call leaves a thread behind.
        """
        threads = set(threading.enumerate())
        if self.device == "cuda":
            ms, kept = self._gpu(call, inputs, keep)
        else:
            self.flush.zero_()
            began = time.perf_counter()
            output = call(*inputs)
            ms = (time.perf_counter() - began) * 1e3
            kept = keep(output)
        if left := set(threading.enumerate()) - threads:
            raise Refused(f"a thread ({next(iter(left)).name}) goes on after the call has returned")
        return ms, kept

    def _gpu(self, call: Callable, inputs: Sequence, keep: Callable) -> tuple:
        """The device's time: it is still emptying the cache while the host launches what comes first."""
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        self.flush.zero_()
        began.record()
        output = call(*inputs)
        ended.record()
        kept = keep(output)  # on this stream: it waits for no other
        torch.cuda.synchronize()
        return began.elapsed_time(ended), kept


def interleaved(repeats: int, device: str, **callables: Callable[[], Any]) -> dict[str, list[float]]:
    """Milliseconds a call: `repeats` samples of each callable, after a warm-up, the order turning each round.

    From a cold cache. Nothing is checked.
    """
    if repeats < 1 or not callables:
        raise ValueError(f"expected repeats >= 1 and a callable, got {repeats} and {len(callables)}")
    stopwatch = Stopwatch(device)
    for call in callables.values():
        for _ in range(WARM_UP):
            call()
    samples: dict[str, list[float]] = {name: [] for name in callables}
    order = list(callables)
    for _ in range(repeats):
        for name in order:
            samples[name].append(stopwatch(callables[name])[0])
        order.reverse()
    return samples


def _snapshot(output: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in _tensors(output)]


def _look(name: str, repeat: int, inputs: Sequence, given: Sequence, output: list[Tensor], expected: list) -> None:
    """After the window: the inputs are as they were, the output is right."""
    when = f"{name}, {'warm-up' if repeat < 0 else f'repeat {repeat + 1}'}"
    for i, (before, after) in enumerate(zip(inputs, given, strict=True)):
        if isinstance(before, Tensor) and not torch.equal(before, after):
            raise Refused(f"{when}: it wrote to its input {i}")
    if len(output) != len(expected):
        raise Refused(f"{when}: expected {len(expected)} outputs, got {len(output)}")
    for i, (found, wanted) in enumerate(zip(output, expected, strict=True)):
        if found.shape != wanted.shape:
            raise Refused(f"{when}: output {i}: expected shape {tuple(wanted.shape)}, got {tuple(found.shape)}")
        if wanted.is_floating_point():
            wrong, allowed = error(found, wanted), TOLERANCE[found.dtype]
        else:
            wrong, allowed = (found != wanted).double().mean().item(), TIES
        if not wrong <= allowed:  # NaN too
            raise Refused(f"{when}: output {i} was wrong when the call returned: error {wrong:.2g} above {allowed:g}")


def _hold_to_roof(name: str, timing: Timing, flops: float, read: float, roof: Roofline) -> None:
    for what, least, top in (("FLOP/s", flops, roof.flops), ("bytes/s", read, roof.bytes)):
        rate = least / timing.median * 1e3
        if rate <= ALLOWED * top:
            continue
        again = roofline(roof.device, roof.dtype, 25)  # a busy neighbour lowers the roof: a longer look finds it
        top = max(top, again.flops if what == "FLOP/s" else again.bytes)
        if rate > ALLOWED * top:
            raise Refused(f"{name}: {rate:.3g} {what} is more than this device was measured to reach, {top:.3g}")


def _enough(samples: dict[str, list[float]], spread: float, late: bool) -> str:
    if late:
        return "time limit"
    close = all(Timing(found, "").standard_error <= spread for found in samples.values())
    return "standard error" if close else ""


def _copies(inputs: Sequence) -> tuple:
    """The same values in memory of their own, wanting gradients where the originals do."""
    return tuple(x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs)


def _tensors(output: Any) -> list[Tensor]:
    """The tensors of an output, in order. A subclass could put off its work until somebody looks: refused."""
    if type(output) in (Tensor, torch.nn.Parameter):
        return [output]
    if isinstance(output, tuple | list):
        return [tensor for part in output for tensor in _tensors(part)]
    raise Refused(f"expected tensors, got {type(output).__name__}")


def _cache_bytes() -> int:
    """Of the last cache of this CPU; 64 MiB where Linux does not tell."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    found = [
        int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]] for path in sizes if (text := path.read_text().strip())
    ]
    return max(found, default=64 * 2**20)
