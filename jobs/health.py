"""Honest health: each part is asked, none is assumed."""

from typing import NamedTuple

import redis
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from jobs.models import Job, Node


class Part(NamedTuple):
    """One thing that must work; `detail` says what was seen."""

    name: str
    ok: bool
    detail: str


def check() -> list[Part]:
    """The database, Redis, the workers and the queue, as they are now."""
    try:
        nodes, waiting = list(Node.objects.live()), Job.objects.waiting().first()
        count = Job.objects.waiting().count()
    except DatabaseError as error:
        return [Part("database", False, str(error)), _redis()]
    age = int((timezone.now() - waiting.queued_at).total_seconds()) if waiting else 0
    return [
        Part("database", True, settings.DATABASES["default"]["ENGINE"].rpartition(".")[2]),
        _redis(),
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
