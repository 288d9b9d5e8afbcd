"""Which works leave, and in which order: picked by hand, a collection in its own order, or as the list has them."""

import re
from typing import Any

from django.http import HttpRequest

from catalog.listing import Listing
from catalog.models import Work
from catalog.selection import Selection, collection_of


class NotSelected(ValueError):
    """A selection that cannot be meant; the message says what was expected."""


def picked(query: str) -> list[int] | None:
    """Keys of the works that `works=a,b,c` names, in that order; None if the query is another."""
    found = re.fullmatch(r"\??works=([^&]*)", query.strip())
    return by_hand(found[1]) if found else None


def by_hand(slugs: str) -> list[int]:
    """Keys of works by slug, in the order given, each once."""
    wanted = [slug.strip() for slug in slugs.split(",") if slug.strip()]
    known = dict(Work.objects.filter(slug__in=wanted).values_list("slug", "pk"))
    if missing := [slug for slug in wanted if slug not in known]:
        raise NotSelected(f"works: there is no {', '.join(missing)}")
    return [known[slug] for slug in dict.fromkeys(wanted)]


def in_own_order(listing: Listing) -> list[int] | None:
    """Keys of a collection's works as its owner ordered them, unless another order or words are asked for."""
    selection = listing.selection
    found = collection_of(selection.filters.get("collection", ""), selection.user)
    if found is None or selection.sort or selection.q.strip():
        return None
    chosen = set(listing.order().tolist())
    return [pk for pk in found.items.values_list("work_id", flat=True) if pk in chosen]


def of_request(request: HttpRequest) -> list[Work]:
    """The works that an address means, whole."""
    if "works" in request.GET:
        return fetched(by_hand(request.GET["works"]))
    return of_selection(Selection.read(request.GET, request.user))


def of_query(query: str, user: Any = None) -> list[Work]:
    """The works that one line means: words of the search box, filters as an address has them, or `works=a,b,c`."""
    if (keys := picked(query)) is not None:
        return fetched(keys)
    selection = Selection.typed(query)
    selection.user = user
    return of_selection(selection)


def of_selection(selection: Selection) -> list[Work]:
    """The works of a selection. NotSelected for filters that mean nothing: no file is silently another one."""
    listing = Listing(selection)
    if listing.chosen.problems:
        raise NotSelected("; ".join(listing.chosen.problems))
    return fetched(in_own_order(listing) or listing.order().tolist())


def fetched(keys: list[int]) -> list[Work]:
    """Works by key, in the order given, with all that a citation needs."""
    known = Work.objects.for_list().in_bulk(keys)
    return [known[key] for key in keys]
