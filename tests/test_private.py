"""What is closed to other accounts, and what is left as it is."""

import os
import stat

import pytest

from config import private


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_folder_its_own_files_and_new_ones_are_closed(tmp_path):
    (tmp_path / "logs" / "deep").mkdir(parents=True)
    for name in ("db.sqlite3", "db.sqlite3-wal", "logs/web.log", "logs/deep/x", "other.txt"):
        (tmp_path / name).write_text("")
    private.make_private(tmp_path)
    (tmp_path / "new").write_text("")
    assert mode(tmp_path) == mode(tmp_path / "logs") == mode(tmp_path / "logs" / "deep") == 0o700
    for name in ("db.sqlite3", "db.sqlite3-wal", "logs/web.log", "logs/deep/x", "new"):
        assert mode(tmp_path / name) == 0o600, name
    assert mode(tmp_path / "other.txt") == 0o644


def test_a_folder_for_everybody_and_what_a_link_leads_to_stay_as_they_are(tmp_path):
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    for folder in (shared, elsewhere):
        folder.mkdir()
    shared.chmod(0o1777)
    (elsewhere / "model").write_text("")
    (shared / "models").symlink_to(elsewhere)
    (shared / "secret_key").write_text("")
    private.make_private(shared)
    assert (mode(shared), mode(elsewhere), mode(elsewhere / "model")) == (0o1777, 0o755, 0o644)
    assert mode(shared / "secret_key") == 0o600


def test_a_link_in_our_own_folder_is_not_followed(tmp_path):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "model").write_text("")
    (own := tmp_path / "own").mkdir()
    (own / "models").symlink_to(elsewhere)
    private.make_private(own)
    assert (mode(own), mode(elsewhere), mode(elsewhere / "model")) == (0o700, 0o755, 0o644)


def test_somebodys_home_stays_open_and_our_files_in_it_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0o755)
    (tmp_path / "papers").mkdir(mode=0o755)
    (tmp_path / "db.sqlite3").write_text("")
    private.make_private(tmp_path)
    assert mode(tmp_path) == mode(tmp_path / "papers") == 0o755 and mode(tmp_path / "db.sqlite3") == 0o600


def test_one_has_it_at_a_time(tmp_path):
    handle = private.take(tmp_path, "http://here/")
    with pytest.raises(private.Taken, match=f"process {os.getpid()}, at http://here/"):
        private.take(tmp_path, "http://there/")
    os.close(handle)
    os.close(private.take(tmp_path, "http://there/"))
