"""What an installation keeps is its own: no other account of the machine reads it, and one `up` has it at a time."""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

# What Claimcheck makes in its data folder; anything else there is somebody else's and stays as it is.
FILES = ("db.sqlite3*", "secret_key", "beat-schedule*", "redis.sock", "up.lock")
FOLDERS = ("logs", "models", "prepared", "papers", "bundles", "scratch", "backups")


class Taken(Exception):
    """Another process has the folder; the message is one line: which, and where."""


def make_private(folder: Path) -> None:
    """Make the folder if it is not there, close it and what lies in it to others, and make new files so from now on.

    A folder that is plainly not ours alone (somebody's home, the root, or one that others may write to, such as /tmp)
    stays open, with its folders: only our own files in it are closed. OSError if it cannot be made.
    """
    os.umask(0o077)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for pattern in FILES:
        for path in folder.glob(pattern):
            _close(path)
    if folder in (Path.home(), Path("/")) or folder.stat().st_mode & (stat.S_ISVTX | stat.S_IWOTH):
        return
    _close(folder)
    for ours in (folder / name for name in FOLDERS if not (folder / name).is_symlink()):
        for place, folders, files in os.walk(ours):  # which follows no link below it
            for path in (Path(place), *(Path(place) / each for each in (*folders, *files))):
                _close(path)


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
