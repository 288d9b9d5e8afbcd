"""The benchmark of the search: it measures in a database of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "manage.py", "bench_search", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"DATA_DIR": str(folder)}, capture_output=True, text=True)


def test_it_measures_and_leaves_nothing(tmp_path):
    done = bench(tmp_path, "--works", "300", "--queries", "30")
    assert done.returncode == 0, done.stderr
    assert re.search(r"sqlite, 300 works, 30 queries: p50 [\d.]+ ms, p95 [\d.]+ ms, most [\d.]+ ms", done.stdout)
    assert not list(tmp_path.glob("*bench*")) and not (tmp_path / "db.sqlite3").exists()


def test_too_few_works_are_refused_in_one_line(tmp_path):
    done = bench(tmp_path, "--works", "3")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "at least 76" in done.stderr
