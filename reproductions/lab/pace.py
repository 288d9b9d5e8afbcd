"""How slow this machine is: what the time limits of sizes are multiplied by here.

The limits were set on 2 cores of an AMD EPYC (Zen 3) with 32 MiB of last cache. Two things take longer elsewhere: the
arithmetic of a run, and emptying the last cache before every timed call, which a server with 300 MiB of it feels most.
"""

import time
from collections.abc import Callable
from statistics import median

import torch

from kernels import bench

# Seconds on that machine, with one thread, nothing else running.
PRODUCTS_S = 0.060
EMPTYING_S = 0.0055
SIDE, PRODUCTS = 1024, 2
TIMES = 5


def time_factor() -> float:
    """How many times the reference's seconds a fixed product, or one emptying of the cache, takes: the larger, >= 1.

    The median of a few, so that what else runs now is felt, as a run would feel it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return round(max(1.0, _seconds(_products()) / PRODUCTS_S, _seconds(_emptying()) / EMPTYING_S), 2)
    finally:
        torch.set_num_threads(threads)


def _products() -> Callable[[], object]:
    a, b = torch.randn(2, SIDE, SIDE).unbind()
    return lambda: [a @ b for _ in range(PRODUCTS)]


def _emptying() -> Callable[[], object]:
    return bench.Stopwatch("cpu").flush.zero_


def _seconds(call: Callable[[], object]) -> float:
    call()  # libraries are loaded and pages are touched once
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return median(found)
