"""The files of catalog/data become rows.

A row is written when its file says something else than at the last load, so what people have changed since stays; rows
that came from elsewhere, such as an imported list, are not touched. A load of the same files writes nothing.
"""

import datetime
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from django.db import models, transaction

from catalog import index
from catalog.models import Author, Authorship, Category, Claim, Entry, Link, SearchVersion, Topic, Work
from config.text import NotPlain, plain_link, visible

DATA = Path(__file__).resolve().parent / "data"
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, ten times as fast, where the wheel has it
WORK_FIELDS = ("title", "kind", "arxiv_id", "doi", "url", "venue", "authors_complete", "metadata_verified",
               "metadata_source")  # fmt: skip
CLAIM_FIELDS = ("statement", "metric", "direction", "value", "unit", "conditions", "place", "source", "verified",
                "needs")  # fmt: skip
LINKS = ("url", "source")
ENTRY_FIELDS = ("month", "tag", "bold", "title", "highlights", "stars")


class BadData(ValueError):
    """A file is not what was expected; the message is one line that names it."""


def load(folder: Path = DATA) -> dict[str, int]:
    """Bring the database in line with `folder`, in one transaction; counts of rows created, updated, removed."""
    counts = {"created": 0, "updated": 0, "unchanged": 0, "removed": 0}
    paths = sorted((folder / "papers").glob("*.yaml"))
    with transaction.atomic():
        works = {path.stem: _load_work(path, counts) for path in paths}
        _load_list(folder / "list.yaml", works, counts)
        counts["removed"] += _bundled(Work).exclude(slug__in=works).delete()[0]
        if counts["created"] + counts["updated"] + counts["removed"] or not SearchVersion.objects.exists():
            index.rebuild()
    return counts


