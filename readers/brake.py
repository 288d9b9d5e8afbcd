"""The brake on guessing: after some wrong passwords, tokens or links one waits, each time longer.

django-axes keeps the count in the database, asks before a password is looked at, and has the commands that unlock
(`manage.py axes_reset…`). Its one limit for everything would let a stranger lock an account for its owner too, so
the limits are ours:

- an account from one address waits first: whoever guesses locks himself out, nobody else;
- an address waits over all accounts, for those who try one password on many;
- an account waits over all addresses, for those who have many: briefly, and never from where it signed in lately.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.db.models import F, Max, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import salted_hmac

from config import client, clock
from config.audit import DONE
from readers.models import AuditRecord

FORGOTTEN_AFTER = timedelta(hours=1)  # without another wrong one
KNOWN_FOR = timedelta(days=60)
SECRETS = ("token", "link", "key")  # what opens without an account; rows are named "KIND: digest"


@dataclass(frozen=True)
class Limit:
    """So many wrong ones are free; then one waits `first_s`, twice that after the next, `longest_s` at most."""

    free: int
    first_s: int
    longest_s: int

    def wait_s(self, wrong: int, since_s: float) -> int:
        """Seconds to wait after so many wrong ones, the last of them `since_s` ago."""
        if wrong < self.free:
            return 0
        whole = min(self.longest_s, self.first_s * 2 ** min(wrong - self.free, 30))
        return max(0, int(whole - since_s + 0.999))


PAIR, PLACE, ACCOUNT = Limit(5, 30, 900), Limit(20, 30, 900), Limit(30, 5, 60)


def counted_name(typed: str) -> str:
    """The account's name, or a digest of what is none: people type passwords into the wrong field."""
    return typed if User.objects.filter(username=typed).exists() else f"unknown {_digest(typed)}"


def _digest(text: str) -> str:
    return salted_hmac("readers.brake", text).hexdigest()[:16]


def wait_s(request: HttpRequest, name: str) -> int:
    """Seconds until a password for this account, as `counted_name` has it, is looked at again from where this is."""
    place, now = client.place(request), clock.now()
    passwords = AccessAttempt.objects.exclude(username__contains=": ")
    waits = [_wait_s(PAIR, passwords.filter(username=name, ip_address=place), now),
             _wait_s(PLACE, passwords.filter(ip_address=place), now)]  # fmt: skip
    account = _wait_s(ACCOUNT, passwords.filter(username=name), now)
    return max(*waits, 0 if account > max(waits) and _is_known(name, place, now) else account)


def counted() -> list[tuple[Any, int]]:
    """What is counted now, the newest first, each with the seconds that are still to be waited because of it."""
    now = clock.now()
    rows = list(AccessAttempt.objects.filter(attempt_time__gt=now - FORGOTTEN_AFTER).order_by("-attempt_time"))

    def wait(limit: Limit, same: list[Any]) -> int:
        since = (now - max(one.attempt_time for one in same)).total_seconds()
        return limit.wait_s(sum(one.failures_since_start for one in same), since)

    found = []
    for row in rows:
        kind, _, secret = row.username.partition(": ")
        here = [one for one in rows if one.ip_address == row.ip_address]
        if secret:
            seconds = wait(PLACE, [one for one in here if one.username.startswith(f"{kind}: ")])
        else:
            seconds = max(
                wait(PAIR, [row]),
                wait(PLACE, [one for one in here if ": " not in one.username]),
                wait(ACCOUNT, [one for one in rows if one.username == row.username]),
            )
        found.append((row, seconds))
    return found


def secret_wait_s(request: HttpRequest, kind: str) -> int:
    """Seconds until another wrong token, link or key from where this comes from is told what it is.

    Nobody guesses 128 bits: a right one opens all the while, or one visitor could shut all others of his address out.
    """
    found = AccessAttempt.objects.filter(username__startswith=f"{kind}: ", ip_address=client.place(request))
    return _wait_s(PLACE, found, clock.now())


