"""What an installation keeps is its own: no other account of the machine reads it, and one `up` has it at a time."""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

# What Claimcheck makes in its data folder; anything else there is somebody else's and stays as it is.
OURS = ("db.sqlite3*", "secret_key", "beat-schedule*", "redis.sock", "up.lock", "logs", "models", "prepared", "papers",
        "bundles", "scratch", "snapshots")  # fmt: skip


class Taken(Exception):
    """Another process has the folder; the message is one line: which, and where."""


def make_private(folder: Path) -> None:
    """Make the folder if it is not there, close it and what lies in it to others, and make new files so from now on.

    A folder of another owner, or one that all may write to (such as /tmp), is not closed; what is ours in it is.
    OSError if it cannot be made.
    """
    os.umask(0o077)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not folder.stat().st_mode & stat.S_ISVTX:
        _close(folder)
    for pattern in OURS:
        for path in folder.glob(pattern):
            _close(path)
            if path.is_dir() and not path.is_symlink():
                for inner in path.rglob("*"):
                    _close(inner)


def _close(path: Path) -> None:
    """Take away what others may, if the file is ours and no link."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o077:
            path.chmod(stat.S_IMODE(found.st_mode) & ~0o077)


def take(folder: Path, address: str) -> int:
    """Hold the folder until this process ends, however it ends; Taken, with process and address, if another has it.

    The handle may be forgotten: it is not inherited, and the kernel lets go with the process.
    """
    handle = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, _, where = os.read(handle, 500).decode(errors="replace").partition(" ")
        os.close(handle)
        raise Taken(f"runs already, process {pid}, at {where}") from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()} {address}".encode(), 0)
    return handle