def _read(path: Path) -> dict:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=SAFE_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadData(f"{path.name}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise BadData(f"{path.name}: expected a mapping, got {type(data).__name__}")
    try:
        _check(data)
    except NotPlain as error:
        raise BadData(f"{path.name}: {error}") from None
    return data


def _check(data: Any, name: str = "") -> None:
    """Every text of a file can be seen, and every link of it leads where it seems to; else NotPlain."""
    for key, value in data.items() if isinstance(data, dict) else [(name, one) for one in data]:
        if isinstance(value, dict | list):
            _check(value, str(key))
        elif isinstance(value, str):
            try:
                visible(value, lines=True)
                if key in LINKS and value.startswith(("http:", "https:")):
                    plain_link(value.split()[0])  # a source may say more behind it
            except NotPlain as error:
                raise NotPlain(f"{key}: {error}") from None


def _take(path: Path, data: dict, field: str) -> Any:
    if field not in data:
        raise BadData(f"{path.name}: expected the field {field}, got only {', '.join(map(str, data)) or 'none'}")
    return data[field]


def published(path: Path, text: str) -> tuple[datetime.date, str]:
    """A date as far as it is known, and how far: 2023-09-29, 2023-10 or 2022."""
    parts = str(text).split("-")
    try:
        numbers = [int(part) for part in parts]
        return datetime.date(*(numbers + [1, 1])[:3]), ("year", "month", "day")[len(parts) - 1]
    except (ValueError, IndexError):
        raise BadData(f"{path.name}: published: expected YYYY, YYYY-MM or YYYY-MM-DD, got {text!r}") from None


def _load_work(path: Path, counts: dict) -> Work:
    data = _read(path)
    if _take(path, data, "slug") != path.stem:
        raise BadData(f"{path.name}: slug: expected {path.stem!r}, got {data['slug']!r}")
    fields = {name: _take(path, data, name) for name in WORK_FIELDS}
    fields |= {"doi": fields["doi"] or "", "venue": fields["venue"] or ""}
    fields["published_title"] = data.get("published_title") or ""
    if fields["kind"] not in Work.Kind.values:
        raise BadData(f"{path.name}: kind: expected one of {', '.join(Work.Kind.values)}, got {fields['kind']!r}")
    fields["published"], fields["published_precision"] = published(path, _take(path, data, "published"))
    authors, topics = _take(path, data, "authors"), sorted(set(_take(path, data, "topics")))
    work, news = _upsert(Work, {"slug": path.stem}, fields, counts, beside=[authors, topics])
    if news:
        _set_authors(work, authors, counts)
        if topics != sorted(topic.name for topic in work.topics.all()):
            work.skip_history_when_saving = True  # type: ignore[attr-defined]
            work.topics.set([Topic.objects.get_or_create(name=name)[0] for name in topics])
    kept = []
    for position, claim in enumerate(_take(path, data, "claims")):
        fields = {name: _take(path, claim, name) for name in CLAIM_FIELDS} | {"position": position}
        if fields["direction"] not in Claim.Direction.values:
            expected = ", ".join(Claim.Direction.values)
            raise BadData(
                f"{path.name}: {claim['id']}: direction: expected one of {expected}, got {fields['direction']!r}"
            )
        row, _ = _upsert(Claim, {"work": work, "key": _take(path, claim, "id")}, fields, counts)
        kept += [row.pk] if row else []
    _remove(_bundled(Claim).filter(work=work).exclude(pk__in=kept), counts)
    return work


def _set_authors(work: Work, names: list[str], counts: dict) -> None:
    if names == [a.author.name for a in work.authorships.select_related("author")]:
        return
    work.authorships.all().delete()
    authors = [Author.objects.get_or_create(name=name)[0] for name in names]
    Authorship.objects.bulk_create(Authorship(work=work, author=a, position=i) for i, a in enumerate(authors))
    counts["updated"] += 1


def _load_list(path: Path, works: dict[str, Work], counts: dict) -> None:
    kept_categories, kept_entries = [], []
    for position, group in enumerate(_take(path, _read(path), "categories")):
        key = {"slug": _take(path, group, "anchor").lower()}
        category, _ = _upsert(Category, key, {"name": _take(path, group, "name"), "position": position}, counts)
        kept_categories.append(category.pk)
        for place, row in enumerate(_take(path, group, "entries")):
            if _take(path, row, "work") not in works:
                raise BadData(f"{path.name}: {category.name}: expected a work of papers/, got {row['work']!r}")
            fields = {name: _take(path, row, name) for name in ENTRY_FIELDS} | {"position": place}
            fields["month"] = fields["month"].replace(".", "-")
            links = _links(path, row)
            entry, news = _upsert(
                Entry, {"category": category, "work": works[row["work"]]}, fields, counts, beside=links
            )
            kept_entries += [entry.pk] if entry else []
            if news:
                _set_links(entry, links, counts)
    _remove(_bundled(Entry).exclude(pk__in=kept_entries), counts)
    _remove(_bundled(Category).exclude(pk__in=kept_categories).filter(entries=None), counts)


def _links(path: Path, row: dict) -> list[tuple]:
    roles = ((Link.Role.PAPER, "links"), (Link.Role.CODE, "code"))
    return [
        (r.value, i, link["label"], link["url"]) for r, name in roles for i, link in enumerate(_take(path, row, name))
    ]


def _set_links(entry: Entry, wanted: list[tuple], counts: dict) -> None:
    if sorted(wanted) == sorted(entry.links.values_list("role", "position", "label", "url")):
        return
    entry.links.all().delete()
    Link.objects.bulk_create(
        Link(entry=entry, role=role, position=i, label=label, url=url) for role, i, label, url in wanted
    )
    counts["updated"] += 1


def _upsert(model: Any, key: dict, fields: dict, counts: dict, beside: Any = None) -> tuple[Any, bool]:
    """The row with `key`, and whether its file has news (`beside` counts too): then the row gets `fields`.

    None for one that a person took away.
    """
    digest = hashlib.sha256(json.dumps([fields, beside], default=str).encode()).hexdigest()[:16]
    row = model._default_manager.filter(**key).first()
    if row is None:
        if _removed_by_somebody(model, key, digest):
            counts["unchanged"] += 1
            return None, False
        counts["created"] += 1
        row = model(**key, **fields, bundled=digest)
        row.skip_history_when_saving = True  # files have a history of their own
        row.save(force_insert=True)
        return row, True
    if row.bundled == digest:
        counts["unchanged"] += 1
        return row, False
    changed = [name for name, value in fields.items() if getattr(row, name) != value]
    counts["updated" if changed else "unchanged"] += 1
    model._default_manager.filter(pk=row.pk).update(**{name: fields[name] for name in changed}, bundled=digest)
    return row, True


def _removed_by_somebody(model: Any, key: dict, digest: str) -> bool:
    """Whether a person took away what the file says; it stays away until the file says something else."""
    last = model.history.filter(**key).first()
    return bool(last and last.history_type == "-" and last.history_user_id and last.bundled == digest)


def _bundled(model: Any) -> models.QuerySet:
    """The rows that came from a file."""
    return model._default_manager.exclude(bundled="")


def _remove(rows: models.QuerySet, counts: dict) -> None:
    counts["removed"] += rows.count()
    rows.delete()


def totals() -> Iterable[str]:
    """ "12 categories", "84 entries" … as the database has them now."""
    for model in (Category, Entry, Work, Claim):
        yield f"{model._default_manager.count()} {model._meta.verbose_name_plural}"
