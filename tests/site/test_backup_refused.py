"""What manage.py backup and restore refuse, each in one line, with code 2 and nothing changed."""

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import private
from tests.installation import ROOT, Installation
from tests.site.kept import NEW, done, everything, limited, refused, tables
from tests.test_archive import sealed

pytestmark = pytest.mark.xdist_group("backup")


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
    assert tables(small)["django_migrations"]
