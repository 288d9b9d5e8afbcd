"""Whether this machine can take a job: its scratch folder and how much of its disk is free."""

import contextlib
import errno
import os
import shutil
import threading
from pathlib import Path

from django.conf import settings

PAGE = 4096
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def trouble() -> str:
    """Why this machine should take no job now, in words; empty if nothing speaks against it."""
    folder = settings.DATA_DIR / "scratch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}-{threading.get_ident()}"
        probe.write_text("x")
        probe.unlink()
        free = shutil.disk_usage(folder).free // 2**20
    except OSError as error:
        return f"cannot write in its scratch folder: {error.strerror}"
    return f"only {free} MiB of disk are free" if free < settings.FREE_DISK_MIB else ""


def is_full(folder: Path) -> bool:
    """Whether not even a page can be written there: a fault that cannot leave a file to tell of itself."""
    probe = folder / f".probe-{os.getpid()}-{threading.get_ident()}"
    try:
        with probe.open("wb") as file:
            file.write(b"x" * PAGE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in DISK_ERRORS
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return False
