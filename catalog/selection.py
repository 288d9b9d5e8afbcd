"""What an address asks of the list: words, filters, order, page. What was not understood is said, never dropped."""

import calendar
import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
from django.apps import apps
from django.http import QueryDict

from catalog.models import Work
from catalog.search import Found, find
from catalog.snapshot import Snapshot
from catalog.words import words
from config.http import whole_number

SORTS = {"list": "as listed", "relevance": "best match", "date": "newest", "listed": "listed last", "stars": "stars",
         "rating": "readers' rating", "result": "newest result", "title": "title"}  # fmt: skip
OUTCOMES = ("contradicted", "replicated", "inconclusive", "no result")
DEVICES = ("cpu", "cuda")


class NotUnderstood(ValueError):
    """A filter's value is none of its values; the message says what was expected."""


def _yes(column: str) -> Callable[[Snapshot, str], np.ndarray]:
    def mask(snapshot: Snapshot, value: str) -> np.ndarray:
        if value not in ("yes", "no"):
            raise NotUnderstood("yes or no")
        return (snapshot.column[column] > 0) == (value == "yes")

    return mask


def categories(snapshot: Snapshot, value: str) -> set[int]:
    """Positions of the categories that a slug, or words of a name, mean."""
    wanted = set(words(value))
    slugs = {i for i, category in enumerate(snapshot.category.values) if category.slug == value}
    found = slugs or {i for i, c in enumerate(snapshot.category.values) if wanted and wanted <= set(words(c.name))}
    if not found:
        raise NotUnderstood("a category of the list")
    return found


def _category(snapshot: Snapshot, value: str) -> np.ndarray:
    return snapshot.category.having(categories(snapshot, value), snapshot.n)


def _topic(snapshot: Snapshot, value: str) -> np.ndarray:
    wanted = "-".join(words(value))
    found = {i for i, topic in enumerate(snapshot.topic.values) if topic.name == wanted}
    if not found:
        raise NotUnderstood("a topic of some work")
    return snapshot.topic.having(found, snapshot.n)


def _kind(snapshot: Snapshot, value: str) -> np.ndarray:
    if value not in Work.Kind.values:
        raise NotUnderstood(f"one of {', '.join(Work.Kind.values)}")
    return snapshot.column["kind"] == Work.Kind.values.index(value)


def _number(value: str, low: int, high: int, what: str) -> int:
    if (number := whole_number(value, low, high)) is None:
        raise NotUnderstood(what)
    return number


def _year(snapshot: Snapshot, value: str) -> np.ndarray:
    first, _, last = value.partition("-")
    low = _number(first, 1900, 2999, "a year, 2023, or years, 2022-2024")
    high = _number(last or first, 1900, 2999, "a year, 2023, or years, 2022-2024")
    return (snapshot.column["year"] >= low) & (snapshot.column["year"] <= high)


def _days(value: str) -> tuple[int, int]:
    """Ordinals of the first and the last day of 2023, 2023-05 or 2023-05-17."""
    if not re.fullmatch(r"(19|2\d)\d\d(-\d\d){0,2}", value, re.ASCII):
        raise NotUnderstood("a year, month or day: 2023, 2023-05 or 2023-05-17")
    year, month, day = ([int(part) for part in value.split("-")] + [0, 0])[:3]
    try:
        first = datetime.date(year, month or 1, day or 1)
    except ValueError:
        raise NotUnderstood("a day that there is") from None
    last = first if day else datetime.date(year, month or 12, calendar.monthrange(year, month or 12)[1])
    return first.toordinal(), last.toordinal()


def _from(snapshot: Snapshot, value: str) -> np.ndarray:
    return snapshot.column["published"] >= _days(value)[0]


def _to(snapshot: Snapshot, value: str) -> np.ndarray:
    return (snapshot.column["published"] <= _days(value)[1]) & (snapshot.column["year"] > 0)


def _stars(snapshot: Snapshot, value: str) -> np.ndarray:
    return snapshot.column["stars"] >= _number(value, 0, 5, "a number from 0 to 5")


def _author(snapshot: Snapshot, value: str) -> np.ndarray:
    wanted = words(value)
    if not wanted:
        raise NotUnderstood("a name")
    found = {i for i, name in enumerate(snapshot.person.values) if all(f" {word}" in name for word in wanted)}
    return snapshot.person.having(found, snapshot.n)


def _verdict(snapshot: Snapshot, value: str) -> np.ndarray:
    if value not in OUTCOMES:
        raise NotUnderstood(f"one of {', '.join(OUTCOMES)}")
    found = {i for i, (_, outcome) in enumerate(snapshot.verdict.values) if outcome == value}
    return snapshot.verdict.having(found, snapshot.n)


def _device(snapshot: Snapshot, value: str) -> np.ndarray:
    if value not in DEVICES:
        raise NotUnderstood(f"one of {', '.join(DEVICES)}")
    found = {i for i, (device, _) in enumerate(snapshot.verdict.values) if device == value}
    return snapshot.verdict.having(found, snapshot.n)


