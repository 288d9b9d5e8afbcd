"""Honest health: each part is asked, none is assumed."""

from typing import NamedTuple

import redis
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from jobs.models import Job, Node, Pulse

SILENT_SWEEPS = 4  # a sweep that was not seen for so many periods is gone


class Part(NamedTuple):
    """One thing that must work; `detail` says what was seen."""

    name: str
    ok: bool
    detail: str


def check() -> list[Part]:
    """The database, Redis, the workers and the queue, as they are now."""
    try:
        nodes, waiting = (
            list(Node.objects.live().exclude(device="control")),
            Job.objects.filter(status=Job.Status.QUEUED),
        )
        oldest, count = waiting.order_by("queued_at").first(), waiting.count()
        swept = Pulse.objects.filter(name="sweep").first()
    except DatabaseError as error:
        return [Part("database", False, str(error)), _redis()]
    now = timezone.now()
    age = int((now - oldest.queued_at).total_seconds()) if oldest else 0
    silent = int((now - swept.at).total_seconds()) if swept else None
    return [
        Part("database", True, settings.DATABASES["default"]["ENGINE"].rpartition(".")[2]),
        _redis(),
        Part(
            "sweep",
            silent is not None and silent < SILENT_SWEEPS * settings.SWEEP_S,
            "never yet: is manage.py control running?" if silent is None else f"last {silent} s ago",
        ),
        Part("workers", bool(nodes), ", ".join(f"{n.name} ({n.device_name})" for n in nodes) or "none is heard"),
        Part("queue", age < 3600, f"{count} waiting, the oldest for {age} s" if count else "empty"),
    ]


def _redis() -> Part:
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
