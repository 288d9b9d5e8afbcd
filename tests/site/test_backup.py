"""manage.py backup and restore, as an operator gives them: on SQLite and on PostgreSQL, while others write."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.installation import Installation, eventually
from tests.site.kept import NEW, done, everything, files, refused, tables, without_sessions

pytestmark = pytest.mark.xdist_group("postgres")
PREPARE = """
from django.core.management import call_command
for command in ("migrate", "load_catalog"):
    call_command(command, verbosity=0)
"""
CONTENT = """
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from catalog.models import Work
from readers.models import Collection, CollectionItem, Rating
ann = User.objects.create_user("ann", "ann@example.org", "a long password")
gone = User.objects.create_user("gone")
print("gone", gone.pk)
gone.delete()
work = Work.objects.first()
Rating.objects.create(user=ann, work=work, value=4)
kept = Collection.objects.create(owner=ann, name="Später", description="a\\tb\\\\N\\nc ✓ 'quoted'")
CollectionItem.objects.create(collection=kept, work=work, position=0, note="")
session = SessionStore()
session["who"] = "ann"
session.create()
"""
# Two rows in each transaction: a copy that holds one without the other was not made at one moment.
WRITER = """
from django.contrib.auth.models import User
from django.db import transaction
number = 0
while True:
    with transaction.atomic():
        User.objects.create(username=f"left{number}")
        User.objects.create(username=f"right{number}")
    print("wrote", number, flush=True)
    number += 1
"""


def database(request, engine: str, name: str) -> dict[str, str]:
    """The environment that names an empty database of this name."""
    if engine == "sqlite":
        return {}
    url = request.getfixturevalue("postgres_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    head, _, tail = url.partition("?")
    return {"DATABASE_URL": f"{head.rpartition('/')[0]}/{name}" + (f"?{tail}" if tail else "")}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request, tmp_path_factory) -> Iterator[Installation]:
    """An installation with something of everything in it."""
    made = Installation(tmp_path_factory.mktemp("from"), **database(request, request.param, "backup_from"))
    made.engine = request.param
    made.gone = int(re.search(r"^gone (\d+)$", done(made, "shell", "-c", PREPARE + CONTENT), re.M).group(1))
    for name in ("papers/2309.17453v4.pdf", "papers/2309.17453v4.json", "papers/своё.pdf", "bundles/claimcheck-1.pdf",
                 "papers/half.pdf.part", "bundles/plots/x.pdf", "prepared/x", "logs/web.log", "other.txt"):  # fmt: skip
        (made.data / name).parent.mkdir(exist_ok=True)
        (made.data / name).write_text(name * 1000)
        os.utime(made.data / name, ns=(1, 1_600_000_000_123_456_789))
    yield made
    made.stop()


@pytest.fixture
def target(request, site, tmp_path) -> Iterator[Installation]:
    """Another folder and another database, both empty."""
    made = Installation(tmp_path, **database(request, site.engine, "backup_to"))
    yield made
    made.stop()


def test_every_table_and_every_file_comes_back_and_what_is_replaced_is_kept(site, target, tmp_path):
    file = tmp_path / "all.backup"
    said = done(site, "backup", str(file))
    assert "rows in" in said and "5 files" in said and "left out: models/" in said
    assert file.stat().st_mode & 0o777 == 0o600 and not list(tmp_path.glob(".claimcheck*"))
    said = done(target, "restore", str(file))
    assert "5 files" in said and "it was already" in said and "everybody signs in anew" in said
    before, after = tables(site), tables(target)
    assert len(before) > 40 and without_sessions(after) == without_sessions(before)
    assert before["django_session"] and not after["django_session"]
    wanted = {name: found for name, found in files(site).items() if not name.endswith(".part")}
    assert files(target) == wanted and len(wanted) == 5
    assert not any((target.data / name).exists() for name in ("logs", "other.txt", "prepared", "bundles/plots"))
    assert all((target.data / name).stat().st_mode & 0o077 == 0 for name in ("papers", *wanted))
    assert not list(target.data.glob(".claimcheck*"))
    new = int(re.search(r"^new (\d+)$", done(target, "shell", "-c", NEW), re.M).group(1))
    assert new > site.gone, "a number that was given is not given again"
    assert "flashattention" in done(target, "export", "bibtex", "--query", "q=flashattention"), "it is found"

    (target.data / "papers" / "own.pdf").write_text("own")
    there, had, untouched = tables(target), files(target), everything(target)
    assert "--replace" in refused(target, "restore", str(file))
    if site.engine == "postgresql":
        with psycopg.connect(target.env["DATABASE_URL"]):
            assert "1 other connections" in refused(target, "restore", str(file), "--replace")
    assert everything(target) == untouched and tables(target) == there
    said = done(target, "restore", str(file), "--replace")
    assert without_sessions(tables(target)) == without_sessions(before)
    assert files(target) == wanted
    kept = Path(re.search(r"what was here is kept in (\S+)", said).group(1))
    assert kept.parent == target.data / "backups" and kept.stat().st_mode & 0o777 == 0o600
    done(target, "restore", str(kept), "--replace")
    assert without_sessions(tables(target)) == without_sessions(there) and files(target) == had


def test_a_backup_is_of_one_moment_while_a_process_writes(site, target, tmp_path):
    writer = site.start(sys.executable, "manage.py", "shell", "-c", WRITER, log="writer")

    def written() -> int:
        return len(re.findall(r"^wrote", writer.output.read_text(), re.M))

    try:
        eventually(lambda: written() > 5, "the writer writes")
        at_least = written()
        done(site, "backup", str(tmp_path / "during.backup"))
        assert written() > at_least, "it wrote on"
        writer.send_signal(signal.SIGSTOP)  # it keeps its connection, so that what it wrote last is still in the WAL
        if site.engine == "sqlite":
            assert (site.data / "db.sqlite3-wal").stat().st_size > 0
            done(site, "backup", str(tmp_path / "after.backup"))
            expected = tables(site)
    finally:
        writer.kill()
        writer.wait()
    done(target, "restore", str(tmp_path / "during.backup"))
    names = {row["username"] for row in tables(target)["auth_user"]}
    left, right = ({name for name in names if name.startswith(side)} for side in ("left", "right"))
    assert len(left) == len(right) >= at_least and left == {f"left{n}" for n in range(len(left))}
    if site.engine == "sqlite":
        done(target, "restore", str(tmp_path / "after.backup"), "--replace")
        assert without_sessions(tables(target)) == without_sessions(expected)


def test_another_engine_is_told(site, tmp_path):
    if site.engine == "postgresql":
        done(site, "backup", str(tmp_path / "all.backup"))
        line = refused(Installation(tmp_path), "restore", str(tmp_path / "all.backup"))
        assert "expected a backup of SQLite, which DATABASE_URL names, got one of PostgreSQL" in line
