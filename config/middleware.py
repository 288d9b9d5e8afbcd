"""Who asks on the API: the owner of a token; and its problems."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from config.rest import Problem, problem_response
from readers import tokens

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
