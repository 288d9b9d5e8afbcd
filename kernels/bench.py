"""Timing side by side: A B, B A, A B … so that drift and noise fall on both."""

import time
from collections.abc import Callable
from typing import Any

import torch

FLUSH_BYTES = 256 * 2**20  # more than any L2 cache


def interleaved(repeats: int, device: str, **callables: Callable[[], Any]) -> dict[str, list[float]]:
    """Milliseconds a call: `repeats` samples of each callable, after a warm-up, the order turning each round.

    On a GPU by events, the L2 cache flushed outside the window; on a CPU by the clock.
    """
    if repeats < 1 or not callables:
        raise ValueError(f"expected repeats >= 1 and a callable, got {repeats} and {len(callables)}")
    measure = _Gpu() if device == "cuda" else _cpu
    for call in callables.values():
        call()
        call()
    samples: dict[str, list[float]] = {name: [] for name in callables}
    order = list(callables)
    for _ in range(repeats):
        for name in order:
            samples[name].append(measure(callables[name]))
        order.reverse()
    return samples


def _cpu(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


class _Gpu:
    """Times one call on the current stream, from a cold cache."""

    def __init__(self) -> None:
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def __call__(self, call: Callable[[], Any]) -> float:
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.flush.zero_()
        torch.cuda.synchronize()
        began.record()
        call()
        ended.record()
        torch.cuda.synchronize()
        return began.elapsed_time(ended)
