"""The catalogue as JSON, by the same search and filters as the list; curators change works and entries."""

from typing import Any

import numpy as np
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Query, Router

from catalog import curation, schemas
from catalog.listing import Listing
from catalog.models import Entry, Work
from catalog.schemas import Filters, WorkDetail
from catalog.selection import Selection, categories
from catalog.versions import of_catalogue
from config.rest import ApiRequest, Paging, Problem, Visitor, paged

router = Router(tags=["catalogue"])


def selected(request: HttpRequest) -> Listing:
    """The listing that the query string asks for; pages are the API's own."""
    query = request.GET.copy()
    for name in ("page", "size"):
        query.pop(name, None)
    return Listing(Selection.read(query, request.user))


def said(listing: Listing) -> dict[str, list[str]]:
    """What was not understood, and what otherwise than typed."""
    return {"problems": listing.chosen.problems, "notes": listing.chosen.notes}


def _works() -> Any:
    return Work.objects.for_list().select_related("standing").prefetch_related("entries__work", "claims__work")


@router.get("/works", response=schemas.Works)
@of_catalogue
def works(request: HttpRequest, response: HttpResponse, filters: Query[Filters], paging: Query[Paging]) -> dict:
    """Works of a selection, in its order."""
    listing = selected(request)
    order = listing.order()[paging.part].tolist()
    found = _works().in_bulk(order)
    results = [found[pk] for pk in order if pk in found]
    return paged(request, response, paging, listing.work_count, results, **said(listing))


@router.get("/works/{slug}", response=WorkDetail)
@of_catalogue
def work(request: HttpRequest, slug: str) -> Work:
    """One work with its claims."""
    return get_object_or_404(_works(), slug=slug)


@router.patch("/works/{slug}", response=WorkDetail, auth=Visitor("write"))
def change_work(request: ApiRequest, slug: str, change: schemas.WorkChange) -> Work:
    """Change facts of a work. For curators."""
    _only_curators(request)
    fields = change.dict(exclude_unset=True)
    if "published" in fields:
        fields["published"], fields["published_precision"] = schemas.read_date(fields["published"])
    _change(get_object_or_404(Work, slug=slug), fields, request)
    return _works().get(slug=slug)


@router.get("/entries", response=schemas.Entries)
@of_catalogue
def entries(request: HttpRequest, response: HttpResponse, filters: Query[Filters], paging: Query[Paging]) -> dict:
    """Entries of the works of a selection, in the list's order; with a category, those of it alone."""
    listing = selected(request)
    pks = _entry_pks(listing)
    order = pks[paging.part].tolist()
    found = Entry.objects.select_related("work", "category").prefetch_related("links").in_bulk(order)
    results = [found[pk] for pk in order if pk in found]
    return paged(request, response, paging, len(pks), results, **said(listing))


def _entry_pks(listing: Listing) -> np.ndarray:
    snapshot = listing.snapshot
    keep = listing.mask[snapshot.entry_work]
    for name, values in (("category", listing.selection.filters), ("category in the box", listing.chosen.found.fields)):
        if name in listing.chosen.masks:
            keep &= np.isin(snapshot.entry_category, list(categories(snapshot, values["category"])))
    return snapshot.entry_pk[keep]


@router.get("/entries/{entry_id}", response=schemas.EntryOut)
@of_catalogue
def entry(request: HttpRequest, entry_id: int) -> Entry:
    """One entry."""
    return get_object_or_404(Entry.objects.select_related("work", "category"), pk=entry_id)


@router.patch("/entries/{entry_id}", response=schemas.EntryOut, auth=Visitor("write"))
def change_entry(request: ApiRequest, entry_id: int, change: schemas.EntryChange) -> Entry:
    """Change what the list says of a work. For curators."""
    _only_curators(request)
    found = get_object_or_404(Entry.objects.select_related("work", "category"), pk=entry_id)
    return _change(found, change.dict(exclude_unset=True), request)


def _only_curators(request: ApiRequest) -> None:
    if not curation.is_curator(request.user):
        raise Problem(403, "only curators change works and entries")


def _change(row: Work | Entry, fields: dict[str, Any], request: ApiRequest) -> Any:
    try:
        return curation.change(row, fields, request.user, "through the API")
    except ValidationError as error:
        raise Problem(422, " ".join(error.messages)) from None


@router.get("/categories", response=schemas.Categories)
@of_catalogue
def category_list(request: HttpRequest, filters: Query[Filters]) -> dict:
    """The list's categories, each with how many works of the selection it has."""
    listing = selected(request)
    pairs = listing.snapshot.category
    counts = pairs.counts(listing.mask).tolist()
    results = [
        {"slug": category.slug, "name": category.name, "position": category.position, "works": count}
        for category, count in zip(pairs.values, counts, strict=True)
    ]
    return {"results": results} | said(listing)


@router.get("/search", response=schemas.Search)
@of_catalogue
def search(request: HttpRequest, response: HttpResponse, filters: Query[Filters], paging: Query[Paging]) -> dict:
    """What a line finds, with scores, the words to highlight, and the facets of all that was found."""
    listing = selected(request)
    order = listing.order()[paging.part].tolist()
    found = Work.objects.in_bulk(order)
    scores = listing.chosen.found.score
    results = [
        {
            "slug": found[pk].slug,
            "title": found[pk].title,
            "page": schemas.WorkOut.resolve_page(found[pk]),
            "score": float(scores[listing.snapshot.place[pk]]),
        }
        for pk in order
        if pk in found
    ]
    facets = [{"title": facet.title, "options": [*facet.options, *facet.more]} for facet in listing.facets()]
    return paged(
        request,
        response,
        paging,
        listing.work_count,
        results,
        words=listing.chosen.found.words,
        facets=facets,
        **said(listing),
    )