def collection_of(value: str, user: Any = None) -> Any:
    """The collection with this number that `user` may see, or the one with this key, if it is shared; else None."""
    collections = apps.get_model("readers", "Collection").objects  # readers builds on catalog, so not by import
    if (number := whole_number(value, high=2**63 - 1)) is not None:
        public = collections.filter(visibility="public")
        return (collections.seen_by(user) if user else public).filter(pk=number).first()
    return collections.exclude(visibility="private").filter(key=value).first()


def _collection(snapshot: Snapshot, value: str, user: Any) -> np.ndarray:
    found = collection_of(value, user)
    if found is None:
        raise NotUnderstood("the number of a collection that you may see, or the key of its link")
    mask = np.zeros(snapshot.n, dtype=bool)
    mask[snapshot.places(found.works.values_list("pk", flat=True))] = True
    return mask


MASKS: dict[str, Callable[[Snapshot, str], np.ndarray]] = {
    "category": _category,
    "topic": _topic,
    "year": _year,
    "from": _from,
    "to": _to,
    "kind": _kind,
    "author": _author,
    "code": _yes("code"),
    "stars": _stars,
    "highlight": _yes("highlight"),
    "runnable": _yes("runnable"),
    "verdict": _verdict,
    "device": _device,
}
FILTERS = (*MASKS, "collection")


@dataclass
class Selection:
    """One address: `filters` from its parameters, checked, and the words of its box."""

    q: str = ""
    filters: dict[str, str] = field(default_factory=dict)
    sort: str = ""
    page: int = 1
    problems: list[str] = field(default_factory=list)
    user: Any = None

    @classmethod
    def read(cls, query: QueryDict, user: Any = None) -> "Selection":
        """From the query string; filters that are not understood are left out and said. `user` sees own collections."""
        selection = cls(q=query.get("q", "")[:300], user=user)
        for name in query:
            value = query.get(name, "").strip()
            if name in FILTERS and value:
                selection.filters[name] = value
            elif name == "sort" and value in SORTS:
                selection.sort = value
            elif name == "page" and (number := whole_number(value, low=1)):
                selection.page = number
            elif value and name in ("sort", "page"):
                expected = f"one of {', '.join(SORTS)}" if name == "sort" else "a number"
                selection.problems.append(f"{name}: expected {expected}, got “{value[:60]}”")
            elif name not in FILTERS and name not in ("q", "sort", "page"):
                selection.problems.append(f"“{name[:60]}” is no filter of this list")
        return selection

    @classmethod
    def typed(cls, text: str) -> "Selection":
        """From one line: the words of the search box, or an address's query string: `?q=flash&year=2023-2024`."""
        names = "|".join((*FILTERS, "q", "sort"))
        if re.fullmatch(rf"\?.*|({names})=[^&]*(&({names})=[^&]*)*", text.strip()):
            return cls.read(QueryDict(text.strip().removeprefix("?")))
        return cls(q=text[:300])

    @property
    def order(self) -> str:
        """The order to show: as asked, else best match for words, else as listed."""
        return self.sort or ("relevance" if self.q.strip() else "list")

    def address(self, **changes: str) -> str:
        """The query string with `changes`, from its first page; an empty value takes a filter away."""
        kept = {"q": self.q.strip(), "sort": self.sort} | self.filters | {"page": ""} | changes
        return "?" + urlencode({name: value for name, value in kept.items() if value})


@dataclass
class Chosen:
    """A selection applied: which works, by each filter alone, so that a facet can be counted with itself open."""

    selection: Selection
    found: Found
    masks: dict[str, np.ndarray]
    notes: list[str]
    problems: list[str]

    @property
    def mask(self) -> np.ndarray:
        """The works that pass everything."""
        return self.but("")

    def but(self, *names: str) -> np.ndarray:
        """The works that pass everything but these filters."""
        mask = self.found.mask.copy()
        for key, one in self.masks.items():
            if key not in names:
                mask &= one
        return mask


def choose(selection: Selection) -> Chosen:
    """Apply a selection. `field:value` words in the box narrow further, beside the filters of the address."""
    found = find(selection.q)
    chosen = Chosen(selection, found, {}, list(found.notes), [*selection.problems, *found.problems])
    asked = [(name, name, value) for name, value in selection.filters.items()]
    asked += [(f"{name} in the box", name, value) for name, value in found.fields.items()]
    for key, name, value in asked:
        try:
            if name == "collection":
                chosen.masks[key] = _collection(found.snapshot, value, selection.user)
            else:
                chosen.masks[key] = MASKS[name](found.snapshot, value)
        except NotUnderstood as expected:
            chosen.problems.append(f"{key}: expected {expected}, got “{value[:60]}”; it was left out")
            if key == name:
                del selection.filters[name]
    return chosen
