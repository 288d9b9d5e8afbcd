"""A machine joins as a node: what it offers, its row, its heartbeat."""

import contextlib
import json
import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time

from celery import current_app
from celery.signals import setup_logging, worker_ready, worker_shutting_down
from django.conf import settings
from django.db import IntegrityError, connection

from config import clock
from jobs import groups, supervise
from jobs.disk import trouble
from jobs.models import Node
from jobs.sweep import end_left_overs
from jobs.wake import wake_nodes

logger = logging.getLogger(__name__)
CONTROL: dict = {
    "devices": [{"kind": "control", "name": "bundles, imports, syncs", "uuid": "", "memory_gib": 0, "capability": 0}],
    "specs": [],
    "versions": {},
    "time_factor": 1.0,  # its jobs wait for other sites more than for a core
}


MOST_MEASURED = 10.0  # a time factor above is a busy start, or for an operator to say


class CannotJoin(Exception):
    """The node cannot be registered; the message is one line."""


def given_time_factor() -> float | None:
    """The setting TIME_FACTOR; None where the node is to measure it. CannotJoin if it is no number of at least 1."""
    if not settings.TIME_FACTOR:
        return None
    with contextlib.suppress(ValueError):
        if math.isfinite(factor := float(settings.TIME_FACTOR)) and factor >= 1:
            return factor
    raise CannotJoin(f"TIME_FACTOR: expected a number of at least 1, such as 2.5, got {settings.TIME_FACTOR!r}")


def ask_node(*, measure: bool = False) -> dict:
    """Ask a child, which may import torch, for {"devices": […], "specs": […], "versions": {…}} of this machine.

    With `measure`, add "time_factor": how slow the machine is.
    """
    command = [sys.executable, "-m", "reproductions", "node", *(["--time-factor"] if measure else [])]
    asked = subprocess.run(command, capture_output=True, text=True, cwd=settings.BASE_DIR)
    if asked.returncode:
        raise CannotJoin(f"asking torch for its devices failed: {(asked.stderr.strip() or '?').splitlines()[-1]}")
    return json.loads(asked.stdout)


def register(name: str, device: str, index: int) -> Node:
    """The row of a node for one device of this machine; CannotJoin if it has no such device or the name is in use."""
    given = given_time_factor()
    offered = CONTROL if device == "control" else ask_node(measure=given is None)
    found = [d for d in offered["devices"] if d["kind"] == device]
    index = index if device == "cuda" else 0
    if index >= len(found):
        raise CannotJoin(f"expected a {device} device number {index}, but this torch offers {len(found)}")
    taken = Node.objects.live().filter(name=name, host=socket.gethostname()).first()
    if taken and taken.pid != os.getpid() and groups.started_at(taken.pid):
        raise CannotJoin(f"a node named {name} is running already (process {taken.pid}); choose another --name")
    now = clock.now()
    fields = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": device,
        "device_name": found[index]["name"],
        "device_uuid": found[index]["uuid"],
        "memory_gib": found[index]["memory_gib"],
        "capability": found[index]["capability"],
        "versions": offered["versions"],
        "offers": offered["specs"],
        "time_factor": given or min(offered["time_factor"], MOST_MEASURED),
        "trouble": trouble(),
        "started_at": now,
        "heartbeat_at": now,
    }
    if fields["device_uuid"]:  # a silent node's lease on this GPU has run out
        Node.objects.exclude(pk__in=Node.objects.live()).filter(device_uuid=fields["device_uuid"]).delete()
    try:
        return Node.objects.update_or_create(name=name, defaults=fields)[0]
    except IntegrityError:
        raise CannotJoin(f"GPU {fields['device_uuid']} is held by another node") from None


def serve(node: Node) -> None:
    """A Celery worker for this node, until SIGTERM; its job is then queued again at once."""
    end_left_overs(node.name)
    threading.Thread(target=heartbeats, args=[node], daemon=True).start()

    def stop(**kwargs) -> None:
        supervise.STOP.set()

    def begin(**kwargs) -> None:
        wake_nodes([node])

    def keep_logging(**kwargs) -> None:
        """Celery sets up no logging of its own where somebody listens."""

    setup_logging.connect(keep_logging)
    worker_shutting_down.connect(stop)
    worker_ready.connect(begin)
    arguments = ["--quiet", "worker", "--pool=threads", "--concurrency=1", f"--queues={node.queue}"]
    arguments += [f"--hostname={node.name}", "--without-gossip", "--without-mingle", "--loglevel=WARNING"]
    current_app.worker_main(arguments)


def heartbeats(node: Node) -> None:
    """Say every few seconds that the node lives; runs in a thread for as long as its process.

    One that was silent for so long that it was forgotten, as on a machine that slept, joins again.
    """
    while True:
        try:
            node.heartbeat_at, node.trouble = clock.now(), trouble()
            said = {"heartbeat_at": node.heartbeat_at, "trouble": node.trouble}
            if not Node.objects.filter(pk=node.pk).update(**said):
                node.save(force_insert=True)
        except Exception as error:  # the database may be away for a while; the node goes on
            logger.warning("heartbeat not stored: %s", error, extra={"node": node.name})
            connection.close()
        time.sleep(settings.HEARTBEAT_S)
