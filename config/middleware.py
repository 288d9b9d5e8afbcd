"""The local operator: on the embedded default, whoever sits at this machine works without signing in."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse

LOCAL_NAME = "local operator"
LOOPBACK = ("127.0.0.1", "::1")
FORWARDING = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP")


def local_operator(get_response: Callable) -> Callable:
    """Make a request from this machine itself the local operator's; one that was forwarded must sign in."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if settings.LOCAL_OPERATOR and not request.user.is_authenticated and is_local(request):
            user, _ = get_user_model().objects.get_or_create(
                username=LOCAL_NAME, defaults={"is_staff": True, "is_superuser": True, "password": "!"}
            )
            request.user = user
        return get_response(request)

    return middleware


def is_local(request: HttpRequest) -> bool:
    """Whether the request comes from this machine, through no proxy."""
    return request.META.get("REMOTE_ADDR") in LOOPBACK and not any(name in request.META for name in FORWARDING)
