"""What apps share about requests: what our middleware adds to them, for the type checker; names of this machine."""

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
