"""Collections as JSON: everybody reads what they may see, owners change their own."""

import datetime
from typing import Annotated

from django.db import IntegrityError, transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from ninja import Field, Query, Router, Schema, Status
from pydantic import StringConstraints

from catalog.models import Work
from config.quota import Full
from config.rest import ApiRequest, Change, Line, Page, Paging, Problem, Prose, Visitor, paged
from readers import services
from readers.models import Collection, CollectionItem

router = Router(tags=["collections"])
Name = Annotated[Line, StringConstraints(min_length=1, max_length=120)]
About = Annotated[Prose, StringConstraints(max_length=4000)]
Note = Annotated[Prose, StringConstraints(max_length=2000)]
Visibility = Collection.Visibility


class CollectionOut(Schema):
    """Works that a reader put together."""

    id: int
    name: str
    description: str
    visibility: str
    owner: str
    created_at: datetime.datetime
    changed_at: datetime.datetime
    works: int = Field(alias="work_count")
    key: str | None = Field(description="for its owner: whoever has it sees a collection that is shared by link")

    @staticmethod
    def resolve_owner(collection: Collection) -> str:
        """By name."""
        return collection.owner.get_username()

    @staticmethod
    def resolve_key(collection: Collection, context: dict) -> str | None:
        """For its owner only."""
        return collection.key if context["request"].user.pk == collection.owner_id else None


class ItemOut(Schema):
    """A work's place in a collection, and why it is there."""

    work: str = Field(description="the work's slug")
    title: str
    position: int = Field(description="counted from 0")
    note: str


class CollectionDetail(CollectionOut):
    """A collection with its works, in order."""

    items: list[ItemOut]

    @staticmethod
    def resolve_items(collection: Collection) -> list[dict]:
        """In order, counted anew: places of items that were taken out stay empty in the table."""
        return [
            {"work": item.work.slug, "title": item.work.title, "position": i, "note": item.note}
            for i, item in enumerate(collection.items.all())
        ]


class Collections(Page):
    """Collections by name."""

    results: list[CollectionOut]


class CollectionNew(Change):
    """A collection to be made."""

    name: Name
    description: About = ""
    visibility: Visibility = Visibility.PRIVATE


class CollectionChange(Change):
    """What its owner changes."""

    name: Name | None = None
    description: About | None = None
    visibility: Visibility | None = None


class ItemNew(Change):
    """A work to put into a collection."""

    work: Line = Field(description="the work's slug")
    note: Note = ""
    position: int | None = Field(None, ge=0, le=100_000, description="counted from 0; without it, last")


class ItemChange(Change):
    """Another place or note."""

    note: Note | None = None
    position: int | None = Field(None, ge=0, le=100_000)


def _collections():
    return Collection.objects.select_related("owner").annotate(work_count=Count("items"))


def _detail(pk: int) -> Collection:
    return _collections().prefetch_related("items__work").get(pk=pk)


def _own(request: ApiRequest, pk: int) -> Collection:
    """The visitor's own; one that they may only see is refused, one that they may not see is not there."""
    found = get_object_or_404(Collection.objects.seen_by(request.user), pk=pk)
    if found.owner_id != request.user.pk:
        raise Problem(403, "only its owner changes a collection")
    return found


def _item(collection: Collection, slug: str) -> CollectionItem:
    return get_object_or_404(collection.items.select_related("collection"), work__slug=slug)


@router.get("/collections", response=Collections)
def collections(request: ApiRequest, response: HttpResponse, paging: Query[Paging], mine: bool = False) -> dict:
    """Public collections and one's own, by name; with `mine`, one's own."""
    seen = _collections().seen_by(request.user)
    if mine:
        seen = seen.filter(owner_id=request.user.pk)
    return paged(request, response, paging, seen.count(), list(seen[paging.part]))


@router.get("/collections/{collection_id}", response=CollectionDetail)
def collection(request: HttpRequest, collection_id: int, key: str = "") -> Collection:
    """One collection with its works; one that is shared by link is seen with its `key`."""
    by_link = Collection.objects.filter(visibility=Visibility.LINK, key=key, pk=collection_id) if key else None
    if not (by_link and by_link.exists()):
        get_object_or_404(Collection.objects.seen_by(request.user), pk=collection_id)
    return _detail(collection_id)


@router.post("/collections", response={201: CollectionDetail}, auth=Visitor("write"))
def create_collection(request: ApiRequest, response: HttpResponse, new: CollectionNew) -> Status:
    """Make a collection of one's own."""
    try:
        with services.another(request.user):
            made = Collection.objects.create(owner=request.user, **new.dict())
    except Full as full:
        raise Problem(409, str(full)) from None
    except IntegrityError:
        raise Problem(409, f"you have a collection named {new.name!r} already") from None
    response["Location"] = reverse("api-1:collection", args=[made.pk])
    return Status(201, _detail(made.pk))


@router.patch("/collections/{collection_id}", response=CollectionDetail, auth=Visitor("write"))
def change_collection(request: ApiRequest, collection_id: int, change: CollectionChange) -> Collection:
    """Change one's own collection."""
    found = _own(request, collection_id)
    for name, value in change.dict(exclude_unset=True).items():
        setattr(found, name, value)
    try:
        with services.changing(found):
            found.save()
    except IntegrityError:
        raise Problem(409, f"you have a collection named {found.name!r} already") from None
    return _detail(found.pk)


@router.delete("/collections/{collection_id}", response={204: None}, auth=Visitor("write"))
def delete_collection(request: ApiRequest, collection_id: int) -> Status:
    """Delete one's own collection; the works stay."""
    _own(request, collection_id).delete()
    return Status(204, None)


@router.post("/collections/{collection_id}/items", response={201: CollectionDetail}, auth=Visitor("write"))
def add_item(request: ApiRequest, collection_id: int, new: ItemNew) -> Status:
    """Put a work into one's own collection."""
    found = _own(request, collection_id)
    work = Work.objects.filter(slug=new.work).first()
    if work is None:
        raise Problem(422, f"work: there is no work {new.work[:80]!r}")
    try:
        with transaction.atomic():
            item, made = services.add(found, work)
            if made:
                _arrange(item, new.note, new.position)
    except Full as full:
        raise Problem(409, str(full)) from None
    if not made:
        raise Problem(409, f"{new.work} is in this collection already")
    return Status(201, _detail(found.pk))


@router.patch("/collections/{collection_id}/items/{slug}", response=CollectionDetail, auth=Visitor("write"))
def change_item(request: ApiRequest, collection_id: int, slug: str, change: ItemChange) -> Collection:
    """Another place or note for a work of one's own collection."""
    item = _item(_own(request, collection_id), slug)
    with transaction.atomic():
        _arrange(item, change.note, change.position)
    return _detail(collection_id)


def _arrange(item: CollectionItem, note: str | None, position: int | None) -> None:
    if note is not None:
        item.note = note
        item.save(update_fields=["note"])
        services.touch(item.collection)
    if position is not None:
        services.place(item, position)


@router.delete("/collections/{collection_id}/items/{slug}", response={204: None}, auth=Visitor("write"))
def remove_item(request: ApiRequest, collection_id: int, slug: str) -> Status:
    """Take a work out of one's own collection."""
    item = _item(_own(request, collection_id), slug)
    item.delete()
    services.touch(item.collection)
    return Status(204, None)
