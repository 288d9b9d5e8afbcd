"""What apps share about requests: what our middleware adds to them, for the type checker; numbers and names in them."""

import ipaddress

from django.contrib.auth.models import User
from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails


class HtmxRequest(HttpRequest):
    """Any request: django-htmx says whether htmx sent it."""

    htmx: HtmxDetails


class UserRequest(HttpRequest):
    """A request behind `login_required`."""

    user: User


def is_loopback(host: str) -> bool:
    """Whether a name or an address, without its port, means this machine itself and is heard by no other."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def whole_number(text: str, low: int = 0, high: int = 2**31 - 1) -> int | None:
    """The number that digits mean; None for any other text, and for a number below `low` or above `high`.

    The one reader of whole numbers that somebody else wrote: `isdigit` alone lets "²" and five thousand digits through,
    which `int` refuses.
    """
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return None
    return number if low <= (number := int(digits)) <= high else None
