"""Honest health: each part is asked, none is assumed."""

import shutil
from typing import NamedTuple

import redis
from django.conf import settings
from django.db import DatabaseError

from config import clock
from jobs.disk import trouble
from jobs.models import Job, Node, Pulse

SILENT_SWEEPS = 4  # a sweep that was not seen for so many periods is gone


class Part(NamedTuple):
    """One thing that must work; `detail` says what was seen."""

    name: str
    ok: bool
    detail: str


def check() -> list[Part]:
    """The database, Redis, the disk, the workers and the queue, as they are now."""
    try:
        nodes = list(Node.objects.live())
        waiting = list(Job.objects.filter(status=Job.Status.QUEUED).order_by("queued_at"))
        swept = Pulse.objects.filter(name="sweep").first()
    except DatabaseError as error:
        return [Part("database", False, str(error)), redis_part(), _disk()]
    silent = int((clock.now() - swept.at).total_seconds()) if swept else None
    return [
        Part("database", True, settings.DATABASES["default"]["ENGINE"].rpartition(".")[2]),
        redis_part(),
        _disk(),
        Part(
            "sweep",
            silent is not None and abs(silent) < SILENT_SWEEPS * settings.SWEEP_S,
            "never yet: is manage.py control running?" if silent is None else f"last {silent} s ago",
        ),
        _workers([node for node in nodes if node.device != "control"]),
        _queue(waiting, nodes),
    ]


def _disk() -> Part:
    said = trouble()
    free = shutil.disk_usage(settings.DATA_DIR).free / 2**30
    return Part("disk", not said, said or f"{free:,.1f} GiB are free; a node needs {settings.FREE_DISK_MIB} MiB")


def _workers(nodes: list[Node]) -> Part:
    """One must take jobs: a node in trouble, or drained, is heard and does nothing."""

    def state(node: Node) -> str:
        return f", {node.trouble}" if node.trouble else ", drained" if node.draining else ""

    takes = any(not state(node) for node in nodes)
    return Part("workers", takes, ", ".join(f"{n.name} ({n.device_name}{state(n)})" for n in nodes) or "none is heard")


def _queue(waiting: list[Job], nodes: list[Node]) -> Part:
    """Each job that waits must have a node that could take it, and none waits for an hour."""
    if not waiting:
        return Part("queue", True, "empty")
    age = int((clock.now() - waiting[0].queued_at).total_seconds())
    said = f"{len(waiting)} waiting, the oldest for {age} s"
    able = [node for node in nodes if not node.trouble and not node.draining]
    stuck = [job for job in waiting if not any(node.can_run(job) for node in able)]
    if stuck:
        said += f"; {len(stuck)} of them no connected node could take, such as job {stuck[0].pk}"
    return Part("queue", age < 3600 and not stuck, said)


def redis_part() -> Part:
    """Redis, which is asked."""
    address = settings.REDIS_URL.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
    try:
        redis.Redis.from_url(address, socket_connect_timeout=1, socket_timeout=1).ping()
    except redis.RedisError as error:
        return Part("Redis", False, str(error))
    return Part("Redis", True, "answers")


def ready() -> bool:
    """Whether this process can serve: the database answers. Workers and Redis may come later, pages say so."""
    try:
        return Node.objects.exists() in (True, False)
    except DatabaseError:
        return False
