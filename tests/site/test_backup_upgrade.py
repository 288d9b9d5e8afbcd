"""The database of an earlier commit (data/README.md) is started with this one: a snapshot, and nothing is lost."""

import gzip
import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from config.backup.upgrading import KEPT
from tests.installation import Installation
from tests.site.kept import Tables, done, limited, refused, tables, without_sessions

pytestmark = pytest.mark.xdist_group("up")
EARLIER = Path(__file__).parent / "data" / "earlier.sqlite3.gz"
# What people made, which nothing but people changes; a run that waits follows the present version.
PEOPLES = ("auth_user", "readers_rating", "readers_collection", "readers_collectionitem", "readers_token",
           "reproductions_verdict", "jobs_attempt", "jobs_logchunk", "django_session", "django_migrations")  # fmt: skip


@pytest.fixture
def earlier(installation) -> Installation:
    """An installation that has the earlier database."""
    (installation.data / "db.sqlite3").write_bytes(gzip.decompress(EARLIER.read_bytes()))
    return installation


def snapshots(site: Installation) -> list[Path]:
    return sorted((site.data / "backups").glob("*.backup"))


def lost(before: Tables, after: Tables, *names: str) -> list:
    """Rows of `before` that are not in `after`, by the columns that both have."""
    found = []
    for name in names:
        common = before[name][0].keys() & after[name][0].keys() if before[name] and after[name] else set()
        assert common or not before[name], name
        there = [{column: row[column] for column in common} for row in after[name]]
        found += [(name, row) for row in before[name] if {column: row[column] for column in common} not in there]
    return found


def test_migrations_keep_every_row_of_every_table(earlier):
    before = tables(earlier)
    done(earlier, "migrate")
    after = tables(earlier)
    own = [name for name in before if not name.startswith(("catalog_search_", "sqlite_"))]  # others are SQLite's own
    assert lost(before, after, *own) == []


def test_a_start_keeps_a_snapshot_and_every_row_and_its_pages_work(earlier, tmp_path):
    before = tables(earlier)
    process = earlier.up()
    (kept,) = snapshots(earlier)
    assert re.fullmatch(
        r"before-upgrade-\d{8}T\d{6}Z-from-axes_none-catalog_0002-jobs_0001-readers_0001-reproductions_0001.*\.backup",
        kept.name,
    )
    told = process.output.read_text()
    assert (
        told.startswith(f"the database will be migrated; as it was, it is kept in {kept}\n") and told.count("\n") == 2
    )
    assert "runs already, process" in refused(earlier, "restore", str(kept), "--replace")
    waiting = max(row["id"] for row in before["reproductions_run"])
    assert earlier.wait_for(f"/runs/{waiting}/", "finished", "failed") == "finished"
    after = tables(earlier)
    assert lost(before, after, *PEOPLES) == []
    for name in ("catalog_work", "reproductions_run", "jobs_job"):
        assert {row["id"] for row in before[name]} <= {row["id"] for row in after[name]}
    for path in ("/", "/papers/online-softmax/", "/claims/", "/runs/1/", "/runs/", "/nodes/", "/api/v1/openapi.json"):
        assert earlier.status(path) == 200, path
    assert "später" in earlier.page("/collections/") and "ann" in earlier.page("/runs/1/")
    earlier.sign_in("ann", "a long password")
    assert "Mine alone" in earlier.page("/collections/")
    earlier.stop()
    done(earlier, "prepare")
    assert snapshots(earlier) == [kept], "nothing to migrate, so no snapshot"

    (folder := tmp_path / "back").mkdir()
    back = Installation(folder)
    said = done(back, "restore", str(kept))
    assert "catalog.0007_published_title" in said and "files are as they were" in said
    assert lost(without_sessions(before), tables(back), *(n for n in PEOPLES if n != "django_session")) == []


def test_without_a_snapshot_nothing_is_migrated(earlier):
    before = tables(earlier)
    ended = earlier.manage("up", preexec_fn=limited)
    assert ended.returncode and ended.stderr.count("\n") == 1
    assert "not migrated, since the database could not be kept before" in ended.stderr
    assert tables(earlier) == before and not list((earlier.data / "backups").iterdir())


def test_a_migration_that_fails_says_how_to_go_back_and_it_goes(earlier):
    before = tables(earlier)
    with closing(sqlite3.connect(earlier.data / "db.sqlite3")) as opened:
        opened.execute("CREATE TABLE catalog_listimport (id integer)")  # which a migration will make
    line = refused(earlier, "prepare")
    assert "already exists" in line
    for _ in range(2):  # as a machine that starts it again and again; other apps' migrations went well the first time
        refused(earlier, "prepare")
    assert len(snapshots(earlier)) == 2, "one of each state"
    command = re.search(r"manage.py (restore \S+ --replace --no-migrate) takes it back", line).group(1).split()
    assert "migrated" not in done(earlier, *command)
    after = tables(earlier)
    assert without_sessions({name: after[name] for name in before}) == without_sessions(before)


def test_the_last_few_snapshots_are_kept(earlier):
    folder = earlier.data / "backups"
    folder.mkdir()
    others = [folder / "mine.backup", folder / "replaced-20200101T000000Z.backup"]
    old = [folder / f"before-upgrade-2020010{day}T000000Z-from-catalog_000{day}.backup" for day in range(1, KEPT + 2)]
    same = [folder / f"before-upgrade-2021010{day}T000000Z-from-catalog_0001.backup" for day in range(1, 4)]
    for path in (*others, *old, *same):
        path.touch()
    (left := folder / ".claimcheck-backup-left").mkdir()
    long_ago = time.time() - 10 * 86400
    os.utime(left, (long_ago, long_ago))
    done(earlier, "shell", "-c", "from config.backup.upgrading import *; print(snapshot_before_migrating())")
    kept = snapshots(earlier)
    assert set(others) <= set(kept) and not left.exists()
    assert len(kept) == len(others) + KEPT
    assert same[-1] in kept and not {old[0], *same[:-1]} & set(kept)
