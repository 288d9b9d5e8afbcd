"""How long tests wait: on a slow or busy machine longer, by the factor that runs' time limits have there."""

import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURE = "from reproductions.lab.pace import time_factor; print(time_factor())"


def allowed(seconds: float) -> float:
    """What a test may wait for something that takes at most `seconds` on an idle machine as fast as the reference."""
    return seconds * factor()


@functools.cache
def factor() -> float:
    """TIME_FACTOR, measured once a process where it is not set; installations that tests start take it over."""
    if "TIME_FACTOR" not in os.environ:
        command = [sys.executable, "-c", MEASURE]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        beside = 2 if "PYTEST_XDIST_WORKER" in os.environ else 1  # the suite's other process is at work too
        os.environ["TIME_FACTOR"] = str(max(beside, float(done.stdout)))
    return float(os.environ["TIME_FACTOR"])