def _wait_s(limit: Limit, attempts: QuerySet[Any], now: datetime) -> int:
    found = attempts.filter(attempt_time__gt=now - FORGOTTEN_AFTER).aggregate(
        wrong=Sum("failures_since_start"), last=Max("attempt_time")
    )
    return limit.wait_s(found["wrong"], (now - found["last"]).total_seconds()) if found["wrong"] else 0


def _is_known(name: str, place: str, now: datetime) -> bool:
    """Whether the account signed in from there lately."""
    good = AuditRecord.objects.filter(who=name, act="sign in", outcome=DONE, at__gt=now - KNOWN_FOR)
    return any(client.place_of(address) == place for address in good.values_list("address", flat=True).distinct())


def wrong_password(request: HttpRequest, name: str) -> None:
    """Count one for this account, as `counted_name` has it, from where it came from."""
    row, made = _row(request, name)
    if not made:
        more = {"failures_since_start": F("failures_since_start") + 1, "attempt_time": clock.now()}
        AccessAttempt.objects.filter(pk=row.pk).update(**more)


def wrong_secret(request: HttpRequest, kind: str, text: str) -> bool:
    """Count one; True the first time: a program with an old token that asks again and again does not guess."""
    return _row(request, f"{kind}: {_digest(text)}")[1]


def _row(request: HttpRequest, name: str) -> tuple[Any, bool]:
    """The row of this name and place, and whether it was made now, with a count of 1. What was sent is not kept."""
    too_old().delete()
    empty = {"get_data": "", "post_data": "", "http_accept": "", "path_info": "", "failures_since_start": 1}
    row, made = AccessAttempt.objects.get_or_create(
        username=name[:255], ip_address=client.place(request), user_agent="", defaults=empty
    )
    if made:  # its time is that of the machine's clock until here
        AccessAttempt.objects.filter(pk=row.pk).update(attempt_time=clock.now())
    return row, made


def right_password(request: HttpRequest, name: str) -> None:
    """Forget what this account had wrong from here; not what others had, nor what it had from elsewhere."""
    AccessAttempt.objects.filter(username=name, ip_address=client.place(request)).delete()


def too_old() -> QuerySet[Any]:
    """Rows that count no more."""
    return AccessAttempt.objects.filter(attempt_time__lt=clock.now() - FORGOTTEN_AFTER)


class Handler(AxesDatabaseHandler):
    """What django-axes asks and tells as people sign in, by whichever form."""

    def is_locked(self, request: HttpRequest, credentials: dict | None = None) -> bool:
        """Whether to refuse before the password is looked at."""
        typed = (credentials or {}).get("username") or ""
        return wait_s(request, counted_name(typed)) > 0

    def user_login_failed(self, sender: Any, credentials: dict, request: Any = None, **kwargs: Any) -> None:
        """Count it, unless it was refused: waiting must come to an end for those who keep trying."""
        if request is None:
            return
        if request.axes_locked_out:
            request.axes_credentials = credentials
        else:
            wrong_password(request, counted_name(credentials.get("username") or ""))

    def user_logged_in(self, sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        """The wrong ones before the right one were slips."""
        right_password(request, user.get_username())

    def user_logged_out(self, sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        """Nothing follows."""


def refusal(request: HttpRequest, original: Any = None, credentials: dict | None = None) -> HttpResponse:
    """The answer in place of the form's, for django-axes: it says how long to wait."""
    return wait_page(request, wait_s(request, counted_name((credentials or {}).get("username") or "")))


def wait_page(request: HttpRequest, seconds: int) -> HttpResponse:
    """A page with status 429 that says when to try again."""
    seconds = max(1, seconds)
    answer = render(request, "registration/wait.html", {"wait": told(seconds)}, status=429)
    answer["Retry-After"] = str(seconds)
    answer["Cache-Control"] = "no-store"
    return answer


def told(seconds: int) -> str:
    """A time to wait in words."""
    number, unit = (seconds, "second") if seconds < 60 else (-(-seconds // 60), "minute")
    return f"{number} {unit}{'' if number == 1 else 's'}"
