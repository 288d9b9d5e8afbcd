"""Runs while everything around them dies: none is lost, stuck, or carried out twice; nothing is left over.

CHAOS_RUNS=200 CHAOS_ON=postgresql python -m pytest -s tests/site/test_chaos.py is the long form; it prints the table
of docs/operations.md. On PostgreSQL a worker's clock is set wrong too: on SQLite all processes share one.
"""

import os
import random
import time
from collections import Counter

import pytest

from tests.installation import eventually, new_database
from tests.site.chaos import Misfortunes, Site
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("chaos")
FINAL = ("finished", "failed", "cancelled")
RUNS = int(os.environ.get("CHAOS_RUNS", 12))
ON = os.environ.get("CHAOS_ON", "sqlite")


@pytest.fixture
def place(request):
    """(database, library of the wrong clock) for the database that CHAOS_ON names."""
    if ON == "sqlite":
        return "", ""
    assert ON == "postgresql", f"CHAOS_ON: expected sqlite or postgresql, got {ON}"
    return new_database(request.getfixturevalue("postgres_url")), str(request.getfixturevalue("wrong_clock"))


def seconds_until(look, what: str, limit: float) -> float:
    """How long it took until `look` was true."""
    began = time.monotonic()
    eventually(look, what, limit)
    return time.monotonic() - began


def consumed_after_redis(site: Site) -> float:
    """Seconds from the return of an empty Redis until a worker takes a run that was asked for meanwhile."""
    site.running["redis"].kill()
    site.running["redis"].wait()
    (pk,) = site.submit_runs(1)
    site.keep_up()
    return seconds_until(lambda: site.job(pk)[1] != "queued", "the run is taken", 30)


def noticed_dead(site: Site) -> float:
    """Seconds from a worker's death, which nobody starts again, until its run is in other hands."""
    (pk,) = site.submit_runs(1, repeats=300)
    eventually(lambda: site.job(pk)[1] == "running", "the run runs", 60)
    site.running[site.holder(pk)].kill()
    took = seconds_until(lambda: site.job(pk)[4] > 1, "the run is taken back", 60)
    site.keep_up()
    return took


def endure(site: Site, misfortunes: Misfortunes) -> float:
    """A misfortune each second, as many as there are runs, until every run has ended; the seconds that it took."""
    began, deadline = time.monotonic(), time.monotonic() + allowed(240 + 30 * RUNS)
    while any(job[1] not in FINAL for job in site.jobs()):
        assert time.monotonic() < deadline, site.jobs()
        if misfortunes.done.total() < max(RUNS, len(misfortunes.kinds)):
            misfortunes.one()
        time.sleep(1)
        misfortunes.end()
        site.keep_up()
    misfortunes.end(now=True)
    return time.monotonic() - began


def test_nothing_is_lost_stuck_or_done_twice(tmp_path, place, capsys):
    database, clock = place
    site = Site(tmp_path, database=database)
    try:
        for command in ("migrate", "load_catalog", "sync_reproductions"):
            assert site.manage(command).returncode == 0
        misfortunes = Misfortunes(site, random.Random(1), clock)
        site.keep_up()
        eventually(lambda: site.status("/health/") == 200, "everything is well", 90)
        submitted = site.submit_runs(RUNS)
        took = endure(site, misfortunes)
        eventually(lambda: not site.children_of_runs(), "no child is left", 40)
        jobs = site.jobs()
        eventually(lambda: site.status("/health/") == 200, "everything is well again", 90)
        redis_s, dead_s = consumed_after_redis(site), noticed_dead(site)
        eventually(lambda: all(job[1] in FINAL for job in site.jobs()), "the last runs end", 120)
        twice = [job for job, times in site.finished_in_logs().items() if times > 1]
    finally:
        site.stop()
    ends = Counter(job[1] for job in jobs)
    unexplained = [job for job in jobs if job[1] == "failed" and not (job[2] and job[3])]
    table = {
        "runs": RUNS,
        "seconds": round(took),
        **{f"ended {status}": count for status, count in ends.items()},
        "failed with": dict(Counter(job[2] for job in jobs if job[2])),
        "attempts": sum(job[4] for job in jobs),
        "misfortunes": dict(misfortunes.done),
        "runs lost": len(set(submitted) - {job[0] for job in jobs}),
        "runs not final": sum(job[1] not in FINAL for job in jobs),
        "runs finished twice": len(twice),
        "failed without a reason": len(unexplained),
        "processes left over": len(site.living()),
        "s until consumed after Redis came back": round(redis_s, 1),
        "s until a dead worker's run was taken back": round(dead_s, 1),
    }
    with capsys.disabled():
        print("\n" + "\n".join(f"| {name} | {value} |" for name, value in table.items()))
    assert len(jobs) == RUNS == len(submitted) and not twice and not unexplained
    assert ends["finished"] > 0 and not site.living()
