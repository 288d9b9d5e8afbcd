"""The search's tests again, on a real PostgreSQL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("postgres")


def test_search_is_the_same_on_postgresql(postgres_url):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "tests/catalog/test_search.py"],
        env=os.environ | {"TEST_DATABASE_URL": postgres_url},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " skipped" not in done.stdout
