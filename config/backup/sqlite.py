"""A SQLite database: copied by SQLite's own backup, which sees what is still in the write-ahead log."""

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from django.db import connection

from config.backup import BackupError, DamagedDatabase

MEMBER = "database/database.sqlite3"
TIMEOUT_S = 30


def path() -> Path:
    """Return where the database lies."""
    return Path(connection.settings_dict["NAME"])


def dump(folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Copy the database as it is at one moment: its members, and what the manifest says of it."""
    if not path().is_file():
        raise BackupError(f"there is no database at {path()}")
    copy = folder / "database.sqlite3"
    try:
        with closing(_open(path())) as source, closing(_open(copy)) as target:
            source.backup(target)  # in one step: a writer between two would start it again and again
            target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        migrations, rows = look(copy)
    except sqlite3.OperationalError as error:
        raise BackupError(f"the database cannot be copied: {error}") from None
    except sqlite3.DatabaseError as error:
        raise DamagedDatabase(f"the database {path()} is damaged: {error}") from None
    return {MEMBER: copy}, {"migrations": migrations, "rows": rows, "columns": {}}


def look(database: Path) -> tuple[list[str], dict[str, int]]:
    """Return its migrations and how many rows each table has; sqlite3.DatabaseError if it is damaged."""
    with closing(_open(database)) as opened:
        said = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise sqlite3.DatabaseError(" ".join(said.split()))
        tables = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        rows = {name: opened.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchone()[0] for name in tables}
        asked = "SELECT app || '.' || name FROM django_migrations ORDER BY id"
        migrations = [name for (name,) in opened.execute(asked)] if "django_migrations" in tables else []
    return migrations, rows


def holds_data() -> bool:
    """Whether there is anything in the place of the database that a restore would replace."""
    if not path().exists():
        return False
    try:
        return bool(look(path())[1])
    except sqlite3.DatabaseError:
        return True


def check(folder: Path, manifest: Mapping[str, Any]) -> None:
    """BackupError if the unpacked database is not what the manifest says."""
    if MEMBER not in manifest["members"]:
        raise BackupError(f"expected the member {MEMBER}, got none")
    try:
        migrations, rows = look(folder / MEMBER)
    except sqlite3.DatabaseError as error:
        raise BackupError(f"the database in it is damaged: {error}") from None
    if (migrations, rows) != (manifest["migrations"], manifest["rows"]):
        raise BackupError("the database in it has other migrations or rows than its manifest says")


def load(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Put the unpacked database in place of the present one, in one transaction, without anybody's session."""
    try:
        with closing(_open(folder / MEMBER)) as source:
            if "django_session" in manifest["rows"]:
                source.execute("DELETE FROM django_session")
                source.commit()
            path().parent.mkdir(parents=True, exist_ok=True)
            with closing(_open(path())) as target:
                source.backup(target)
    except sqlite3.Error as error:
        raise BackupError(f"the database cannot be written, and is as it was: {error}") from None


def move_aside(folder: Path) -> None:
    """Move the database's files, as they are, into a folder."""
    for ending in ("", "-wal", "-shm"):
        found = path().with_name(path().name + ending)
        if found.exists():
            shutil.move(found, folder / found.name)


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, timeout=TIMEOUT_S)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
