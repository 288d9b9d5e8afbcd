"""What is seen of each request: how long it took, by the name of its route, and in JSON logs a line of its own."""

import logging
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject, empty
from prometheus_client import Histogram

from config import logs

logger = logging.getLogger(__name__)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REQUEST_SECONDS = Histogram(
    "claimcheck_request_duration_seconds",
    "How long this web process took to answer, by the route's name, the method and the class of the status.",
    ["route", "method", "status"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    registry=None,
)


def observed(get_response: Callable) -> Callable:
    """Give each request an id, which its answer and all that is logged meanwhile carry; measure it, and log it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        number, began = uuid.uuid4().hex, time.monotonic()
        logs.begin(request_id=number)  # Django logs a refusal after this middleware
        response = get_response(request)
        seconds, route = time.monotonic() - began, route_of(request)
        method = request.method if request.method in METHODS else "other"
        status = response.status_code
        REQUEST_SECONDS.labels(route, method, f"{status // 100}xx").observe(seconds)
        fields = {"method": method, "route": route, "path": logs.without_secrets(request.path), "status": status}
        more = {"ms": round(seconds * 1000, 1), "user_id": _user_id(request)}
        logger.info("%s %s: %s", method, route, status, extra=fields | more)
        response["X-Request-ID"] = number
        return response

    return middleware


def route_of(request: HttpRequest) -> str:
    """The route's name, of which there are so many and no more, whatever is asked for."""
    if request.resolver_match:
        return request.resolver_match.view_name
    return "static" if request.path.startswith(settings.STATIC_URL) else "none"


def _user_id(request: HttpRequest) -> int | None:
    """Who asked, if the request has found out; nothing is read for the log."""
    user = getattr(request, "user", None)
    return None if isinstance(user, LazyObject) and user._wrapped is empty else getattr(user, "pk", None)
