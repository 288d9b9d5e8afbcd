"""What owners do to their collections, from pages and programs alike. Each in one transaction."""

from django.db import transaction
from django.db.models import Max

from catalog.models import Work
from readers.models import Collection, CollectionItem


def add(collection: Collection, work: Work) -> CollectionItem:
    """Put a work at the end of a collection; one that is in it stays where it is."""
    with transaction.atomic():
        _lock(collection)
        last = collection.items.aggregate(last=Max("position"))["last"]
        defaults = {"position": 0 if last is None else last + 1}
        item, _ = CollectionItem.objects.get_or_create(collection=collection, work=work, defaults=defaults)
        collection.save(update_fields=["changed_at"])
    return item


def place(item: CollectionItem, position: int) -> None:
    """Move an item to this place, counted from 0; beyond the end is the end. The others close up."""
    with transaction.atomic():
        _lock(item.collection)
        items = [one for one in item.collection.items.all() if one.pk != item.pk]
        items.insert(max(0, position), item)
        for number, one in enumerate(items):
            one.position = number
        CollectionItem.objects.bulk_update(items, ["position"], batch_size=200)
        item.collection.save(update_fields=["changed_at"])


def move(item: CollectionItem, step: int) -> None:
    """Move an item up (-1) or down (1); at the ends it stays."""
    with transaction.atomic():
        _lock(item.collection)
        pks = list(item.collection.items.values_list("pk", flat=True))
        if item.pk in pks:  # else it was removed meanwhile
            place(item, pks.index(item.pk) + step)


def _lock(collection: Collection) -> None:
    Collection.objects.select_for_update().get(pk=collection.pk)
