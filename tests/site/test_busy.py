"""Many workers and many readers at once on SQLite: nobody is told that the database is locked.

BUSY_S=120 BUSY_WORKERS=8 BUSY_READERS=50 python -m pytest -s tests/site/test_busy.py is the long form.
"""

import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter

import pytest

from tests.installation import eventually
from tests.site.chaos import Site
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("chaos")
SECONDS = int(os.environ.get("BUSY_S", 15))
WORKERS = int(os.environ.get("BUSY_WORKERS", 4))
READERS = int(os.environ.get("BUSY_READERS", 20))
PAGES = ("/", "/?q=attention", "/runs/", "/claims/", "/papers/online-softmax/", "/nodes/", "/api/v1/runs", "/runs/1/")


def read(site: Site, until: float, first: int, answers: Counter) -> None:
    """One reader, going round the pages."""
    at = first
    while time.monotonic() < until:
        at += 1
        try:
            with urllib.request.urlopen(site.url + PAGES[at % len(PAGES)], timeout=allowed(60)) as response:
                response.read()
                answers[response.status] += 1
        except urllib.error.HTTPError as error:
            answers[error.code] += 1


def test_nobody_meets_a_locked_database(tmp_path, capsys):
    site, answers = Site(tmp_path, workers=[f"w{i}" for i in range(WORKERS)]), Counter()
    try:
        for command in ("migrate", "load_catalog", "sync_reproductions"):
            assert site.manage(command).returncode == 0
        site.keep_up()
        eventually(lambda: site.status("/health/") == 200, "everything is well", 120)
        site.submit_runs(min(SECONDS * WORKERS, 150), repeats=5)
        until = time.monotonic() + SECONDS
        readers = [threading.Thread(target=read, args=[site, until, i, answers]) for i in range(READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        ended = Counter(job[1] for job in site.jobs())
        logs = "".join(path.read_text(errors="replace") for path in site.data.glob("*-*.txt"))
    finally:
        site.stop()
    with capsys.disabled():
        print(f"\nbusy: {WORKERS} workers, {READERS} readers, {SECONDS} s: answers {dict(answers)}, runs {dict(ended)}")
    assert "database is locked" not in logs and "Traceback" not in logs, logs[-3000:]
    assert set(answers) == {200} and answers[200] > READERS
    assert not ended["failed"]
