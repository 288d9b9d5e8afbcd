"""Who asks on the API: the owner of a token; and its problems. What no answer holds, and which are one visitor's."""

import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control

from config.audit import REFUSED, WRONG, record
from config.rest import Problem, problem_response
from readers import brake, tokens

API, METRICS = "/api/", "/metrics"  # addresses for programs


def bearer_token(get_response: Callable) -> Callable:
    """For programs, the header `Authorization: Bearer TOKEN` makes a request its owner's, whatever its cookies say."""

    def middleware(request: Any) -> HttpResponse:
        request.scope, request.bad_token = "", False
        header = request.headers.get("Authorization")
        if header is not None and _is_for_programs(request):
            scheme, _, text = header.partition(" ")
            token = tokens.find(text.strip()) if scheme.lower() == "bearer" else None
            if token:
                request.user, request.scope = token.user, token.scope
            elif wait := brake.secret_wait_s(request, "token"):
                record(request, "use a token", outcome=REFUSED)
                detail = f"too many wrong tokens came from your address: try again in {wait} s"
                return problem_response(request, Problem(429, detail, retry_after_s=wait))
            else:
                request.bad_token = True
                if brake.wrong_secret(request, "token", text.strip()):
                    record(request, "use a token", outcome=WRONG)
        return get_response(request)

    return middleware


def _is_for_programs(request: HttpRequest) -> bool:
    return request.path.startswith(API) or request.path == METRICS


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


def no_nul(get_response: Callable) -> Callable:
    """NUL is no character of any text of ours, and PostgreSQL takes none: refused here, once for every address."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "\0" in request.path_info:
            raise Http404("no address has a NUL in it")
        sent = [*request.GET.lists(), *request.POST.lists()]
        has_one = any("\0" in text for name, values in sent for text in (name, *values))
        if not has_one and request.content_type == "application/json":
            has_one = NUL_IN_JSON.search(request.body) is not None
        if has_one and request.path.startswith(API):
            return problem_response(request, Problem(422, "expected text without NUL characters, got one"))
        if has_one:
            raise BadRequest("expected text without NUL characters, got one")
        return get_response(request)

    return middleware


NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
# What turns the direction of writing, separates lines unseen or is a tag, in UTF-8. In an answer it is seen.
TURNING = re.compile(rb"\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xaf]|\xf3\xa0[\x80\x81][\x80-\xbf]")
# The same as JSON escapes it, after an even number of backslashes.
ESCAPED = re.compile(rb"(?<!\\)((?:\\\\)*)\\u(?:202[89a-e]|206[6-9a-f]|db40\\udc[0-7][0-9a-f])")
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
        if is_text and ("charset=utf-8" in kind or "json" in kind):
            text = response.content
            if any(begin in text for begin in BEGINS):
                response.content = text = TURNING.sub(SEEN, text)
            if "json" in kind and (rb"\u20" in text or rb"\udb40" in text):
                response.content = ESCAPED.sub(rb"\1\\ufffd", text)
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
