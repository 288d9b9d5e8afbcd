"""Making a backup, while everything runs."""

import os
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError

from config.backup import BackupError, archive, database, files

SCRATCH = ".claimcheck-backup-"


def make(target: Path, *, whole: bool = True) -> dict[str, Any]:
    """Write the installation, or its database alone, to a new file, and return the manifest.

    BackupError, in one line, if it cannot be done; nothing is left then. The file appears when it is complete.
    """
    _refuse_existing(target)
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=target.parent) as scratch:
            members, told = database.dump(Path(scratch))
            head = {"version": _version(), "made_at": datetime.now(UTC).isoformat(timespec="seconds"), "whole": whole}
            part = Path(scratch) / "part"
            manifest = archive.write(part, head | told, members | (files.kept() if whole else {}))
            _refuse_existing(target)
            os.rename(part, target)
            _sync(target.parent)
    except OSError as error:
        of_another = error.filename and SCRATCH not in str(error.filename)
        where = f" ({error.filename})" if of_another else ""
        raise BackupError(f"{target} cannot be made: {error.strerror}{where}") from None
    except (psycopg.Error, DatabaseError) as error:
        raise BackupError(f"the database cannot be read: {str(error).partition(chr(10))[0]}") from None
    return manifest


def stamp() -> str:
    """Return the time, as names of files carry it."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise BackupError(f"{target} is there already: name a new file")


def _version() -> str:
    return tomllib.loads((Path(settings.BASE_DIR) / "pyproject.toml").read_text())["project"]["version"]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
