"""Who changed what of a work, when, from what to what; and undoing one change."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from catalog import curation
from catalog.models import Category, Claim, Entry, Link, Work

KINDS: dict[str, Any] = {"work": Work, "entry": Entry, "claim": Claim, "link": Link}
NAMES = {"category_id": "category", "entry_id": "entry", "work_id": "work"}
QUIET = ("work", "entry", "position")  # which the page tells by itself


class Refused(Exception):
    """A change that cannot be undone; the message says why."""


@dataclass
class Field:
    """One field of a change, as people read it."""

    name: str
    before: str
    after: str


@dataclass
class Change:
    """One change of one row. `kind` is work, entry, link or claim; `before` is None for a row that was made."""

    kind: str
    record: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    fields: list[Field] = field(default_factory=list)

    @property
    def what(self) -> str:
        """added, changed or removed."""
        return {"+": "added", "~": "changed", "-": "removed"}[self.record.history_type]

    @property
    def of(self) -> str:
        """Which row, in words."""
        record = self.record
        return {"work": lambda: "", "entry": lambda: record.tag or record.title, "link": lambda: record.url,
                "claim": lambda: record.key}[self.kind]()  # fmt: skip

    @property
    def can_undo(self) -> bool:
        """Whether there is something to set back; whether that is still possible is seen when it is tried."""
        return self.kind != "work" or self.record.history_type == "~"


def of_work(work: Work) -> list[Change]:
    """All changes of a work and of what belongs to it, the newest first."""
    entries = Entry.history.filter(work_id=work.pk)
    listed = {*work.entries.values_list("pk", flat=True), *entries.values_list("id", flat=True)}
    records = {
        "work": Work.history.filter(id=work.pk),
        "entry": entries,
        "link": Link.history.filter(entry_id__in=listed),
        "claim": Claim.history.filter(work_id=work.pk),
    }
    changes = [change for kind, found in records.items() for change in _changes(kind, found)]
    names = dict(Category.objects.values_list("pk", "name"))
    for change in changes:
        change.fields = _fields(change, names)
    rank = list(reversed(KINDS))  # an entry that went with its links stands above them
    return sorted(changes, key=lambda c: (c.record.history_date, rank.index(c.kind), c.record.history_id), reverse=True)


def _changes(kind: str, records: models.QuerySet) -> Iterator[Change]:
    last: dict[int, tuple[str, dict[str, Any]]] = {}
    for record in records.select_related("history_user").order_by("history_date", "history_id"):
        known, before = last.get(record.id, ("", None))
        after = curation.values(record)
        last[record.id] = (record.history_type, after)
        if record.history_type == "-":
            yield Change(kind, record, after, None)
        elif record.history_type == "+" or known in ("", "-"):
            if record.history_type == "+":
                yield Change(kind, record, None, after)
        elif before != after and record.history_change_reason != curation.WAS:
            yield Change(kind, record, before, after)


def _fields(change: Change, categories: dict[int, str]) -> list[Field]:
    before, after = change.before or {}, change.after or {}
    fields = []
    for name in after or before:
        if before.get(name) != after.get(name) and NAMES.get(name, name) not in QUIET:
            told = [_told(name, side.get(name), categories) for side in (before, after)]
            if any(told):
                fields.append(Field(NAMES.get(name, name).replace("_", " "), *told))
    return fields


def _told(name: str, value: Any, categories: dict[int, str]) -> str:
    if name == "category_id":
        return categories.get(value, "" if value is None else f"category {value}")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def undo(kind: str, number: int, user: Any) -> None:
    """Undo the change with this number of a work, entry, link or claim. Refused if it cannot be any more."""
    record = KINDS[kind].history.get(history_id=number)
    reason = f"undo of {kind} change {number}"
    try:
        with transaction.atomic():
            {"~": _set_back, "+": _take_away, "-": _bring_back}[record.history_type](kind, record, user, reason)
    except ValidationError as error:
        raise Refused(" ".join(error.messages)) from None


def _row(kind: str, record: Any) -> Any:
    row = KINDS[kind].objects.select_for_update().filter(pk=record.id).first()
    if row is None:
        raise Refused(f"this {kind} was removed since: bring it back first")
    return row


def _previous(record: Any) -> Any:
    earlier = models.Q(history_date__lt=record.history_date)
    earlier |= models.Q(history_date=record.history_date, history_id__lt=record.history_id)
    return type(record).objects.filter(earlier, id=record.id).order_by("-history_date", "-history_id").first()


def _set_back(kind: str, record: Any, user: Any, reason: str) -> None:
    previous = _previous(record)
    if previous is None or record.history_change_reason == curation.WAS:
        raise Refused("nothing is known of how it was before")
    before, after = curation.values(previous), curation.values(record)
    changed = [name for name in after if before.get(name) != after[name]]
    row = _row(kind, record)
    now = curation.values(row)
    _unchanged_since(changed, after, now)
    if "category_id" in changed and not Category.objects.filter(pk=before["category_id"]).exists():
        raise Refused("the category that it was in is gone")
    curation.change(row, {name: before[name] for name in changed}, user, reason)


def _unchanged_since(names: list[str], after: dict[str, Any], now: dict[str, Any]) -> None:
    since = [NAMES.get(name, name).replace("_", " ") for name in names if now[name] != after[name]]
    if since:
        raise Refused(f"{', '.join(since)} {'was' if len(since) == 1 else 'were'} changed again since: undo that first")


def _take_away(kind: str, record: Any, user: Any, reason: str) -> None:
    if kind == "work":
        raise Refused("a work that was added is not removed: its runs and its readers' ratings would go with it")
    row, after = _row(kind, record), curation.values(record)
    _unchanged_since([name for name in after if name != "position"], after, curation.values(row))
    curation.remove(row, user, reason)


def _bring_back(kind: str, record: Any, user: Any, reason: str) -> None:
    if KINDS[kind].objects.filter(pk=record.id).exists():
        raise Refused(f"this {kind} is there again already")
    for name, model in (("work_id", Work), ("entry_id", Entry), ("category_id", Category)):
        if hasattr(record, name) and not model.objects.filter(pk=getattr(record, name)).exists():
            raise Refused(f"its {NAMES[name]} is gone: bring that back first")
    curation.add(record.instance, user, reason, known=True)
    if kind == "entry":
        gone = Link.history.filter(entry_id=record.id, history_type="-", history_date=record.history_date)
        for link in gone:
            curation.add(link.instance, user, reason, known=True)
