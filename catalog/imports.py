"""A list in Markdown comes into the catalogue: first a plan, row by row, then all of it at once or nothing.

Nothing is ever removed: a row adds what is missing and changes what it says otherwise; what it does not say stays.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Max

from catalog import curation, index
from catalog.import_rows import Item, NewWork, Planner, unique_slug
from catalog.markdown_list import Missed, parse
from catalog.models import Author, Authorship, Category, Entry, Link, ListImport, Work
from config import clock, quota

BATCH = 500


class Octets(models.Func):
    """How many bytes a text takes."""

    function, output_field = "OCTET_LENGTH", models.IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Old versions have no such function."""
        return self.as_sql(compiler, connection, template="LENGTH(CAST(%(expressions)s AS BLOB))", **context)


def check_room(user: Any, text: str) -> None:
    """quota.Full if this curator has as many lists that wait to be applied, or as many bytes of lists, as one may."""
    then = "apply or remove some first"
    own = ListImport.objects.filter(user=user)
    quota.check(own.filter(applied_at=None).count(), settings.IMPORT_DRAFTS_PER_USER, "lists to be applied", then)
    held = own.aggregate(size=models.Sum(Octets("text")))["size"] or 0
    if held + len(text.encode()) > settings.IMPORT_DRAFTS_MIB * 2**20:
        limit = settings.IMPORT_DRAFTS_MIB
        raise quota.Full(f"your lists take {held / 2**20:.1f} MiB, and with this one more than {limit}: {then}")


def keep(user: Any, name: str, text: str) -> ListImport:
    """An upload, to be looked at and applied; quota.Full if there is no room for it. Old ones go."""
    expire()
    check_room(user, text)  # before the work of a plan, and again when nobody else counts
    digest = plan(text).digest
    with quota.held(user):
        check_room(user, text)
        return ListImport.objects.create(name=name, text=text, digest=digest, user=user)


def expire() -> int:
    """Remove lists that nobody has applied for long, and the text of those that were applied; how many went."""
    old = ListImport.objects.filter(created_at__lt=clock.now() - timedelta(days=settings.IMPORT_DRAFT_DAYS))
    old.exclude(applied_at=None).exclude(text="").update(text="")
    return old.filter(applied_at=None).delete()[0]


@dataclass
class Plan:
    """What importing a list would do; `missed` are the rows that were not understood."""

    items: list[Item]
    missed: list[Missed]
    new_works: dict[int, NewWork]
    new_categories: list[str] = field(default_factory=list)

    def slugs(self, kind: str) -> list[str]:
        """The works that are created, changed or left (`unchanged`), each once: a change outweighs an unchanged row."""
        rank = {"unchanged": 0, "change": 1, "create": 2}
        best: dict[str, str] = {}
        for item in self.items:
            if item.kind in rank and rank[item.kind] >= rank.get(best.get(item.slug, ""), -1):
                best[item.slug] = item.kind
        return [slug for slug, found in best.items() if found == kind]

    @property
    def questions(self) -> list[Item]:
        """The rows that only a person can place."""
        return [item for item in self.items if item.kind == "question"]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The numbers that are told of a plan."""
        return {
            "rows_read": len(self.items),
            "created": len(self.slugs("create")),
            "updated": len(self.slugs("change")),
            "unchanged": len(self.slugs("unchanged")),
            "questions": len(self.questions),
            "not_understood": len(self.missed),
        }

    @property
    def writes(self) -> bool:
        """Whether applying it would change anything."""
        return any(item.kind in ("create", "change") for item in self.items)

    @property
    def digest(self) -> str:
        """Equal for equal plans."""
        told = [[i.row.line, i.kind, i.slug, i.category, i.changes, i.candidates, i.note] for i in self.items]
        text = json.dumps([told, [asdict(missed) for missed in self.missed]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plan(text: str, answers: Mapping[int, str] | None = None) -> Plan:
    """What importing `text` would do; `answers` place rows in question, by line: a work's slug or `new`."""
    parsed = parse(text)
    planner = Planner(parsed.rows, answers or {})
    items = [item for row in parsed.rows if (item := planner.place(row))]
    missed = sorted([*parsed.missed, *planner.missed], key=lambda missed: missed.line)
    return Plan(items, missed, planner.new_works, list(planner.new_categories.values()))


