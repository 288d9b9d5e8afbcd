"""What operators see of people: who is signed in, and how much of their quotas they have used."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import Count, Q
from django.utils.dateparse import parse_datetime

from config import clock
from jobs import services
from jobs.models import Job
from readers import brake


@dataclass(frozen=True)
class SignedIn:
    """A session as operators see it; `handle` names it and opens nothing."""

    handle: str
    user: User
    since: datetime | None
    address: str
    ends_at: datetime


def _handle(session: Session) -> str:
    return hashlib.sha256(session.session_key.encode()).hexdigest()[:24]


def sessions() -> list[SignedIn]:
    """Sessions in which somebody is signed in, the newest first. What they hold is packed, so all are opened."""
    packed = [(session, session.get_decoded()) for session in Session.objects.filter(expire_date__gt=clock.now())]
    users = User.objects.in_bulk([data[SESSION_KEY] for _, data in packed if SESSION_KEY in data])
    found = [
        SignedIn(
            _handle(session),
            users[int(data[SESSION_KEY])],
            parse_datetime(data.get("since", "")),
            data.get("from", ""),
            session.expire_date,
        )
        for session, data in packed
        if _opens(data, users.get(int(data.get(SESSION_KEY, 0))))
    ]
    return sorted(found, key=lambda one: one.ends_at, reverse=True)


def _opens(data: dict[str, Any], user: User | None) -> bool:
    """Whether a session still lets its account in: not one that was closed, nor after its password was changed."""
    known = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()] if user else []
    return bool(user and user.is_active) and data.get(HASH_SESSION_KEY) in known


def end_session(handle: str) -> str | None:
    """End it; whose it was, or None if there is no such session."""
    for session in Session.objects.filter(expire_date__gt=clock.now()):
        if _handle(session) == handle:
            user = User.objects.filter(pk=session.get_decoded().get(SESSION_KEY, 0)).first()
            session.delete()
            return user.get_username() if user else "nobody"
    return None


def waiting() -> list[dict[str, Any]]:
    """Who had something wrong in the last hour, from where, and how long they have to wait for it; tokens, links and
    keys as one row a kind and address.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row, seconds in brake.counted():
        kind, _, secret = row.username.partition(": ")
        unknown = kind.startswith("unknown ")
        what = f"a {kind}" if secret else "a name that no account has" if unknown else ""
        first = {"name": "" if what else row.username, "what": what, "address": row.ip_address, "wrong": 0,
                 "at": row.attempt_time, "wait": brake.told(seconds) if seconds else ""}  # fmt: skip
        shown = found.setdefault((what or row.username, row.ip_address), first)
        shown["wrong"] += row.failures_since_start
    return list(found.values())


def quotas() -> list[dict[str, Any]]:
    """For everybody who has asked for something in the last day: what waits, what was asked for, and the limits."""
    waiting, charged = Q(status=Job.Status.QUEUED), services.charges()
    counted = {"waiting": Count("pk", filter=waiting), "today": Count("pk", filter=charged)}
    counts = Job.objects.filter(waiting | charged).order_by().values("user").annotate(**counted)
    users = User.objects.in_bulk([row["user"] for row in counts if row["user"]])
    limits = {"may_wait": settings.WAITING_RUNS_PER_USER, "may_ask": settings.RUNS_PER_USER_A_DAY}
    rows = [row | limits | {"user": users[row["user"]]} for row in counts if row["user"] in users]
    return sorted(rows, key=lambda row: row["user"].username)
