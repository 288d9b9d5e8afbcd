"""The catalogue as JSON, by the same search and filters as the list; what curators write of it has a history."""

from collections.abc import Callable
from typing import Any

import numpy as np
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Status

from catalog import changes, curation, schemas
from catalog.listing import Listing
from catalog.models import Category, Claim, Entry, Link, Work
from catalog.schemas import Filters, WorkDetail
from catalog.selection import Selection, categories
from catalog.versions import of_catalogue
from config.audit import record
from config.rest import ApiRequest, Change, Paging, Problem, Visitor, paged

WHY = "through the API"
WRITE = Visitor("write")
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


@router.get("/works", response=schemas.Works)
@of_catalogue
def works(request: HttpRequest, response: HttpResponse, filters: Query[Filters], paging: Query[Paging]) -> dict:
    """Works of a selection, in its order."""
    listing = selected(request)
    order = listing.order()[paging.part].tolist()
    found = schemas.whole_works().in_bulk(order)
    results = [found[pk] for pk in order if pk in found]
    return paged(request, response, paging, listing.work_count, results, **said(listing))


@router.get("/works/{slug}", response=WorkDetail)
@of_catalogue
def work(request: HttpRequest, slug: str) -> Work:
    """One work with its claims."""
    return get_object_or_404(schemas.whole_works(), slug=slug)


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


def _curated(request: ApiRequest, write: Callable[..., Any], *args: Any) -> Any:
    """Write as this curator; what cannot be is a problem."""
    try:
        return write(*args, request.user, WHY)
    except ValidationError as error:
        raise Problem(422, " ".join(error.messages)) from None


def _removed(request: ApiRequest, word: str, row: Any) -> None:
    about = str(row)
    if not _curated(request, curation.remove, row):
        raise Problem(404, "it was removed already")
    record(request, f"remove {word}", about)


def _only_curators(request: ApiRequest) -> None:
    if not curation.is_curator(request.user):
        raise Problem(403, "only curators change the catalogue")


def _given(change: Change) -> dict[str, Any]:
    return change.dict(exclude_unset=True)


@router.patch("/works/{slug}", response=schemas.WorkDetail, auth=WRITE)
def change_work(request: ApiRequest, slug: str, change: changes.WorkChange) -> Work:
    """Change facts of a work. For curators."""
    _only_curators(request)
    fields = _given(change)
    if "published" in fields:
        fields["published"], fields["published_precision"] = changes.read_date(fields["published"])
    _curated(request, curation.change, get_object_or_404(Work, slug=slug), fields)
    return schemas.whole_works().get(slug=slug)


@router.post("/works/{slug}/entries", response={201: schemas.EntryOut}, auth=WRITE)
def add_entry(request: ApiRequest, slug: str, new: changes.EntryNew) -> Status:
    """List a work in a category, after the others. For curators."""
    _only_curators(request)
    work, fields = get_object_or_404(Work, slug=slug), new.dict()
    category = Category.objects.filter(slug=fields.pop("category")).first()
    if category is None:
        raise Problem(422, f"category: there is no category {new.category[:80]!r}")
    entry = Entry(work=work, category=category, position=curation.next_position(category.entries.all()), **fields)
    return Status(201, _curated(request, curation.add, entry))


@router.patch("/entries/{entry_id}", response=schemas.EntryOut, auth=WRITE)
def change_entry(request: ApiRequest, entry_id: int, change: changes.EntryChange) -> Entry:
    """Change what the list says of a work. For curators."""
    _only_curators(request)
    return _curated(request, curation.change, get_object_or_404(Entry, pk=entry_id), _given(change))


@router.delete("/entries/{entry_id}", response={204: None}, auth=WRITE)
def remove_entry(request: ApiRequest, entry_id: int) -> Status:
    """Take an entry and its links from the list; the work's history brings it back. For curators."""
    _only_curators(request)
    _removed(request, "entry", get_object_or_404(Entry, pk=entry_id))
    return Status(204, None)


@router.post("/entries/{entry_id}/links", response={201: schemas.LinkOut}, auth=WRITE)
def add_link(request: ApiRequest, entry_id: int, new: changes.LinkNew) -> Status:
    """Add a link to an entry. For curators."""
    _only_curators(request)
    entry = get_object_or_404(Entry, pk=entry_id)
    link = Link(entry=entry, position=curation.next_position(entry.links.all()), **new.dict())
    return Status(201, _curated(request, curation.add, link))


@router.patch("/links/{link_id}", response=schemas.LinkOut, auth=WRITE)
def change_link(request: ApiRequest, link_id: int, change: changes.LinkChange) -> Link:
    """Change a link. For curators."""
    _only_curators(request)
    return _curated(request, curation.change, get_object_or_404(Link, pk=link_id), _given(change))


@router.delete("/links/{link_id}", response={204: None}, auth=WRITE)
def remove_link(request: ApiRequest, link_id: int) -> Status:
    """Take a link away. For curators."""
    _only_curators(request)
    _removed(request, "link", get_object_or_404(Link, pk=link_id))
    return Status(204, None)


@router.post("/works/{slug}/claims", response={201: schemas.ClaimOut}, auth=WRITE)
def add_claim(request: ApiRequest, slug: str, new: changes.ClaimNew) -> Status:
    """Add a claim to a work, after the others. For curators."""
    _only_curators(request)
    work = get_object_or_404(Work, slug=slug)
    claim = Claim(work=work, position=curation.next_position(work.claims.all()), **new.dict())
    return Status(201, _curated(request, curation.add, claim))


@router.patch("/works/{slug}/claims/{key}", response=schemas.ClaimOut, auth=WRITE)
def change_claim(request: ApiRequest, slug: str, key: str, change: changes.ClaimChange) -> Claim:
    """Change a claim. For curators."""
    _only_curators(request)
    return _curated(request, curation.change, get_object_or_404(Claim, work__slug=slug, key=key), _given(change))


@router.delete("/works/{slug}/claims/{key}", response={204: None}, auth=WRITE)
def remove_claim(request: ApiRequest, slug: str, key: str) -> Status:
    """Take a claim away; the work's history brings it back. For curators."""
    _only_curators(request)
    _removed(request, "claim", get_object_or_404(Claim, work__slug=slug, key=key))
    return Status(204, None)


@router.patch("/categories/{slug}", response=schemas.CategoryName, auth=WRITE)
def change_category(request: ApiRequest, slug: str, change: changes.CategoryChange) -> Category:
    """Rename a category; its slug, which addresses hold, stays. For curators."""
    _only_curators(request)
    return _curated(request, curation.change, get_object_or_404(Category, slug=slug), _given(change))
