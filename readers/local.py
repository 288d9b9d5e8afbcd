"""The local operator: a browser that opened the address which `manage.py up` printed.

The address holds a secret that is new at each start and known to the web server alone; it is exchanged for a cookie. So
the right follows from something that the browser has, never from where a request seems to come from: a proxy on the
same machine makes every visitor look local.
"""

import hashlib
import hmac
import os

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.utils.crypto import constant_time_compare

from config.http import is_loopback

NAME = "local operator"


def cookie_name() -> str:
    """Another one for each data folder, since browsers send a cookie to every port of a host."""
    return f"claimcheck-{hashlib.sha256(os.fsencode(settings.DATA_DIR)).hexdigest()[:12]}"


def cookie_value() -> str:
    """Derive the cookie from the secret. The cookie does not reveal the secret, and so not the address."""
    return hmac.new(settings.LOCAL_SECRET.encode(), b"cookie", hashlib.sha256).hexdigest()


def opens(request: HttpRequest, secret: str) -> bool:
    """Whether this secret, asked for by a loopback name, makes the browser the local operator's."""
    return bool(settings.LOCAL_SECRET) and _loopback(request) and constant_time_compare(secret, settings.LOCAL_SECRET)


def is_operator(request: HttpRequest) -> bool:
    """Whether the request has the cookie, and asked for a loopback name."""
    found = request.COOKIES.get(cookie_name(), "")
    return bool(settings.LOCAL_SECRET) and _loopback(request) and constant_time_compare(found, cookie_value())


def _loopback(request: HttpRequest) -> bool:
    return is_loopback(split_domain_port(request.get_host())[0])
