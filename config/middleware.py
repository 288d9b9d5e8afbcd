"""Who asks on the API: the owner of a token; and its problems. What no answer holds, and which are one visitor's."""

import re
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control

from config.audit import REFUSED, WRONG, record
from config.rest import Problem, problem_response
from readers import brake, tokens
from readers.models import Token

API, METRICS = "/api/", "/metrics"  # addresses for programs


def bearer_token(get_response: Callable) -> Callable:
    """For programs, the header `Authorization: Bearer TOKEN` makes a request its owner's, whatever its cookies say."""

    def middleware(request: Any) -> HttpResponse:
        request.scope, request.bad_token = "", False
        header = request.headers.get("Authorization")
        if header is not None and _is_for_programs(request):
            if wait := brake.secret_wait_s(request, "token"):
                record(request, "use a token", outcome=REFUSED)
                detail = f"too many wrong tokens came from your address: none is looked at for {wait} s"
                return problem_response(request, Problem(429, detail, retry_after_s=wait))
            scheme, _, text = header.partition(" ")
            token = _owned(request, text.strip()) if scheme.lower() == "bearer" else None
            request.bad_token = token is None
            if token:
                request.user, request.scope = token.user, token.scope
        return get_response(request)

    return middleware


def _is_for_programs(request: HttpRequest) -> bool:
    return request.path.startswith(API) or request.path == METRICS


def _owned(request: Any, text: str) -> Token | None:
    """The token with this text; without one, a guess is counted, and noted the first time."""
    token = tokens.find(text)
    if token is None and brake.wrong_secret(request, "token", text):
        record(request, "use a token", outcome=WRONG)
    return token


def api_problems(get_response: Callable) -> Callable:
    """On the API, what django-ninja or Django refuse by themselves (another method, another host) is a problem too."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        known = response.status_code < 400 or response["Content-Type"] == "application/problem+json"
        if known or not _is_for_programs(request):
            return response
        allowed = response.get("Allow", "")
        detail = f"expected one of {allowed}, got {request.method}" if allowed else "the request was refused"
        answer = problem_response(request, Problem(response.status_code, detail))
        if allowed:
            answer["Allow"] = allowed
        return answer

    return middleware


# What turns the direction of writing, separates lines unseen or is a tag, in UTF-8. In an answer it is seen.
TURNING = re.compile(rb"\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xaf]|\xf3\xa0[\x80\x81][\x80-\xbf]")
BEGINS = (b"\xe2\x80\xa8", b"\xe2\x80\xa9", *(b"\xe2\x80" + bytes([last]) for last in range(0xAA, 0xAF)), b"\xe2\x81",
          b"\xf3\xa0")  # fmt: skip
SEEN = "\ufffd".encode()


def inert_text(get_response: Callable) -> Callable:
    """Text in an answer reorders nothing, whoever wrote it and whenever: what entrances refuse now (config.text) may
    have been stored before, stand in a log, or be what a visitor typed into the search box.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        kind = response.get("Content-Type", "")
        is_text = not response.streaming and "Content-Encoding" not in response  # what is packed has no letters
        if is_text and ("charset=utf-8" in kind or kind.startswith("application/json")):
            text = response.content
            if any(begin in text for begin in BEGINS):
                response.content = TURNING.sub(SEEN, text)
        return response

    return middleware


def private_answers(get_response: Callable) -> Callable:
    """What is answered to somebody who is signed in is kept by no cache but the visitor's own."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "no-store" in response.get("Cache-Control", "") or not (
            request.COOKIES or "Authorization" in request.headers
        ):
            return response  # a probe does not ask the database who asks, nor does a visitor who shows nothing
        if request.user.is_authenticated:
            patch_cache_control(response, private=True)
        return response

    return middleware
