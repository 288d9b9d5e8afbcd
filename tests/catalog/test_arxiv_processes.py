"""Several processes ask arXiv: the server counts the gaps between their requests, on SQLite and on PostgreSQL."""

import subprocess
import sys
from itertools import pairwise

import psycopg
import pytest

from tests.catalog.arxiv_server import Paper, serve
from tests.installation import ROOT, Installation
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("postgres")
GAP_S = 0.5


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path) -> dict[str, str]:
    """The environment that names an empty database."""
    if request.param == "sqlite":
        return {}
    url = request.getfixturevalue("postgres_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS arxiv_gaps")
        connection.execute("CREATE DATABASE arxiv_gaps")
    head, _, tail = url.partition("?")
    return {"DATABASE_URL": f"{head.rpartition('/')[0]}/arxiv_gaps" + (f"?{tail}" if tail else "")}


def test_the_gap_holds_over_processes_and_a_403_stops_them_all(tmp_path, database):
    with serve() as arxiv:
        arxiv.papers |= {f"2401.0000{i}": Paper(f"Paper {i}") for i in range(6)}
        site = Installation(tmp_path, ARXIV_GAP_S=str(GAP_S), **arxiv.environment, **database)
        migrated = site.manage("migrate")
        assert migrated.returncode == 0, migrated.stderr

        def start(*words: str) -> subprocess.Popen:
            command = [sys.executable, "manage.py", "sync_arxiv", *words]
            return subprocess.Popen(
                command, cwd=ROOT, env=site.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )

        running = [start("--add", f"2401.0000{i}", f"2401.0000{i + 1}") for i in (0, 2, 4)]
        for process in running:
            out, err = process.communicate(timeout=allowed(120))
            assert process.returncode == 0, err
            assert "asked for 2; 2 updated" in out
        seen = sorted(arxiv.seen, key=lambda one: one.began)
        assert len(seen) == 9, "each process asked once for its two papers and once for each licence"
        gaps = [after.began - before.ended for before, after in pairwise(seen)]
        assert min(gaps) >= GAP_S, gaps

        arxiv.papers["2401.00008"] = Paper("Paper 8")
        for process in [start("--add", "2401.00008") for _ in range(2)]:
            out, err = process.communicate(timeout=allowed(120))
            assert process.returncode == 0 and "Traceback" not in err, err
        assert len(arxiv.seen) == 11, "both asked for the same, so arXiv was asked once"

        arxiv.faults = [(403, "")]
        arxiv.papers["2401.00009"] = Paper("Paper 9")
        stopped = [start("--add", "2401.00009", *more) for more in ([], ["2401.00001"], ["2401.00002"])]
        for process in stopped:
            _, err = process.communicate(timeout=allowed(120))
            assert process.returncode == 1
            assert "nothing is fetched from arXiv until" in err and "Traceback" not in err
        assert len(arxiv.seen) == 12, "one was refused, the others did not ask"
