"""Peak memory of one call. On a CPU: in a fresh process, from the high-water mark of its own resident set."""

import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from jobs.leash import die_with_parent


def peak_in_fresh_process(make: Callable[[], tuple], call: Callable) -> int:
    """Bytes by which `call(*make())` raises the resident high-water mark (VmHWM, proc(5)) above the state before it.

    `ru_maxrss` would not do: a child inherits its parent's peak. RuntimeError with the child's words if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "reproductions.lab.memory", str(os.getpid())],
        input=pickle.dumps((make, call)),
        capture_output=True,
        env=os.environ,
        cwd=Path(__file__).parents[2],
    )
    if done.returncode:
        raise RuntimeError(f"memory measurement failed: {done.stderr.decode(errors='replace').strip()[-800:]}")
    return int(done.stdout)


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


def _main() -> None:
    die_with_parent(int(sys.argv[1]))
    make, call = pickle.loads(sys.stdin.buffer.read())
    inputs = make()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the mark falls back to what is resident now
    before = high_water()
    kept = call(*inputs)
    peak = high_water()
    del kept
    print(peak - before)


if __name__ == "__main__":
    _main()
