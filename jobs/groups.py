"""Process groups: every attempt runs in one of its own, named by its leader's id and start time.

A descendant that leaves the group is still found by the attempt's mark, a variable in the environment it inherited.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

MARK = "CLAIMCHECK_ATTEMPT"


def started_at(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None if there is none. Tells a reused id from the same process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).create_time()
    return None


def members(group: int, mark: str = "") -> list[psutil.Process]:
    """The living processes of a group, and all that carry the mark; zombies have ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = os.getpgid(process.pid) == group or (mark and process.environ().get(MARK) == mark)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def resident_bytes(group: int) -> int:
    """Resident memory of all processes of a group; pages they share are counted once a process."""
    total = 0
    for process in members(group):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def cpu_seconds(group: int, mark: str = "") -> float:
    """Seconds of a core that a group and all that carry the mark have had, what they waited for to its end included."""
    total = 0.0
    for process in members(group, mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder, which may change meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):  # which passes over a folder that is gone
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def end(group: int, mark: str = "", grace_s: float = 2.0) -> None:
    """End a group and all that carry the mark: SIGTERM, then SIGKILL after `grace_s`; returns when all are gone."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        told: set[int] = set()
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            if not (left := members(group, mark)):
                return
            for process in left:
                if process.pid not in told:  # one forked since is told too
                    told.add(process.pid)
                    with contextlib.suppress(psutil.Error):
                        process.send_signal(sign)
            time.sleep(0.05)


def end_if_same(group: int, since: float | None, mark: str = "") -> bool:
    """End a group left over from before, unless its id now belongs to another process. True if there was one."""
    now = started_at(group)
    if now is not None and since is not None and abs(now - since) > 1.0:
        group = -1  # the id is another process's now; what carries the mark is still the attempt's
    if not members(group, mark):
        return False
    end(group, mark)
    return True
