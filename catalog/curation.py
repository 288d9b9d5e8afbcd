"""Every change that a person makes of the catalogue: written with its author, time and reason, and known to search.

Rows that were loaded from files have no history until somebody changes them; what they were is noted first, so that
each change has a before and an after. Pages, the admin, the API and imports write through here.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from catalog import index
from catalog.models import Author, Authorship, Category, Claim, Entry, Link, Topic, Work
from config import clock
from config.text import NotPlain, visible

BATCH = 500
WAS = "as it was"  # the reason of a record that notes what a row was before its first change


def is_curator(user: Any) -> bool:
    """Whether somebody may change works and entries."""
    return user.is_staff or user.has_perm("catalog.change_work")


def values(row: Any) -> dict[str, Any]:
    """What people may change of a row, or of a record of its history: fields by name, authors and topics as names."""
    model = getattr(row, "instance_type", type(row))
    fields = [field.attname for field in model._meta.concrete_fields if field.editable and not field.primary_key]
    found = {name: getattr(row, name) for name in fields}
    if isinstance(row, Work):
        found["authors"] = list(row.authorships.values_list("author__name", flat=True))
        found["topics"] = sorted(row.topics.values_list("name", flat=True))
    elif model is Work:
        found["authors"] = list(row.authors.order_by("position").values_list("author__name", flat=True))
        found["topics"] = sorted(row.topics.values_list("topic__name", flat=True))
    return found


def change(row: Any, fields: dict[str, Any], user: Any, reason: str = "") -> Any:
    """Set fields of a row; those that differ are written. The row as it is now. ValidationError for what cannot be."""
    with transaction.atomic():
        now = type(row)._default_manager.select_for_update().filter(pk=row.pk).order_by("pk").first()
        if now is None:
            raise ValidationError("This was removed meanwhile; its work's history brings it back.")
        before = values(now)
        wanted = {
            name if name in before else f"{name}_id": getattr(value, "pk", value) for name, value in fields.items()
        }
        changed = {name: value for name, value in wanted.items() if value != before[name]}
        if not changed:
            return now
        _note_what_was(now, before)
        works = _works_of(now)
        for name in changed.keys() - {"authors", "topics"}:
            setattr(now, name, changed[name])
        kept = {field.name for field in now._meta.concrete_fields if field.attname not in changed}
        now.clean_fields(exclude=kept)  # what a list brought in may stay as it is
        now.validate_unique()
        now.validate_constraints()
        if "authors" in changed:
            _set_authors(now, changed["authors"])
        if "topics" in changed:
            _set_topics(now, changed["topics"])
        _sign(now, user, reason)
        now.save()
        index.refresh(works | _works_of(now))
        return now


def add(row: Any, user: Any, reason: str = "", *, known: bool = False) -> Any:
    """Write a new row, or one that was there before (`known`). ValidationError if it cannot be."""
    with transaction.atomic():
        if not known:
            row.clean_fields()
        row.validate_unique()
        row.validate_constraints()
        _sign(row, user, reason)
        row.save(force_insert=True)
        index.refresh(_works_of(row))
        return row


def remove(row: Entry | Link | Claim, user: Any, reason: str = "") -> bool:
    """Take a row away, an entry with its links; `history.undo` brings it back. False if it was gone already."""
    with transaction.atomic():
        if type(row)._default_manager.select_for_update().filter(pk=row.pk).order_by("pk").first() is None:
            return False
        works, moment = _works_of(row), clock.now()
        for one in [*(row.links.all() if isinstance(row, Entry) else ()), row]:
            _sign(one, user, reason)
            one._history_date = moment  # type: ignore[union-attr]
            one.delete()
        index.refresh(works)
        return True


def note_created(rows: Iterable[Any], user: Any, reason: str) -> None:
    """Records of rows that were written together, which signals do not see."""
    _note(list(rows), user, reason, created=True)


def note_before(rows: Iterable[Any]) -> None:
    """What rows are, before they are changed together, where the newest record says otherwise."""
    for row in rows:
        _note_what_was(row, values(row))


def note_changed(rows: Iterable[Any], user: Any, reason: str) -> None:
    """Records of rows that were changed together."""
    _note(list(rows), user, reason, created=False)


def next_position(rows: models.QuerySet) -> int:
    """The place after the last."""
    last = rows.aggregate(last=models.Max("position"))["last"]
    return 0 if last is None else last + 1


def _sign(row: Any, user: Any, reason: str) -> None:
    row._history_user = user if user is not None and user.is_authenticated else None
    row._change_reason = reason[:100]


def _works_of(row: Any) -> set[int]:
    if isinstance(row, Work):
        return {row.pk}
    if isinstance(row, Category):
        return set(row.entries.values_list("work", flat=True))
    return {row.entry.work_id} if isinstance(row, Link) else {row.work_id}


def _note_what_was(row: Any, before: dict[str, Any]) -> None:
    last = row.history.first()
    if last is None or last.history_type == "-" or values(last) != before:
        _note([row], None, WAS, created=False)


def _note(rows: list[Any], user: Any, reason: str, *, created: bool) -> None:
    for chunk in _chunks(rows):
        for row in chunk:
            _sign(row, user, reason)
        model = type(chunk[0])
        records = model.history.bulk_history_create(chunk, batch_size=BATCH, update=not created)
        if model is Work:
            _note_names({record.id: record for record in records})


def _note_names(records: dict[int, Any]) -> None:
    """Authors and topics beside new records of works."""
    for name, through in (("authors", Authorship), ("topics", Work.topics.through)):
        noted: Any = getattr(Work.history.model, name).model
        rows = through._default_manager.filter(work_id__in=records)
        fields = [field.attname for field in through._meta.concrete_fields]
        noted.objects.bulk_create(
            (noted(history=records[row.work_id], **{f: getattr(row, f) for f in fields}) for row in rows),
            batch_size=BATCH,
        )


def _chunks(rows: list[Any]) -> Iterator[list[Any]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def _set_authors(work: Work, names: list[str]) -> None:
    work.authorships.all().delete()
    try:
        authors = [Author.objects.get_or_create(name=visible(name))[0] for name in names]
    except NotPlain as error:
        raise ValidationError(f"authors: {error}") from None
    Authorship.objects.bulk_create(Authorship(work=work, author=a, position=i) for i, a in enumerate(authors))


def _set_topics(work: Work, names: list[str]) -> None:
    quiet: Any = work  # one record a change: that of the work itself, which follows
    quiet.skip_history_when_saving = True
    quiet.topics.set([Topic.objects.get_or_create(name=name)[0] for name in names])
    del quiet.skip_history_when_saving
