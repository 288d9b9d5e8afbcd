"""Process groups: every attempt runs in one of its own, named by its leader's id and start time."""

import contextlib
import os
import signal
import time

import psutil


def started_at(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None if there is none. Tells a reused id from the same process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).create_time()
    return None


def members(group: int) -> list[psutil.Process]:
    """The living processes of a group; zombies have ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def resident_bytes(group: int) -> int:
    """Resident memory of all processes of a group; pages they share are counted once a process."""
    total = 0
    for process in members(group):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def end(group: int, grace_s: float = 2.0) -> None:
    """End a whole group: SIGTERM, then SIGKILL for what is left after `grace_s`; returns when all are gone."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, sign)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            if not members(group):
                return
            time.sleep(0.05)


def end_if_same(group: int, since: float | None) -> bool:
    """End a group left over from before, unless its id now belongs to another process. True if there was one."""
    now = started_at(group)
    if now is None and not members(group):
        return False
    if now is not None and since is not None and abs(now - since) > 1.0:
        return False
    end(group)
    return True
