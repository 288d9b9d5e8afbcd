"""What an installation holds, every row of every table, every file; and what its commands say."""

import os
import resource
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.installation import Installation

Tables = dict[str, list[dict[str, Any]]]
NEW = "from django.contrib.auth.models import User; print('new', User.objects.create_user('new').pk)"


def tables(site: Installation) -> Tables:
    """Table -> its rows, whatever their order."""
    if url := site.env.get("DATABASE_URL"):
        with psycopg.connect(url) as opened:
            names = opened.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            return {name: _rows(opened.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))))
                    for (name,) in names}  # fmt: skip
    return tables_of(site.data / "db.sqlite3")


def tables_of(database: Path) -> Tables:
    """The same for a SQLite file."""
    with closing(sqlite3.connect(database)) as opened:
        names = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: _rows(opened.execute(f'SELECT * FROM "{name}"')) for (name,) in names}


def _rows(cursor: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return sorted((dict(zip(names, row, strict=True)) for row in cursor), key=repr)


def files(site: Installation) -> dict[str, tuple[bytes, int]]:
    """Name -> content and time of every file of the data folder that a backup should hold."""
    found = [site.data / "secret_key", *site.data.glob("papers/*"), *site.data.glob("bundles/*.*")]
    return {str(p.relative_to(site.data)): (p.read_bytes(), p.stat().st_mtime_ns) for p in found if p.is_file()}


def everything(site: Installation) -> dict[str, tuple[bytes, int]]:
    """Name -> content and time of every file there is, but for the lock, to show that nothing changed."""
    found = {}
    for place, folders, names in os.walk(site.data):
        folders[:] = [name for name in folders if name != "models"]
        for path in (Path(place) / name for name in names if name != "up.lock"):
            found[str(path.relative_to(site.data))] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def done(site: Installation, *words: str, **options) -> str:
    """What a command says that ends well."""
    ended = site.manage(*words, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refused(site: Installation, *words: str, **options) -> str:
    """The one line of a command that ends with code 2."""
    ended = site.manage(*words, **options)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr + ended.stdout
    return ended.stderr


def without_sessions(found: dict) -> dict:
    return {name: rows for name, rows in found.items() if name != "django_session"}


def limited() -> None:
    """No file of this process grows above 64 KiB, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
