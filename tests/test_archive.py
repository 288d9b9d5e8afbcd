"""A file that is not whole, not ours or made up is known before anything of it is used."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from config.backup import BackupError, archive

HEAD = {
    "version": "0", "made_at": "2026-01-01T00:00:00+00:00", "engine": "sqlite", "whole": True,
    "migrations": ["catalog.0001_initial"], "rows": {"t": 1}, "columns": {},
}  # fmt: skip
DATABASE, PAPER = "database/database.sqlite3", "files/papers/2309.17453v4.pdf"


@pytest.fixture
def good(tmp_path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name * 9)
    archive.write(tmp_path / "good", HEAD, {DATABASE: tmp_path / "one", PAPER: tmp_path / "two"})
    return tmp_path / "good"


def sealed(path: Path) -> Path:
    """Seal what somebody else made up."""
    data = path.read_bytes()[:-64]
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())
    return path


def made_up(path: Path, content: list[tuple[str | zipfile.ZipInfo, bytes]], **changes) -> Path:
    """A file with these members, told as they are unless `changes` say otherwise."""
    told = {
        name if isinstance(name, str) else name.filename: {
            "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "changed": 0
        }
        for name, data in content
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in content:
            packed.writestr(name, data)
        packed.writestr("manifest.json", json.dumps({"format": 1, **HEAD, "members": told} | changes))
        packed.comment = b"0" * 64
    return sealed(path)


def unpacked(path: Path, folder: Path) -> None:
    manifest = archive.check(path)
    folder.mkdir()
    archive.unpack(path, manifest, folder)


def test_what_went_in_comes_out(good, tmp_path):
    unpacked(good, tmp_path / "out")
    assert (tmp_path / "out" / PAPER).read_text() == "two" * 9
    assert (tmp_path / "out" / PAPER).stat().st_mtime_ns == (tmp_path / "two").stat().st_mtime_ns
    assert good.stat().st_mode & 0o777 == 0o600


def test_cut_off_anywhere_it_is_refused(good):
    data = good.read_bytes()
    for length in range(len(data)):
        good.write_bytes(data[:length])
        with pytest.raises(BackupError, match="no whole backup"):
            archive.check(good)


def test_changed_anywhere_it_is_refused(good):
    data = good.read_bytes()
    for place in range(len(data)):
        good.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(BackupError):
            archive.check(good)
    good.write_bytes(data + b"x")
    with pytest.raises(BackupError):
        archive.check(good)


def test_a_changed_file_that_was_sealed_again_is_refused_or_comes_out_as_it_was(good, tmp_path):
    """Every byte of a member and of the manifest is vouched for twice; what is left are dates and the like."""
    data = good.read_bytes()
    for place in range(0, len(data) - 64, 3):
        good.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        sealed(good)
        folder = tmp_path / str(place)
        try:
            unpacked(good, folder)
        except BackupError as error:
            assert "\n" not in str(error)
        else:
            found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
            assert found == {DATABASE: "one" * 9, PAPER: "two" * 9}


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/passwd", "files/papers/../../evil", "files/papers/..", "files/papers/.", "files/papers/a/b",
        "files/papers/", "files/papers/.hidden", "files\\papers\\x", "files/papers/a\\b", "files/db.sqlite3",
        "files/up.lock", "files/secret_key/x", "files/models/x.pdf", "database/../x.copy", "database/x.copy/y", "x",
        "C:/x", "files/papers/x\ny", "files/papers/" + "x" * 300, "./files/secret_key", "files//secret_key",
    ],
)  # fmt: skip
def test_a_name_that_no_backup_gives_is_refused(tmp_path, name):
    path = made_up(tmp_path / "evil", [(name, b"evil")])
    with pytest.raises(BackupError) as refused:
        archive.check(path)
    assert "\n" not in str(refused.value)


def test_a_link_comes_out_as_a_plain_file(tmp_path):
    info = zipfile.ZipInfo(PAPER)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    unpacked(made_up(tmp_path / "evil", [(info, b"/etc/passwd")]), tmp_path / "out")
    assert not (tmp_path / "out" / PAPER).is_symlink() and (tmp_path / "out" / PAPER).read_text() == "/etc/passwd"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_the_manifest_does_not_tell_are_refused(tmp_path):
    for number, members in enumerate([{PAPER: {}}, {}, {DATABASE: {"size": 1, "sha256": "x", "changed": 0}}]):
        with pytest.raises(BackupError):
            archive.check(made_up(tmp_path / str(number), [(PAPER, b"x")], members=members))
    with pytest.raises(BackupError, match="once"):
        archive.check(made_up(tmp_path / "twice", [(PAPER, b"x"), (PAPER, b"x")]))


X = hashlib.sha256(b"x").hexdigest()


def told(size, sha256=X, changed=0) -> dict:
    return {"members": {PAPER: {"size": size, "sha256": sha256, "changed": changed}}}


@pytest.mark.parametrize(
    "changes",
    [
        told(0), told(2), told(10**30), told(1, "0" * 64), told(-1), told(1.5), told("1"), told(1, None), told(1.0),
        told(True), told(1, changed=2**63 - 1), told(1, changed=2**70), {"members": []}, {"migrations": [1]},
        {"migrations": ["../x"]}, {"rows": {"t": "many"}}, {"engine": "oracle"}, {"columns": {"t": []}},
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_one_line(tmp_path, changes):
    try:
        unpacked(made_up(tmp_path / "evil", [(PAPER, b"x")], **changes), tmp_path / "out")
    except BackupError as error:
        assert "\n" not in str(error)
    else:  # a second so far away, or a size of 1.0, does nobody harm
        assert (tmp_path / "out" / PAPER).read_bytes() == b"x"


def test_a_newer_format_says_so(tmp_path):
    with pytest.raises(BackupError, match="expected format 1, got '2': another version of Claimcheck"):
        archive.check(made_up(tmp_path / "newer", [], format=2))


def test_what_unfolds_to_more_than_it_says_is_stopped(tmp_path):
    data = b"0" * 2**24
    info = zipfile.ZipInfo(PAPER)
    info.compress_type = zipfile.ZIP_DEFLATED
    with pytest.raises(BackupError, match="damaged"):
        unpacked(made_up(tmp_path / "bomb", [(info, data)], **told(1)), tmp_path / "out")
    assert (tmp_path / "out" / PAPER).stat().st_size <= 1


@pytest.mark.parametrize("data", [b"", b"x" * 10, b"x" * 1000, b"SQLite format 3\0" + bytes(4096), b"PK\3\4" * 99])
def test_another_kind_of_file_is_one_line(tmp_path, data):
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(BackupError, match="no whole backup"):
        archive.check(tmp_path / "other")
    sealed_other = tmp_path / "sealed"
    sealed_other.write_bytes(data + bytes(64))
    with pytest.raises(BackupError):
        archive.check(sealed(sealed_other))


def test_a_file_that_is_gone_by_then_is_left_out(tmp_path):
    (tmp_path / "one").write_text("one")
    manifest = archive.write(tmp_path / "made", HEAD, {PAPER: tmp_path / "gone", DATABASE: tmp_path / "one"})
    assert list(manifest["members"]) == [DATABASE] == list(archive.check(tmp_path / "made")["members"])