def apply(plan: Plan, user: Any = None, reason: str = "import") -> dict[str, int]:
    """Write a plan in one transaction, as `user`; the counts of what was done."""
    with transaction.atomic():
        categories = _categories(plan.new_categories)
        works = _works(plan.new_works)
        curation.note_created(Work.objects.filter(pk__in=works.values()), user, reason)
        curation.note_created(Category.objects.filter(name__in=plan.new_categories), user, reason)
        for item in plan.items:
            item.work = works.get(item.work, item.work)
        written = [item for item in plan.items if item.kind in ("create", "change")]
        _change_works(written, user, reason)
        _entries(written, categories, user, reason)
        if touched := {item.work for item in written if item.work}:
            index.refresh(sorted(touched))
    return plan.counts


def _categories(names: Iterable[str]) -> dict[str, int]:
    """All categories by name, the new ones made after the others."""
    last = Category.objects.aggregate(last=Max("position"))["last"]
    taken = set(Category.objects.values_list("slug", flat=True))
    for position, name in enumerate(names, start=0 if last is None else last + 1):
        slug = unique_slug(name, taken, "category")
        Category.objects.bulk_create([Category(name=name, slug=slug, position=position)])
    return dict(Category.objects.values_list("name", "pk"))


def _works(new: dict[int, NewWork]) -> dict[int, int]:
    """Made works: their numbers in the plan, and their keys."""
    made = Work.objects.bulk_create((Work(**work.fields) for work in new.values()), batch_size=BATCH)
    pks = {number: work.pk for number, work in zip(new, made, strict=True)}
    names = {name for work in new.values() for name in work.authors}
    known = {
        name
        for chunk in _chunks(sorted(names))
        for name in Author.objects.filter(name__in=chunk).values_list("name", flat=True)
    }
    Author.objects.bulk_create((Author(name=name) for name in sorted(names - known)), batch_size=BATCH)
    authors = {
        name: pk
        for chunk in _chunks(sorted(names))
        for name, pk in Author.objects.filter(name__in=chunk).values_list("name", "pk")
    }
    Authorship.objects.bulk_create(
        (
            Authorship(work_id=pks[number], author_id=authors[name], position=i)
            for number, work in new.items()
            for i, name in enumerate(dict.fromkeys(work.authors))
        ),
        batch_size=BATCH,
    )
    return pks


def _chunks(values: list) -> Iterable[list]:
    return (values[start : start + BATCH] for start in range(0, len(values), BATCH))


def _change_works(items: list[Item], user: Any, reason: str) -> None:
    """What the catalogue did not know of a work; seldom more than a few."""
    for item in items:
        if item.work_changes:
            curation.note_before(Work.objects.filter(pk=item.work))
            Work.objects.filter(pk=item.work).update(**item.work_changes)
            curation.note_changed(Work.objects.filter(pk=item.work), user, reason)


def _entries(items: list[Item], categories: dict[str, int], user: Any, reason: str) -> None:
    """New entries after the others of their category, changed ones in place, and the links of both."""
    last = dict(Entry.objects.values_list("category").annotate(last=Max("position")).order_by())
    new = []
    for item in (item for item in items if item.new_entry):
        category = categories[item.category]
        last[category] = last.get(category, -1) + 1
        new.append(Entry(category_id=category, work_id=item.work, position=last[category], **item.new_entry))
    made = Entry.objects.bulk_create(new, batch_size=BATCH)
    curation.note_created(made, user, reason)
    links = [(entry.pk, 0, item) for entry, item in zip(made, (item for item in items if item.new_entry), strict=True)]
    changed = {item.entry: item for item in items if item.entry and (item.entry_changes or item.new_links)}
    held = {
        entry.pk: entry
        for chunk in _chunks(sorted(changed))
        for entry in Entry.objects.filter(pk__in=chunk).prefetch_related("links")
    }
    mended = [held[pk] for pk, item in changed.items() if item.entry_changes]
    curation.note_before(mended)
    for pk, item in changed.items():
        for name, value in item.entry_changes.items():
            setattr(held[pk], name, value)
        links.append((pk, len(held[pk].links.all()), item))
    Entry.objects.bulk_update(
        mended,
        ["month", "tag", "bold", "title", "highlights", "stars"],
        batch_size=100,
    )
    curation.note_changed(mended, user, reason)
    added = Link.objects.bulk_create(
        (
            Link(entry_id=pk, position=first + i, role=link.role, label=link.label, url=link.url)
            for pk, first, item in links
            for i, link in enumerate(item.new_links)
        ),
        batch_size=BATCH,
    )
    curation.note_created(added, user, reason)
