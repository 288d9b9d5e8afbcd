"""What the address bar asks of the list: words, facets, order. What was not understood is said, never dropped."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from catalog.models import Category, Entry, Work
from catalog.search import rank

CODE = {"yes": "with code", "no": "without code"}
RUNNABLE = {"yes": "can be run", "no": "not yet"}
SORTS = {"list": "as listed", "relevance": "best match", "date": "newest", "stars": "stars"}


@dataclass
class Selection:
    """The filters of one address, checked; `problems` says what was not understood."""

    q: str = ""
    category: str = ""
    code: str = ""
    runnable: str = ""
    sort: str = ""
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, query: QueryDict, categories: list[Category]) -> "Selection":
        """From the query string."""
        selection = cls(q=query.get("q", "").strip()[:200])
        allowed = {"category": [c.slug for c in categories], "code": CODE, "runnable": RUNNABLE, "sort": SORTS}
        for name, values in allowed.items():
            value = query.get(name, "")
            if value and value not in values:
                selection.problems.append(f"{name}: expected one of {', '.join(values)}, got “{value[:60]}”")
            else:
                setattr(selection, name, value)
        unknown = [name for name in query if name not in {"q", *allowed}]
        selection.problems += [f"“{name[:60]}” is no filter of this list" for name in unknown]
        selection.sort = selection.sort or ("relevance" if selection.q else "list")
        return selection

    @property
    def grouped(self) -> bool:
        """Whether the rows are shown category by category, as the curator has them."""
        return not self.q and self.sort == "list"

    def address(self, **changes: str) -> str:
        """The query string with `changes`; an empty value takes a filter away."""
        kept = {"q": self.q, "category": self.category, "code": self.code, "runnable": self.runnable}
        default = "relevance" if self.q else "list"
        kept |= {"sort": "" if self.sort == default else self.sort} | changes
        return "?" + urlencode({name: value for name, value in kept.items() if value})

    def without(self, name: str) -> "Selection":
        """The same selection with one filter open, to count what its values would give."""
        return Selection(**{n: getattr(self, n) for n in ("q", "category", "code", "runnable", "sort")} | {name: ""})

    def tests(self) -> list[Callable[[Entry], bool]]:
        """What an entry must pass, words aside."""
        tests: list[Callable[[Entry], bool]] = []
        if self.category:
            tests.append(lambda entry: entry.category.slug == self.category)
        if self.code:
            tests.append(lambda entry: has_code(entry) == (self.code == "yes"))
        if self.runnable:
            tests.append(lambda entry: is_runnable(entry.work) == (self.runnable == "yes"))
        return tests


def has_code(entry: Entry) -> bool:
    """Whether the list links code for it."""
    return any(link.role == "code" for link in entry.links.all())


def is_runnable(work: Work) -> bool:
    """Whether it has a reproduction that can be run."""
    reproduction = getattr(work, "reproduction", None)
    return reproduction is not None and not reproduction.retired


class Listing:
    """The rows of a selection and the counts of its facets, from one reading of the list."""

    def __init__(self, selection: Selection, categories: list[Category]):
        self.selection, self.categories = selection, categories
        works = rank(Work.objects.for_list(), selection.q)
        self._place = {work.pk: place for place, work in enumerate(works)}
        self._entries = [self._with_work(entry, work) for work in works for entry in work.entries.all()]
        self.rows = self._sorted(self._matching(selection))

    @staticmethod
    def _with_work(entry: Entry, work: Work) -> Entry:
        entry.work = work
        return entry

    def _matching(self, selection: Selection) -> list[Entry]:
        tests = selection.tests()
        return [entry for entry in self._entries if all(test(entry) for test in tests)]

    def _sorted(self, rows: list[Entry]) -> list[Entry]:
        as_listed = sorted(rows, key=lambda e: (e.category.position, e.position))
        if self.selection.sort == "list":
            return as_listed
        first = list({entry.work_id: entry for entry in reversed(as_listed)}.values())[::-1]  # one row a work
        keys: dict[str, Callable[[Entry], Any]] = {
            "relevance": lambda e: self._place[e.work_id],
            "date": lambda e: (-e.work.published.toordinal(), e.work.title),
            "stars": lambda e: (-e.stars, -e.highlights, e.work.title),
        }
        return sorted(first, key=keys[self.selection.sort])

    @property
    def groups(self) -> list[tuple[Category, list[Entry]]]:
        """The rows category by category, empty ones left out."""
        found = [(c, [e for e in self.rows if e.category_id == c.pk]) for c in self.categories]
        return [(category, rows) for category, rows in found if rows]

    @property
    def work_count(self) -> int:
        """How many works the rows are."""
        return len({entry.work_id for entry in self.rows})

    def facets(self) -> list[dict]:
        """Each facet with its values, how many entries each would give, and the address that chooses it."""
        groups: list[tuple[str, str, list[tuple[str, str]]]] = [
            ("category", "Category", [(c.slug, c.name) for c in self.categories]),
            ("code", "Code", list(CODE.items())),
            ("runnable", "Reproduction", list(RUNNABLE.items())),
        ]
        return [self._facet(name, title, values) for name, title, values in groups]

    def _facet(self, name: str, title: str, values: list[tuple[str, str]]) -> dict:
        chosen, open_selection = getattr(self.selection, name), self.selection.without(name)
        options = []
        for value, label in values:
            narrowed = Selection(**vars(open_selection) | {name: value})
            count = len({entry.pk for entry in self._matching(narrowed)})
            address = self.selection.address(**{name: "" if value == chosen else value})
            options.append({"label": label, "count": count, "chosen": value == chosen, "address": address})
        return {"title": title, "name": name, "options": options}

    def sorts(self) -> list[dict]:
        """The orders with the address that chooses each."""
        offered = [name for name in SORTS if name != "relevance" or self.selection.q]
        return [
            {"label": SORTS[n], "chosen": n == self.selection.sort, "address": self.selection.address(sort=n)}
            for n in offered
        ]
