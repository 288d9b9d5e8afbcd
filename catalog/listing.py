"""The rows of a selection, page by page, and its facets with counts."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from catalog.models import Category, Entry, Work
from catalog.selection import DEVICES, OUTCOMES, SORTS, Chosen, Selection, categories, choose, collection_of
from catalog.snapshot import KINDS

PAGE = 100
MANY = 15  # values of a facet that are shown before "more"


@dataclass
class Row:
    """One line of the list: a work, and the entry it is listed by, if any."""

    work: Work
    entry: Entry | None


@dataclass
class Option:
    """One value of a facet: how many works it would give, and the address that chooses it (or takes it away)."""

    label: str
    count: int
    chosen: bool
    address: str


@dataclass
class Facet:
    """A filter with its values."""

    title: str
    options: list[Option] = field(default_factory=list)
    more: list[Option] = field(default_factory=list)

    @property
    def chosen(self) -> bool:
        """Whether one of the values is chosen."""
        return any(option.chosen for option in self.options)


class Listing:
    """One page of the rows of a selection."""

    def __init__(self, selection: Selection, size: int = 0):
        """`size`: works a page; 0 gives the list's own rows, a hundred a page."""
        self.selection, self.size = selection, size or PAGE
        self.chosen: Chosen = choose(selection)
        self.snapshot = self.chosen.found.snapshot
        self.mask = self.chosen.mask
        self.work_count = int(self.mask.sum())
        self.grouped = selection.order == "list" and not size
        self._places = self._entry_places() if self.grouped else self._work_places()
        self.row_count = len(self._places)
        self.pages = max(1, -(-self.row_count // self.size))
        self.page = min(selection.page, self.pages)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of this page."""
        return self._entry_rows(self._part) if self.grouped else self._work_rows(self._part)

    @property
    def _part(self) -> np.ndarray:
        return self._places[(self.page - 1) * self.size : self.page * self.size]

    @property
    def key(self) -> str:
        """What the rows of this page follow from, beside the address: which they are, and the state of all works."""
        return f"{self.snapshot.version} {hashlib.sha256(self._part.tobytes()).hexdigest()}"

    def works(self) -> list[Work]:
        """The works of this page, once each, where `size` was given."""
        works = self._entries(self._part)
        return [works[self.snapshot.pks[place]] for place in self._part]

    @property
    def loose(self) -> list[tuple[str, str]]:
        """Chosen filters that no facet shows, as words, and the address without each."""
        names = [name for name in ("author", "from", "to", "year", "collection") if name in self.selection.filters]
        values = {name: self.selection.filters[name] for name in names}
        if "collection" in values and (found := collection_of(values["collection"], self.selection.user)):
            values["collection"] = found.name
        return [
            (f"{name}: {value}", self.selection.address(**{name: ""}))
            for name, value in values.items()
            if name != "year" or "-" in value
        ]

    def order(self) -> np.ndarray:
        """Primary keys of all the works, in order: what exports and the API take."""
        return self.snapshot.pks[self._work_places()]

    def _work_places(self) -> np.ndarray:
        places, column = np.flatnonzero(self.mask), self.snapshot.column
        first = {
            "relevance": [-self.chosen.found.score, -column["stars"]],
            "date": [-column["published"]],
            "listed": [-column["listed"]],
            "stars": [-column["stars"], -column["highlight"]],
            "rating": [-column["rating"]],
            "result": [-column["newest"]],
            "title": [],
            "list": [self.snapshot.first_entry],
        }[self.selection.order]
        keys = [key[places] for key in [*first, column["title"]]]
        return places[np.lexsort(keys[::-1])]

    def _entry_places(self) -> np.ndarray:
        """Places of entries in the list's order, then works without an entry as -1 - place."""
        keep = self.mask[self.snapshot.entry_work]
        if value := self.selection.filters.get("category"):
            keep &= np.isin(self.snapshot.entry_category, list(categories(self.snapshot, value)))
        unlisted = self.mask.copy()
        unlisted[self.snapshot.entry_work] = False
        return np.concatenate([np.flatnonzero(keep), -1 - np.flatnonzero(unlisted)])

    def _entry_rows(self, places: np.ndarray) -> list[Row]:
        entries = self._entries([self.snapshot.entry_work[i] if i >= 0 else -1 - i for i in places])
        rows = []
        for i in places:
            pk = self.snapshot.pks[self.snapshot.entry_work[i] if i >= 0 else -1 - i]
            work = entries[pk]
            listed = [entry for entry in work.entries.all() if i >= 0 and entry.pk == self.snapshot.entry_pk[i]]
            rows.append(Row(work, listed[0] if listed else None))
        return rows

    def _work_rows(self, places: np.ndarray) -> list[Row]:
        works, slug = self._entries(places), self.selection.filters.get("category")
        rows = []
        for place in places:
            work = works[self.snapshot.pks[place]]
            entries = sorted(work.entries.all(), key=lambda entry: entry.category.slug != slug)
            rows.append(Row(work, entries[0] if entries else None))
        return rows

    def _entries(self, places) -> dict[int, Work]:
        pks = [int(self.snapshot.pks[place]) for place in places]
        return {work.pk: work for work in Work.objects.for_list().filter(pk__in=pks)}

    @property
    def groups(self) -> list[tuple[Category | None, list[Row]]]:
        """The rows of this page category by category."""
        groups: list[tuple[Category | None, list[Row]]] = []
        for row in self.rows:
            category = row.entry.category if row.entry else None
            if not groups or groups[-1][0] != category:
                groups.append((category, []))
            groups[-1][1].append(row)
        return groups

    def sorts(self) -> list[dict]:
        """The orders to choose from."""
        default = "relevance" if self.selection.q.strip() else "list"
        return [
            {
                "label": label,
                "chosen": self.selection.order == name,
                "address": self.selection.address(sort="" if name == default else name),
            }
            for name, label in SORTS.items()
            if name != "relevance" or self.selection.q.strip()
        ]

    def facets(self) -> list[Facet]:
        """Each facet counted with itself open."""
        column = self.snapshot.column
        facets = [
            self._pairs("Category", "category", self.snapshot.category, lambda c: (c.slug, c.name), keep_order=True),
            self._column("Code", "code", column["code"], [(1, "yes", "with code"), (0, "no", "without code")]),
            self._column("Reproduction", "runnable", column["runnable"],
                         [(1, "yes", "can be run"), (0, "no", "not yet")]),
            self._verdicts("Verdict", "verdict", OUTCOMES, 1),
            self._verdicts("Measured on", "device", DEVICES, 0),
            self._stars(),
            self._column("Flames", "highlight", column["highlight"] > 0, [(1, "yes", "highlighted")]),
            self._pairs("Topic", "topic", self.snapshot.topic, lambda topic: (topic.name, topic.name)),
            self._column("Year", "year", column["year"],
                         [(year, str(year), str(year)) for year in np.unique(column["year"])[::-1] if year]),
            self._column("Kind", "kind", column["kind"],
                         [(i, kind, Work.Kind(kind).label) for i, kind in enumerate(KINDS)]),
        ]  # fmt: skip
        return [facet for facet in facets if facet.options]

    def _facet(self, title: str, name: str, values: list[tuple[str, str, int]], keep_order: bool = False) -> Facet:
        now = self.selection.filters.get(name, "")
        options = [
            Option(label, count, value == now, self.selection.address(**{name: "" if value == now else value}))
            for value, label, count in values
            if count or value == now
        ]
        if keep_order or len(options) <= MANY:
            return Facet(title, options)
        options.sort(key=lambda option: (not option.chosen, -option.count, option.label))
        return Facet(title, options[:MANY], options[MANY:])

    def _column(self, title: str, name: str, column: np.ndarray, values: list[tuple]) -> Facet:
        open_mask = self.chosen.but(name)
        counts = [(value, label, int((open_mask & (column == key)).sum())) for key, value, label in values]
        return self._facet(title, name, counts, keep_order=True)

    def _stars(self) -> Facet:
        open_mask, column = self.chosen.but("stars"), self.snapshot.column["stars"]
        levels = [(n, int((open_mask & (column >= n)).sum())) for n in range(1, int(column.max(initial=0)) + 1)]
        return self._facet("Stars", "stars", [(str(n), f"{n} or more", count) for n, count in levels], keep_order=True)

    def _pairs(self, title: str, name: str, pairs, naming, keep_order: bool = False) -> Facet:
        counts = pairs.counts(self.chosen.but(name)).tolist()
        values = [(*naming(value), count) for value, count in zip(pairs.values, counts, strict=True)]
        if not keep_order:
            values.sort(key=lambda one: (-one[2], one[1]))
        return self._facet(title, name, values, keep_order)

    def _verdicts(self, title: str, name: str, values: tuple[str, ...], part: int) -> Facet:
        open_mask, pairs = self.chosen.but(name), self.snapshot.verdict
        counts = []
        for value in values:
            having = pairs.having({i for i, pair in enumerate(pairs.values) if pair[part] == value}, self.snapshot.n)
            counts.append((value, value, int((open_mask & having).sum())))
        return self._facet(title, name, counts, keep_order=True)
