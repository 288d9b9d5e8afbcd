"""The API: all its parts under /api/v1/, its problems, and its description."""

import logging
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import RawPostDataException
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from catalog.api import router as catalogue
from config.rest import Problem, ProblemOut, Visitor, problem_response, tagged
from exports.api import router as exports
from exports.bundle_api import router as bundles
from readers.api import router as collections
from reproductions.api import router as reproductions

logger = logging.getLogger("django.request")

DESCRIPTION = """\
Papers on LLM inference, what they claim, and what was measured here. Reading is open. Writing takes a token, made at
/accounts/tokens/, in the header `Authorization: Bearer TOKEN`; or a signed-in session with its CSRF token.
Answers have an ETag; send it as If-None-Match to get 304 while nothing has changed. Errors are RFC 9457 problems."""
SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "a token with the scope that the operation needs"},
    "session": {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "with X-CSRFToken on writes"},
}


class Api(NinjaAPI):
    """django-ninja with our problems and tags."""

    def create_response(
        self,
        request: HttpRequest,
        data: Any,
        *,
        status: int | None = None,
        temporal_response: HttpResponse | None = None,
    ) -> HttpResponse:
        """What is read gets its tag, or 304."""
        response = super().create_response(request, data, status=status, temporal_response=temporal_response)
        return tagged(request, response) if request.method == "GET" and response.status_code == 200 else response

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """The function's name."""
        return operation.view_func.__name__

    def get_openapi_schema(self, *, path_prefix: str | None = None, path_params: dict | None = None) -> OpenAPISchema:
        """With who may, and with problems, which are the same for every operation."""
        schema = super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)
        schema["components"]["securitySchemes"] = SECURITY
        schema["components"]["schemas"]["ProblemOut"] = ProblemOut.json_schema()
        reference = {"schema": {"$ref": "#/components/schemas/ProblemOut"}}
        problem = {"description": "A problem", "content": {"application/problem+json": reference}}
        for operations in schema["paths"].values():
            for method, operation in operations.items():
                named: list[dict] = [{name: []} for name in SECURITY]
                operation["security"] = [{}, *named] if method == "get" else named
                operation["responses"] |= {"4XX": problem, "5XX": problem}
                if method == "get":
                    operation["responses"][304] = {"description": "Not changed since the answer with this ETag"}
        return schema


api = Api(title="Claimcheck", version="1", description=DESCRIPTION, docs_url=None, auth=Visitor())
api.add_router("", catalogue)
api.add_router("", reproductions)
api.add_router("", collections)
api.add_router("", bundles)
api.add_router("", exports)


def nothing_here(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Addresses that are none of the API's."""
    return problem_response(request, Problem(404, "there is nothing at this address; see /api/v1/openapi.json"))


@api.exception_handler(Problem)
def _problem(request: HttpRequest, error: Problem) -> HttpResponse:
    return problem_response(request, error)


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return problem_response(request, Problem(404, str(error) or "not found"))


@api.exception_handler(PermissionDenied)
def _denied(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return problem_response(request, Problem(403, str(error) or "this is not yours to do"))


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return problem_response(request, Problem(error.status_code, error.message))


@api.exception_handler(BadRequest)
@api.exception_handler(SuspiciousOperation)
@api.exception_handler(RawPostDataException)
def _bad_request(request: HttpRequest, error: Exception) -> HttpResponse:
    return problem_response(request, Problem(400, "the request could not be read; a body must be JSON"))


@api.exception_handler(ValidationError)
def _not_valid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Each value with where it stands: a JSON pointer into the body, or a parameter's name."""
    errors = []
    for one in error.errors:
        source, *place = one["loc"]
        where = (
            {"parameter": str(place[-1])}
            if source != "body"
            else {"pointer": "#" + "".join(f"/{p}" for p in place[1:])}
        )
        errors.append({"detail": str(one["msg"]).removeprefix("Value error, ")} | where)
    names = ", ".join(dict.fromkeys(one.get("parameter") or one["pointer"] for one in errors))
    return problem_response(request, Problem(422, f"not accepted: {names}", errors=errors))


@api.exception_handler(Exception)
def _failed(request: HttpRequest, error: Exception) -> HttpResponse:
    """What went wrong is in the log, not in the answer."""
    logger.error("API: %s", request.path, exc_info=error, extra={"status_code": 500, "request": request})
    return problem_response(request, Problem(500, "this failed here; the operator finds the reason in the log"))
