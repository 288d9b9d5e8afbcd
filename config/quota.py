"""How much one account may keep. Counted and written while its row is held, so that two at once do not exceed.

On SQLite every transaction that writes has the whole database to itself, which does the same.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction


class Full(Exception):
    """An account that has as many as one may have; the message says of what, how many, and what to do."""


@contextlib.contextmanager
def held(user: Any) -> Iterator[None]:
    """Nobody else counts for this account until what is written here is there."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # rows that refer to it may be written meanwhile
        yield


def check(have: int, most: int, what: str, then: str, more: int = 1) -> None:
    """Full if `more` of them would be too many."""
    if have + more > most:
        raise Full(f"you have {have:,} {what}, as many as one may have: {then}")
