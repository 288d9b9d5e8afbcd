"""The tag of an answer that is made of the catalogue alone: it changes when the catalogue or the question does."""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import quote_etag

from catalog.models import SearchVersion
from catalog.selection import collection_of
from config.rest import unchanged


def tag(request: HttpRequest) -> str:
    """Read before the answer is made: one that is made while the catalogue changes is then asked for again."""
    number = SearchVersion.objects.filter(pk=1).values_list("number", flat=True).first() or 0
    text = request.build_absolute_uri()
    if wanted := request.GET.get("collection", "").strip():  # it changes apart from the catalogue, and with who asks
        found = collection_of(wanted, request.user)
        text += f" {request.user.pk} {found.pk} {found.changed_at.isoformat()}" if found else " none"
    asked = hashlib.sha256(text.encode()).hexdigest()[:16]
    return quote_etag(f"{number}-{asked}")


def of_catalogue(view: Callable[..., Any]) -> Callable[..., Any]:
    """Answers 304 without making the answer, if the client has it."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **values: Any) -> Any:
        found = tag(request)
        request.etag = found  # type: ignore[attr-defined]
        answer: HttpResponse | None = unchanged(request, found)
        return answer if answer is not None else view(request, *args, **values)

    return checked
