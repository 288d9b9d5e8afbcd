"""Commands on a database that has no tables yet."""

import pytest


@pytest.mark.parametrize("words", [["load_catalog"], ["load_records"], ["sync_reproductions"], ["export", "bibtex"]])
def test_a_database_without_tables_is_one_line(installation, words):
    done = installation.manage(*words)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("the database cannot be read: no such table")
    assert done.stderr.count("\n") == 1


def test_the_traceback_can_be_asked_for(installation):
    done = installation.manage("load_records", "--traceback")
    assert done.returncode == 1 and "Traceback" in done.stderr
