"""Who asks: the owner of an API token, or, on the embedded default, whoever sits at this machine."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse

from config.rest import Problem, problem_response
from readers import tokens

LOCAL_NAME = "local operator"
LOOPBACK = ("127.0.0.1", "::1")
FORWARDING = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP")
API = "/api/"


def bearer_token(get_response: Callable) -> Callable:
    """On the API, the header `Authorization: Bearer TOKEN` makes a request its owner's, whatever its cookies say."""

    def middleware(request: Any) -> HttpResponse:
        request.scope, request.bad_token = "", False
        header = request.headers.get("Authorization")
        if header is not None and request.path.startswith(API):
            scheme, _, text = header.partition(" ")
            token = tokens.find(text.strip()) if scheme.lower() == "bearer" else None
            request.bad_token = token is None
            if token:
                request.user, request.scope = token.user, token.scope
        return get_response(request)

    return middleware


def api_problems(get_response: Callable) -> Callable:
    """On the API, what django-ninja or Django refuse by themselves (another method, another host) is a problem too."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        known = response.status_code < 400 or response["Content-Type"] == "application/problem+json"
        if known or not request.path.startswith(API):
            return response
        allowed = response.get("Allow", "")
        detail = f"expected one of {allowed}, got {request.method}" if allowed else "the request was refused"
        answer = problem_response(request, Problem(response.status_code, detail))
        if allowed:
            answer["Allow"] = allowed
        return answer

    return middleware


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
