"""The catalogue as columns in memory, so that filters, facet counts and orders cost no query.

Read again when SearchVersion says that something changed: one small query a request. A work is a position in arrays of
length n; what it may have several of (categories, topics, verdicts) are pairs (work, value).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from django.db.models import Max

from catalog.models import Author, Authorship, Category, Entry, Link, SearchVersion, Standing, Topic, Work
from catalog.words import fold, words

KINDS = [value for value, _ in Work.Kind.choices]


@dataclass(frozen=True)
class Pairs:
    """Works and their values of a facet with several: positions of both, each pair once, and the values."""

    work: np.ndarray
    value: np.ndarray
    values: list

    def having(self, wanted: set[int], n: int) -> np.ndarray:
        """Which of n works have one of the values (by position): bool (n,)."""
        mask = np.zeros(n, dtype=bool)
        mask[self.work[np.isin(self.value, list(wanted))]] = True
        return mask

    def counts(self, mask: np.ndarray) -> np.ndarray:
        """How many works of the mask have each value."""
        return np.bincount(self.value[mask[self.work]], minlength=len(self.values))


class Names(NamedTuple):
    """What a work is called: title and slug as "|flashattention|", the list's tags alike, and all of it as text."""

    own: str
    listed: str
    text: str


@dataclass(frozen=True)
class Snapshot:
    """All works at one version. `column` holds one number a work; `entry_*` are the list's rows in its order."""

    version: int
    pks: np.ndarray
    place: dict[int, int]
    column: dict[str, np.ndarray]
    category: Pairs
    topic: Pairs
    verdict: Pairs
    person: Pairs
    names: list[Names]
    entry_pk: np.ndarray
    entry_work: np.ndarray
    entry_category: np.ndarray
    first_entry: np.ndarray

    @property
    def n(self) -> int:
        """How many works."""
        return len(self.pks)

    def places(self, pks) -> np.ndarray:
        """Positions of works by primary key, ascending; those that are no longer there are left out."""
        return np.array(sorted(self.place[pk] for pk in pks if pk in self.place), dtype=np.int64)


_held: dict[str, Snapshot] = {}


def current() -> Snapshot:
    """The snapshot of the database as it is now."""
    from django.db import connection

    number = SearchVersion.objects.filter(pk=1).values_list("number", flat=True).first() or 0
    key = str(connection.settings_dict["NAME"])
    held = _held.get(key)
    if held is None or held.version != number:
        held = _held[key] = _read(number)
    return held


def _read(version: int) -> Snapshot:
    rows = list(
        Work.objects.order_by("pk").values_list("pk", "title", "slug", "kind", "published", "published_precision")
    )
    pks = np.array([row[0] for row in rows], dtype=np.int64)
    place = {pk: i for i, pk in enumerate(pks.tolist())}
    n = len(rows)
    by_title = sorted(range(n), key=lambda i: fold(rows[i][1]))
    title_order = np.empty(n, dtype=np.int64)
    title_order[by_title] = np.arange(n)
    column = {
        "title": title_order,
        "kind": np.array([KINDS.index(row[3]) for row in rows], dtype=np.int64),
        "year": np.array([0 if row[5] == "none" else row[4].year for row in rows], dtype=np.int64),
        "published": np.array([row[4].toordinal() for row in rows], dtype=np.int64),
    }
    own = [[" ".join(words(row[1])), " ".join(words(row[2]))] for row in rows]
    listed: list[list[str]] = [[] for _ in rows]
    categories = list(Category.objects.all())
    entries = list(Entry.objects.values_list("pk", "work_id", "category_id", "stars", "highlights", "month", "tag"))
    entries = [entry for entry in entries if entry[1] in place]
    for entry in entries:
        listed[place[entry[1]]].append(" ".join(words(entry[6])))
    category_place = {category.pk: i for i, category in enumerate(categories)}
    entry_work = np.array([place[entry[1]] for entry in entries], dtype=np.int64)
    entry_category = np.array([category_place[entry[2]] for entry in entries], dtype=np.int64)
    for name, position in (("stars", 3), ("highlight", 4)):
        column[name] = np.zeros(n, dtype=np.int64)
        np.maximum.at(column[name], entry_work, np.array([entry[position] for entry in entries], dtype=np.int64))
    first_entry = np.full(n, len(entries), dtype=np.int64)
    np.minimum.at(first_entry, entry_work, np.arange(len(entries)))
    months = {place[work]: month for work, month in Entry.objects.values_list("work").annotate(Max("month"))}
    column["listed"] = np.array(
        [int(months.get(i, "0").replace("-", "")[:6].ljust(6, "0")) for i in range(n)], dtype=np.int64
    )
    column["code"] = np.zeros(n, dtype=bool)
    coded = Link.objects.filter(role=Link.Role.CODE).values_list("entry__work_id", flat=True).distinct()
    column["code"][[place[pk] for pk in coded if pk in place]] = True
    topics = list(Topic.objects.all())
    topic_place = {topic.pk: i for i, topic in enumerate(topics)}
    tagged = [(place[w], topic_place[t]) for w, t in Work.topics.through.objects.values_list("work_id", "topic_id")]
    verdict = _standings(column, place, n)
    people = list(Author.objects.all())
    person_place = {author.pk: i for i, author in enumerate(people)}
    written = [(place[w], person_place[a]) for w, a in Authorship.objects.values_list("work_id", "author_id")]
    return Snapshot(
        version=version,
        pks=pks,
        place=place,
        column=column,
        category=_pairs(list(zip(entry_work.tolist(), entry_category.tolist(), strict=True)), categories),
        topic=_pairs(tagged, topics),
        verdict=verdict,
        person=_pairs(written, [f" {' '.join(words(author.name))}" for author in people]),
        names=[_names(*both) for both in zip(own, listed, strict=True)],
        entry_pk=np.array([entry[0] for entry in entries], dtype=np.int64),
        entry_work=entry_work,
        entry_category=entry_category,
        first_entry=first_entry,
    )


def _names(own: list[str], listed: list[str]) -> Names:
    joined = [f"|{'|'.join(names).replace(' ', '')}|" for names in (own, listed)]
    return Names(own=joined[0], listed=joined[1], text=" " + " | ".join(own + listed))


def _standings(column: dict, place: dict[int, int], n: int) -> Pairs:
    """Fills runnable, newest and rating; the pairs of works and their (device, outcome)."""
    column["runnable"], column["newest"], column["rating"] = np.zeros(n, dtype=bool), np.zeros(n), np.zeros(n)
    values: dict[tuple, int] = {}
    pairs = []
    rows = Standing.objects.values_list("work_id", "runnable", "verdicts", "newest", "rating")
    for work, runnable, verdicts, newest, rating in rows:
        i = place[work]
        column["rating"][i] = rating
        column["runnable"][i], column["newest"][i] = runnable, newest.timestamp() if newest else 0
        pairs += [(i, values.setdefault(tuple(verdict), len(values))) for verdict in verdicts]
    return _pairs(pairs, list(values))


def _pairs(pairs: list[tuple[int, int]], values: list) -> Pairs:
    array = np.unique(np.array(pairs, dtype=np.int64).reshape(-1, 2), axis=0)
    return Pairs(array[:, 0], array[:, 1], values)
