"""Citations by API: the formats of /export/, for one work and for any selection."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from catalog.models import Work
from config.rest import Problem
from exports import citation_views, selecting
from exports.citations import FORMATS

router = Router(tags=["export"])
# What ninja cannot know, since the answer is no JSON.
TYPES = {one.media_type: {"schema": {"type": "string"}} for one in FORMATS.values()}
AS_TEXT: dict[str, Any] = {"responses": {200: {"description": "In the format asked for", "content": TYPES}}}


@router.get("/export/{name}", response={200: None}, openapi_extra=AS_TEXT)
def export_selection(
    request: HttpRequest, name: str, works: str = "", q: str = "", ascii: bool = False
) -> HttpResponse:
    """A selection, whole, as a file: by the list's filters, or `works=a,b,c` in that order.

    `name` is one of bibtex, biblatex, ris, csl, cff, csv, markdown, apa, ieee, acm.
    """
    if name not in FORMATS:
        raise Problem(404, f"expected one of {', '.join(FORMATS)}, got {name}")
    try:
        return citation_views.answer(request, FORMATS[name], selecting.of_request(request))
    except selecting.NotSelected as error:
        raise Problem(422, str(error)) from None


@router.get("/works/{slug}/citation", response={200: None}, openapi_extra=AS_TEXT)
def work_citation(request: HttpRequest, slug: str, format: str = "bibtex", ascii: bool = False) -> HttpResponse:
    """One work in one of the same formats."""
    if format not in FORMATS:
        raise Problem(422, f"format: expected one of {', '.join(FORMATS)}, got {format}")
    work = Work.objects.for_list().filter(slug=slug).first()
    if work is None:
        raise Problem(404, f"there is no work {slug}")
    return citation_views.answer(request, FORMATS[format], [work])
