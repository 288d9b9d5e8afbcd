"""A PostgreSQL database: each table by COPY, all in one snapshot; its schema is what our own migrations make.

A restore is one transaction: it drops our tables, makes them by the migrations that the backup had, and fills them.
"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from psycopg import sql

from config.backup import BackupError

PIECE = 2**20
OWN = ("django",)  # the first words of tables' names, beside those of the apps that have migrations
COLUMNS = """
    SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') GROUP BY 1 ORDER BY 1
"""
SEQUENCES = """
    SELECT c.relname || '.' || a.attname, pg_sequence_last_value(s.name::regclass) FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    CROSS JOIN LATERAL pg_get_serial_sequence(quote_ident(c.relname), a.attname) AS s(name)
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND s.name IS NOT NULL
"""
OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def dump(folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Copy every table as it is at one moment: its members, and what the manifest says of them."""
    own = connection.copy()
    members, rows = {}, {}
    with closing(own), own.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        columns = _columns(cursor)
        if "django_migrations" not in columns:
            raise BackupError("the database has no tables of Claimcheck")
        cursor.execute("SELECT app || '.' || name FROM django_migrations ORDER BY id")
        migrations = [name for (name,) in cursor.fetchall()]
        for table, names in columns.items():
            members[f"database/{table}.copy"] = folder / f"{table}.copy"
            rows[table] = _copy_out(cursor, table, names, folder / f"{table}.copy")
        cursor.execute(SEQUENCES)  # later than the snapshot, so never behind it
        last = {name: number for name, number in cursor.fetchall() if number and name.partition(".")[0] in columns}
    return members, {"migrations": migrations, "rows": rows, "columns": columns, "sequences": last}


def _columns(cursor: Any) -> dict[str, list[str]]:
    """Return table -> columns of our tables. A database may hold other people's too, which are left alone."""
    cursor.execute(COLUMNS)
    found = dict(cursor.fetchall())
    apps = set(OWN)
    if "django_migrations" in found:
        cursor.execute("SELECT DISTINCT app FROM django_migrations")
        apps |= {app for (app,) in cursor.fetchall()}
    return {table: names for table, names in found.items() if table.startswith(tuple(f"{app}_" for app in apps))}


def _copy_out(cursor: Any, table: str, names: list[str], target: Path) -> int:
    asked = sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(table), _list(names))
    with target.open("wb") as out, cursor.copy(asked) as copy:
        for piece in copy:
            out.write(piece)
    return cursor.rowcount


def holds_data() -> bool:
    """Whether there are tables of ours."""
    with connection.cursor() as cursor:
        return bool(_columns(cursor))


def others() -> int:
    """Return how many other connections there are to this database."""
    with connection.cursor() as cursor:
        cursor.execute(OTHERS)
        return cursor.fetchone()[0]


def check(folder: Path, manifest: Mapping[str, Any]) -> None:
    """BackupError if the unpacked tables are not those of the manifest."""
    expected = {f"database/{table}.copy" for table in manifest["columns"]}
    if expected != {name for name in manifest["members"] if name.startswith("database/")}:
        raise BackupError("it has other tables than its manifest says")


def load(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Put the unpacked tables in place of the present ones, in one transaction, without anybody's session."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '30s'")
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table with checks still to come cannot be altered
            _make_tables(cursor, manifest)
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
            for table, names in manifest["columns"].items():
                came = _copy_in(cursor, table, names, folder / f"database/{table}.copy")
                if came != manifest["rows"].get(table):
                    raise BackupError(f"{table}: expected {manifest['rows'].get(table)} rows, got {came}")
            for name, number in manifest.get("sequences", {}).items():
                table, _, column = name.partition(".")
                cursor.execute(
                    "SELECT setval(pg_get_serial_sequence(quote_ident(%s), %s), %s)", [table, column, number]
                )
            cursor.execute("DELETE FROM django_session")
    except (psycopg.Error, DatabaseError) as error:
        said = str(error).partition("\n")[0]
        raise BackupError(f"the database cannot be written, and is as it was: {said}") from None


def _make_tables(cursor: Any, manifest: Mapping[str, Any]) -> None:
    """Drop our tables and make those that the backup's migrations make, empty."""
    if present := _columns(cursor):
        cursor.execute(sql.SQL("DROP TABLE {}").format(_list(present)))
    executor = MigrationExecutor(connection)
    wanted = {tuple(name.split(".")) for name in manifest["migrations"]}
    nodes = executor.loader.graph.node_map
    last = [key for key in wanted if not any(child.key in wanted for child in nodes[key].children)]
    executor.migrate(last)
    made = _columns(cursor)
    if {table: set(names) for table, names in made.items()} != {
        table: set(names) for table, names in manifest["columns"].items()
    }:
        raise BackupError("its tables are not those that its migrations make here")
    cursor.execute(sql.SQL("TRUNCATE {}").format(_list(made)))  # what migrations wrote is in the backup too


def _copy_in(cursor: Any, table: str, names: list[str], source: Path) -> int:
    asked = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), _list(names))
    with source.open("rb") as data, cursor.copy(asked) as copy:
        while piece := data.read(PIECE):
            copy.write(piece)
    return cursor.rowcount


def _list(names: Any) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
