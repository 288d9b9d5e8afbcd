"""Peak memory of one call. On a CPU: in a fresh process, from the high-water mark of its own resident set."""

import ctypes
import gc
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

M_MMAP_THRESHOLD, LARGE = -3, 64 * 1024  # mallopt(3)


def peak_in_fresh_process(make: Callable[[], tuple], call: Callable) -> int:
    """Bytes by which `call(*make())` raises the resident high-water mark (VmHWM, proc(5)) above the state before it.

    The process is forked from one that has loaded torch and done nothing since; a tensor of 64 KiB or more has pages of
    its own there, which go back when it is freed, so that holes in the heap do not count as the method's. `ru_maxrss`
    would not do: a child inherits its parent's peak. RuntimeError with the child's words if it fails.
    """
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["torch", "triton"])
    ours, theirs = forks.Pipe(duplex=False)
    child = forks.Process(target=_measure, args=(theirs, make, call), daemon=True)
    child.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        child.join()
        found = f"it ended with exit code {child.exitcode}"
    child.join()
    if isinstance(found, str):
        raise RuntimeError(f"memory measurement failed: {found.strip()[-800:]}")
    return found


def peak_on_gpu(make: Callable[[], tuple], call: Callable) -> int:
    """Bytes by which `call(*make())` raises the allocator's peak above the state before it."""
    import torch

    inputs = make()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = call(*inputs)
    torch.cuda.synchronize()
    del kept
    return torch.cuda.max_memory_allocated() - before


def high_water() -> int:
    """Bytes: the largest resident set this process has had (or since the mark was reset)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status: peak memory is measured on Linux only")


def _measure(answer: Connection, make: Callable[[], tuple], call: Callable) -> None:
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
    try:
        inputs = make()
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the mark falls back to what is resident now
        before = high_water()
        kept = call(*inputs)
        answer.send(high_water() - before)
        del kept
    except Exception:
        answer.send(traceback.format_exc())
