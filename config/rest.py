"""What the API's parts share: who asks, problems (RFC 9457), pages, and answers that need not be sent again."""

import hashlib
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, ClassVar

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from ninja import Field, Schema
from ninja.utils import check_csrf
from pydantic import AfterValidator, ConfigDict, StringConstraints, ValidationInfo, field_validator

from config.text import visible

SCOPES = ("read", "run", "write")  # each may what those before it may
LARGEST = 200
Line = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(visible)]
Prose = Annotated[str, AfterValidator(partial(visible, lines=True))]


class ApiRequest(HttpRequest):
    """A request to the API; `scope` is what its token, or its session, allows."""

    user: User
    scope: str
    bad_token: bool
    etag: str


class Problem(Exception):
    """An answer that says what is wrong; `more` are further members of the document."""

    def __init__(self, status: int, detail: str, **more: Any):
        self.status, self.detail, self.more = status, detail, more
        super().__init__(detail)


def problem_response(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A problem as application/problem+json."""
    title = HTTPStatus(problem.status).phrase
    data = {"type": "about:blank", "title": title, "status": problem.status, "detail": problem.detail}
    response = JsonResponse(
        data | {"instance": request.path} | problem.more,
        status=problem.status,
        content_type="application/problem+json",
    )
    if problem.status == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = 'Bearer realm="Claimcheck"'
    if "retry_after_s" in problem.more:
        response["Retry-After"] = str(problem.more["retry_after_s"])
    return response


class ProblemOut(Schema):
    """What is wrong, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, str]] = Field([], description="for 422: each value that was not accepted, and why")


class Visitor:
    """Lets in whoever may use an operation: anybody, or a token or session of at least `scope`."""

    def __init__(self, scope: str = ""):
        self.scope = scope

    def __call__(self, request: ApiRequest) -> User:
        """The visitor, who may be anonymous where no scope is asked for."""
        if request.bad_token:
            raise Problem(401, "this token is not valid: mistyped, revoked, expired, or its owner may not sign in")
        if not self.scope:
            return request.user
        if not request.user.is_authenticated:
            raise Problem(401, "sign in, or send the header Authorization: Bearer TOKEN; see /accounts/tokens/")
        if not request.scope and check_csrf(request):
            raise Problem(403, "a signed-in browser must send its CSRF token in the header X-CSRFToken")
        if request.scope and SCOPES.index(request.scope) < SCOPES.index(self.scope):
            raise Problem(403, f"this needs a token with the scope {self.scope}; this one has {request.scope}")
        return request.user


class Change(Schema):
    """Fields to change; those left out stay, those that are none of it are refused."""

    model_config = ConfigDict(extra="forbid")
    may_be_null: ClassVar[tuple[str, ...]] = ()

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name not in cls.may_be_null:
            raise ValueError("expected a value, got null; leave the field out to keep what it has")
        return value


class Paging(Schema):
    """Which part of a long answer."""

    page: int = Field(1, ge=1, le=1_000_000)
    size: int = Field(50, ge=1, le=LARGEST, description="results a page")

    @property
    def part(self) -> slice:
        """Where the page's results are among all."""
        return slice((self.page - 1) * self.size, self.page * self.size)


class Page(Schema):
    """One page of results; the header Link leads to the next and the one before."""

    total: int = Field(description="results on all pages together")
    page: int
    size: int


def paged(request: HttpRequest, response: HttpResponse, paging: Paging, total: int, results: Any, **more: Any) -> dict:
    """The page as data, and its neighbours in the response's Link header."""
    last = max(1, -(-total // paging.size))
    near = {"prev": min(paging.page - 1, last), "next": paging.page + 1 if paging.page < last else 0}
    links = []
    for relation, number in near.items():
        if number > 0:
            query = request.GET.copy()
            query["page"] = str(number)
            links.append(f'<{request.build_absolute_uri(request.path)}?{query.urlencode()}>; rel="{relation}"')
    if links:
        response["Link"] = ", ".join(links)
    return {"total": total, "page": paging.page, "size": paging.size, "results": results} | more


def unchanged(request: HttpRequest, tag: str) -> HttpResponse | None:
    """An answer without content, if the one with this tag is what the client already has."""
    known = HttpResponse(headers={"ETag": tag})
    answer = get_conditional_response(request, etag=tag, response=known)
    return None if answer is known else answer


def tagged(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response with its ETag, of the content unless the view knew a cheaper one, or 304 in its place."""
    known = getattr(request, "etag", "")
    response["ETag"] = known or quote_etag(hashlib.sha256(response.content).hexdigest()[:32])
    response["Cache-Control"] = "no-cache" if known else "private, no-cache"
    if not known:
        response["Vary"] = "Authorization, Cookie"
    return get_conditional_response(request, etag=response["ETag"], response=response) or response
