"""The database's time: what it is, that nothing else is compared, and what a jump of it does."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config import clock
from jobs import node as nodes
from jobs import sweep as sweeping
from jobs.models import Job, Node
from tests.jobs import script
from tests.waiting import allowed

ROOT = Path(__file__).resolve().parent.parent
TOLD = ("backup", "security_txt.py")  # the time is told to people, or names a file
APPS = ("catalog", "config", "exports", "jobs", "readers")
MACHINES = r"timezone\.now|datetime\.now|utcnow|localdate|date\.today|(?<!date)time\.time(_ns)?\(|\bexpires="


class Stopped(BaseException):
    """Ends a loop that runs for as long as its process."""


def test_it_is_about_now(db):
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=allowed(5))


def test_nothing_asks_the_machines_clock_for_a_decision():
    """Ages of files lie on one machine's disk."""
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for app in APPS
        for path in (ROOT / app).rglob("*.py")
        if not {"migrations", *TOLD} & set(path.parts)
        for line in path.read_text().splitlines()
        if re.search(MACHINES, line) and "mtime" not in line
    }
    assert not found


def node(age_s: float, name: str = "n") -> Node:
    at = clock.now() - timedelta(seconds=age_s)
    return Node.objects.create(
        name=name, host="h", pid=1, device="cpu", device_name="c", offers=[], started_at=at, heartbeat_at=at
    )


@pytest.mark.django_db
def test_a_heartbeat_of_the_future_tells_of_no_life():
    """It was written before the clock was put back."""
    for name, age_s in (("live", 3), ("silent", 31), ("future", -600)):
        node(age_s, name)
    assert [one.name for one in Node.objects.live()] == ["live"]


def rounds(monkeypatch, *jumps_s: float) -> None:
    """Sweep once after each of these jumps of the database's clock."""
    shift, left, real = [0.0], list(jumps_s), clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(seconds=shift[0]))

    def sleep(seconds: float) -> None:
        if not left:
            raise Stopped
        shift[0] += left.pop(0)

    monkeypatch.setattr(sweeping.time, "sleep", sleep)
    with pytest.raises(Stopped):
        sweeping.keep_sweeping()


def running() -> Job:
    now = clock.now()
    return Job.objects.create(
        kind="script", device="cpu", requires="well", time_limit_s=60, status="running", attempt=1, started_at=now,
        heartbeat_at=now,
    )  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("jump_s", [600, -600, 2 * 86400])
def test_a_jump_of_the_databases_clock_makes_nobody_lost(monkeypatch, settings, jump_s):
    """As on a machine that slept: everybody may speak again first."""
    settings.JOB_KINDS = {"script": script.__name__}
    job, heard = running(), node(0)
    rounds(monkeypatch, 0, jump_s)
    job.refresh_from_db()
    assert (job.status, job.losses) == ("running", 0) and Node.objects.filter(pk=heard.pk).exists()


@pytest.mark.django_db
def test_silence_without_a_jump_is_lost(monkeypatch, settings):
    settings.JOB_KINDS = {"script": script.__name__}
    job = running()
    Job.objects.update(heartbeat_at=clock.now() - timedelta(seconds=31))
    rounds(monkeypatch, 0)
    job.refresh_from_db()
    assert (job.status, job.losses) == ("queued", 1)


@pytest.mark.django_db
def test_a_node_that_was_forgotten_joins_again(monkeypatch):
    """It was silent for a day, as on a machine that slept."""
    slept = node(2 * 86400)
    Node.objects.all().delete()

    def sleep(seconds: float) -> None:
        raise Stopped

    monkeypatch.setattr(nodes.time, "sleep", sleep)
    with pytest.raises(Stopped):
        nodes.heartbeats(slept)
    assert [one.name for one in Node.objects.live()] == ["n"]


def test_the_control_command_needs_no_clock_of_celery():
    code = "from config.celery import app; print(dict(app.conf.beat_schedule or {}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "{}", done.stderr
