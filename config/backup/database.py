"""The two engines behind the same functions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.migrations.loader import MigrationLoader

from config.backup import BackupError, postgres, sqlite

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def is_sqlite() -> bool:
    """Whether DATABASE_URL names a SQLite file."""
    return connection.vendor == "sqlite"


def dump(folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Write the database, as it is at one moment, into files: member name -> file, and the manifest's part on it."""
    members, told = sqlite.dump(folder) if is_sqlite() else postgres.dump(folder)
    return members, {"engine": connection.vendor, **told}


def suits(manifest: Mapping[str, Any]) -> None:
    """BackupError if a backup is of the other engine, or of a newer version than this one."""
    here, there = NAMES[connection.vendor], NAMES[manifest["engine"]]
    if here != there:
        raise BackupError(f"expected a backup of {here}, which DATABASE_URL names, got one of {there}")
    loader = MigrationLoader(None, ignore_no_migrations=True)
    known = {f"{app}.{name}" for app, name in loader.graph.nodes}
    if unknown := [name for name in manifest["migrations"] if name not in known]:
        raise BackupError(f"a newer version of Claimcheck made it: this one does not know the migration {unknown[-1]}")


def holds_data() -> bool:
    """Whether a restore would replace anything in the database."""
    return sqlite.holds_data() if is_sqlite() else postgres.holds_data()


def others() -> int:
    """Return how many other connections there are, as far as the engine tells: SQLite does not."""
    return 0 if is_sqlite() else postgres.others()


def check(folder: Path, manifest: Mapping[str, Any]) -> None:
    """BackupError if what was unpacked is not what the manifest says."""
    (sqlite if is_sqlite() else postgres).check(folder, manifest)


def load(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Put what was unpacked in place of the database: all of it, or nothing."""
    connection.close()
    (sqlite if is_sqlite() else postgres).load(folder, manifest)
