"""Peak memory of one call, measured in a process of its own."""

import os
import signal
from functools import partial

import pytest

from reproductions.lab import memory

MB = 10**6


def block(size):
    return (bytearray(size),)


def grow(size, kept):
    return bytearray(size)


def fail(kept):
    raise ValueError("expected a shorter sequence")


def die(kept):
    os.kill(os.getpid(), signal.SIGKILL)


def test_only_what_the_call_adds_counts():
    filler = bytearray(300 * MB)  # neither this process's peak …
    del filler
    extra = memory.peak_in_fresh_process(partial(block, 200 * MB), partial(grow, 50 * MB))  # … nor the inputs
    assert 49 * MB < extra < 60 * MB


def test_a_measurement_starts_from_nothing_that_an_earlier_one_left():
    found = [memory.peak_in_fresh_process(partial(block, MB), partial(grow, 40 * MB)) for _ in range(2)]
    assert all(39 * MB < extra < 50 * MB for extra in found)


def test_a_call_that_fails_says_why():
    with pytest.raises(RuntimeError, match="expected a shorter sequence"):
        memory.peak_in_fresh_process(partial(block, 1), fail)
    with pytest.raises(RuntimeError, match="exit code -9"):
        memory.peak_in_fresh_process(partial(block, 1), die)
