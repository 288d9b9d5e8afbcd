"""manage.py backup and restore, as an operator gives them: on SQLite and on PostgreSQL, while others write."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config import private
from tests.installation import ROOT, Installation, eventually
from tests.site.kept import everything, files, tables, tables_of

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
NEW = "from django.contrib.auth.models import User; print('new', User.objects.create_user('new').pk)"


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


@pytest.fixture(scope="module")
def migrated(tmp_path_factory) -> Path:
    """A SQLite database with tables and nothing in them."""
    made = Installation(tmp_path_factory.mktemp("migrated"))
    done(made, "migrate")
    return made.data / "db.sqlite3"


@pytest.fixture
def small(migrated, tmp_path) -> Installation:
    """An installation that nobody used yet."""
    (folder := tmp_path / "small").mkdir()
    made = Installation(folder)
    shutil.copy(migrated, made.data)
    return made


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


def test_another_engine_is_told(site, small, tmp_path):
    if site.engine == "postgresql":
        done(site, "backup", str(tmp_path / "all.backup"))
        line = refused(small, "restore", str(tmp_path / "all.backup"), "--replace")
        assert "expected a backup of SQLite, which DATABASE_URL names, got one of PostgreSQL" in line


def test_a_file_that_is_there_is_not_touched(small, tmp_path):
    (tmp_path / "mine").write_text("mine")
    assert "is there already" in refused(small, "backup", str(tmp_path / "mine"))
    assert (tmp_path / "mine").read_text() == "mine"
    assert "No such file" in refused(small, "backup", str(tmp_path / "no" / "folder"))
    empty = Installation(tmp_path)
    assert "there is no database" in refused(empty, "backup", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_no_backup_changes_nothing(small, tmp_path):
    done(small, "backup", str(tmp_path / "good"))
    data, before = (tmp_path / "good").read_bytes(), everything(small)
    for bad in (data[: len(data) // 2], b"a letter"):  # tests/test_archive.py cuts it everywhere
        (tmp_path / "bad").write_bytes(bad)
        assert "no whole backup" in refused(small, "restore", str(tmp_path / "bad"), "--replace")
    assert "cannot be read: No such file" in refused(small, "restore", str(tmp_path / "none"), "--replace")
    assert "cannot be read: Is a directory" in refused(small, "restore", str(tmp_path), "--replace")
    assert everything(small) == before


def rewritten(good: Path, bad: Path, *, change) -> Path:
    """The same backup with another manifest, sealed as somebody would who knows how."""
    from tests.test_archive import sealed

    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as packed:
        for name in source.namelist():
            data = source.read(name)
            packed.writestr(name, json.dumps(change(json.loads(data))) if name == "manifest.json" else data)
        packed.comment = b"0" * 64
    return sealed(bad)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told | {"migrations": ["catalog.9999_later"]}, "does not know the migration"),
        (lambda told: told | {"format": 2}, "another version of Claimcheck made it"),
        (lambda told: told | {"migrations": told["migrations"][:-1]}, "other migrations or rows"),
        (lambda told: told | {"rows": {}}, "other migrations or rows"),
        (lambda told: told | {"members": {"../x": {"size": 0, "sha256": "", "changed": 0}}}, "expected names"),
    ],
)  # fmt: skip
def test_a_newer_or_made_up_backup_changes_nothing(small, tmp_path, change, words):
    done(small, "backup", str(tmp_path / "good"))
    before = everything(small)
    bad = rewritten(tmp_path / "good", tmp_path / "bad", change=change)
    assert words in refused(small, "restore", str(bad), "--replace")
    assert everything(small) == before


def test_a_folder_in_use_is_refused(small, tmp_path):
    done(small, "backup", str(tmp_path / "good"))
    handle = private.take(small.data, "http://127.0.0.1:1/")
    line = refused(small, "restore", str(tmp_path / "good"), "--replace")
    os.close(handle)
    assert f"runs already, process {os.getpid()}, at http://127.0.0.1:1/; stop it first" in line
    done(small, "restore", str(tmp_path / "good"), "--replace")


def test_a_damaged_database_is_told_and_makes_room_for_a_backup(small, tmp_path):
    done(small, "shell", "-c", NEW)
    done(small, "backup", str(tmp_path / "good"))
    there = tables(small)
    with (small.data / "db.sqlite3").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(40960))
    broken = (small.data / "db.sqlite3").read_bytes()
    assert "is damaged" in refused(small, "backup", str(tmp_path / "never"))
    assert not (tmp_path / "never").exists()
    said = done(small, "restore", str(tmp_path / "good"), "--replace")
    kept = Path(re.search(r"what was here is kept in (\S+)", said).group(1))
    assert (kept / "db.sqlite3").read_bytes() == broken and (kept / "secret_key").exists()
    assert tables(small) == there


def limited() -> None:
    """No file of this process grows above 64 KiB, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A disk of 128 KiB."""
    (folder := tmp_path / "full").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this account cannot mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_leaves_nothing_half_done(small, full_disk):
    assert "full" in refused(small, "backup", str(full_disk / "file"))
    assert list(full_disk.iterdir()) == []


def test_where_nothing_can_be_written_nothing_is_left_or_replaced(small, tmp_path):
    done(small, "backup", str(tmp_path / "good"))
    before = everything(small)
    refused(small, "backup", str(tmp_path / "new"), preexec_fn=limited)
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".claimcheck*"))
    refused(small, "restore", str(tmp_path / "good"), "--replace", preexec_fn=limited)
    assert everything(small) == before and not list(small.data.glob(".claimcheck*"))


def test_the_commands_that_operations_names_work(small, tmp_path):
    text = (ROOT / "docs" / "operations.md").read_text()
    commands = re.findall(r"^\.venv/bin/python manage\.py ((?:backup|restore) .*)$", text, re.M)
    assert [command.split()[0] for command in commands] == ["backup", "restore", "restore"]
    for command in commands:
        words = [str(tmp_path / Path(word).name) if "/" in word else word for word in command.split()]
        if "before-upgrade" in command:
            shutil.copy(tmp_path / "claimcheck.backup", tmp_path / Path(command.split()[1]).name)
        done(small, *words, *(["--replace"] if words[0] == "restore" and "--replace" not in words else []))
    assert tables_of(small.data / "db.sqlite3")["django_migrations"]
