"""Clients that hold connections and say nothing more: the site answers everybody else."""

import contextlib
import re
import socket
import sys
import time
from pathlib import Path

import pytest

from config.serve import CONNECTIONS, limits
from tests.installation import Installation, eventually
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("slow")
LOGIN = b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\nabc"
HALF = {
    "nothing": b"",
    "half a header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-",
    "half a body": LOGIN,
    "answers that nobody reads": b"GET /kernels/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 4,
}
LARGE = "GET /export/csl-json/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A web server as a shell with the usual limit of 1024 open files starts it."""
    made = Installation(tmp_path_factory.mktemp("slow"))
    for command in ("migrate", "load_catalog", "sync_reproductions"):
        assert made.manage(command).returncode == 0
    serve = [sys.executable, "-m", "config.serve", f"--listen=127.0.0.1:{made.port}"]
    made.start("sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh", *serve, log="web")
    eventually(lambda: made.status("/") == 200, "the web server answers", 60)
    yield made
    made.stop()


@contextlib.contextmanager
def held(site: Installation, count: int, says: bytes):
    """So many connections that have said this, and read nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            made = stack.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.settimeout(allowed(10))
            made.connect(("127.0.0.1", site.port))
            made.sendall(says)
        yield


@pytest.mark.parametrize("kind", HALF)
def test_the_site_answers_beside_300_slow_clients(site, kind):
    with held(site, 40 if "answers" in kind else 300, HALF[kind]):
        for path in ("/health/live", "/", "/papers/flashattention/"):
            began = time.monotonic()
            assert site.status(path) == 200
            assert time.monotonic() - began < allowed(10), f"{path}: {kind}"


def test_a_large_answer_that_is_read_slowly_holds_no_thread(site):
    with held(site, 40, LARGE.encode()):
        began = time.monotonic()
        assert site.status("/") == 200
        assert time.monotonic() - began < allowed(20)


def test_a_process_may_open_as_many_files_as_it_needs(site):
    found = re.search(r"Max open files\s+(\d+)", Path(f"/proc/{site.processes[-1].pid}/limits").read_text())
    assert int(found.group(1)) > 1024


@pytest.mark.parametrize(("files", "connections"), [(256, 28), (1024, 412), (10**6, CONNECTIONS), (20, 10)])
def test_fewer_files_mean_fewer_connections(files, connections):
    assert limits(files)["connection_limit"] == connections
