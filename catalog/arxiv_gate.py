"""Whose turn it is to ask arXiv: one request at a time over all processes, a pause after each, none after a 403.

All of it is one row of the database, changed by conditional updates, so it holds for every process and machine of an
installation and survives restarts. Its times are the database's.
"""

import contextlib
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from catalog.models import ArxivGate
from config import clock

LEASE_S = 180  # longer than any request may take; a holder that died is passed over after it
FROZEN_FOR = timedelta(days=1)
POLL_S = 0.2


class ArxivFailed(Exception):
    """arXiv did not give what was asked; the message is one line for people."""


class Frozen(ArxivFailed):
    """arXiv refused (403), so nothing is fetched for a day."""


class Busy(ArxivFailed):
    """The turn did not come in time."""


@dataclass
class Turn:
    """Permission for one request; `pause_s` is how long everybody waits after it."""

    token: str
    pause_s: float


@contextlib.contextmanager
def turn(pause_s: float, patience_s: float) -> Iterator[Turn]:
    """Wait for the turn, hold it, then let others wait for `pause_s`. Never inside a transaction: others must see it.

    The pause counts from the end of a request, so that arXiv itself never sees two closer together. Frozen or Busy if
    the turn cannot come within `patience_s`.
    """
    held = Turn(_take(patience_s), pause_s)
    try:
        yield held
    finally:
        free_at = clock.now() + timedelta(seconds=held.pause_s)
        ArxivGate.objects.filter(pk=1, holder=held.token).update(holder="", free_at=free_at)


def _take(patience_s: float) -> str:
    token = secrets.token_hex(8)
    deadline = time.monotonic() + patience_s
    ArxivGate.objects.get_or_create(pk=1)
    while True:
        now = clock.now()
        check_frozen()
        open_now = ArxivGate.objects.filter(pk=1, free_at__lte=now).exclude(frozen_until__gt=now)
        if open_now.update(holder=token, free_at=now + timedelta(seconds=LEASE_S)):
            return token
        gate = ArxivGate.objects.get(pk=1)
        wait_s = POLL_S if gate.holder else max(0.0, (gate.free_at - clock.now()).total_seconds())
        if time.monotonic() + wait_s > deadline:
            if gate.holder:
                raise Busy("another request to arXiv is under way; try again in a moment")
            raise Busy(f"arXiv is not asked again before {_clock(gate.free_at)}; try again then")
        time.sleep(min(wait_s, 1.0) + random.uniform(0, 0.05))


def check_frozen() -> None:
    """Frozen, with until when and why, if a 403 stopped all fetching."""
    gate = ArxivGate.objects.filter(pk=1, frozen_until__gt=clock.now()).first()
    if gate:
        raise Frozen(f"{gate.reason}; nothing is fetched from arXiv until {_clock(gate.frozen_until)}")


def freeze(reason: str) -> None:
    """Stop all fetching for a day."""
    ArxivGate.objects.filter(pk=1).update(frozen_until=clock.now() + FROZEN_FOR, reason=reason[:300])


def _clock(at) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
