"""What owners do to their collections, from pages and programs alike. Each in one transaction."""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.http import Http404

from catalog.models import Work
from config import clock, quota
from readers.models import Collection, CollectionItem


@contextlib.contextmanager
def another(owner: Any) -> Iterator[None]:
    """Around making a collection: quota.Full if its owner has as many as one may have."""
    with quota.held(owner):
        have = Collection.objects.filter(owner=owner).count()
        quota.check(have, settings.COLLECTIONS_PER_USER, "collections", "delete some first")
        yield


@contextlib.contextmanager
def changing(collection: Collection) -> Iterator[None]:
    """Around a change of a collection: Http404 if it was deleted meanwhile, so that nothing brings it back."""
    with transaction.atomic():
        _lock(collection)
        yield


def touch(collection: Collection) -> None:
    """Note that what is in it changed, if it is still there."""
    Collection.objects.filter(pk=collection.pk).update(changed_at=clock.now())


def add(collection: Collection, work: Work) -> tuple[CollectionItem, bool]:
    """Put a work at the end of a collection, and whether it was not there; one that is in it stays where it is.

    quota.Full if the collection has as many works as one may have.
    """
    with transaction.atomic():
        _lock(collection)
        if there := collection.items.filter(work=work).first():
            return there, False
        have = collection.items.count()
        quota.check(have, settings.WORKS_PER_COLLECTION, "works in this collection", "take some out first")
        last = collection.items.aggregate(last=Max("position"))["last"]
        position = 0 if last is None else last + 1
        item = CollectionItem.objects.create(collection=collection, work=work, position=position)
        touch(collection)
    return item, True


def place(item: CollectionItem, position: int) -> None:
    """Move an item to this place, counted from 0; beyond the end is the end. The others close up."""
    with transaction.atomic():
        _lock(item.collection)
        items = [one for one in item.collection.items.all() if one.pk != item.pk]
        items.insert(max(0, position), item)
        for number, one in enumerate(items):
            one.position = number
        CollectionItem.objects.bulk_update(items, ["position"], batch_size=200)
        touch(item.collection)


def move(item: CollectionItem, step: int) -> None:
    """Move an item up (-1) or down (1); at the ends it stays."""
    with transaction.atomic():
        _lock(item.collection)
        pks = list(item.collection.items.values_list("pk", flat=True))
        if item.pk in pks:  # else it was removed meanwhile
            place(item, pks.index(item.pk) + step)


def _lock(collection: Collection) -> None:
    if Collection.objects.select_for_update().filter(pk=collection.pk).first() is None:
        raise Http404("this collection was deleted meanwhile")
