"""The audit log: who did what, when, from which address, to what, and what came of it. Rows are only ever added."""

import getpass
import os
from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest

from config import client, clock
from config.audit import REFUSED
from config.logs import without_secrets
from config.text import HIDDEN
from readers.models import AuditRecord

SAID_AGAIN_AFTER = timedelta(minutes=1)


def write(request: HttpRequest | None, act: str, about: str, outcome: str, who: str) -> None:
    """Add a row. The same refusal is noted once a minute: whoever is refused must not be able to fill the disk."""
    values = {
        "who": _plain(who or _who(request), 150),
        "address": client.address(request) if request else None,
        "act": act,
        "about": _plain(about, 200),
        "outcome": outcome,
    }
    now = clock.now()
    again = AuditRecord.objects.filter(**values, at__gt=now - SAID_AGAIN_AFTER)
    if outcome != REFUSED or not again.exists():
        AuditRecord.objects.create(at=now, **values)


def _who(request: HttpRequest | None) -> str:
    """The account's name; of a command, the account of the machine that typed it."""
    if request is not None:
        return request.user.get_username()
    try:
        return f"command line: {getpass.getuser()}"
    except (KeyError, OSError):  # a container may run as a number without a name
        return f"command line: {os.getuid()}"


def _plain(text: str, length: int) -> str:
    text = HIDDEN.sub("\ufffd", " ".join(without_secrets(text).split()))
    return text if len(text) <= length else f"{text[: length - 1]}…"


def too_old() -> QuerySet[AuditRecord]:
    """Rows past AUDIT_DAYS."""
    return AuditRecord.objects.filter(at__lt=clock.now() - timedelta(days=settings.AUDIT_DAYS))
