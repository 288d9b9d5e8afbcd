"""Works and arXiv: what arXiv alone knows is written, what is empty is filled, what differs is left to people."""

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction

from catalog import arxiv_client, curation, index
from catalog.arxiv_client import Found
from catalog.import_rows import unique_slug
from catalog.matching import title_key
from catalog.models import Author, Authorship, Category, Entry, Link, Work
from config import clock

Progress = Callable[[str, int, int], None]
REASON = "arXiv"  # of changes, in the history


@dataclass
class Report:
    """What a sync did, by arXiv id: news as text, differences as [fact, ours, arXiv's]."""

    asked: int = 0
    updated: dict[str, list[str]] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    differences: dict[str, list[list[str]]] = field(default_factory=dict)


class Exists(ValueError):
    """A work that was to be added is there; `work` is it."""

    def __init__(self, work: Work):
        super().__init__(f"it is in the list already: {work.title}")
        self.work = work


def sync(works: Iterable[Work], report: Report, progress: Progress = lambda *told: None) -> None:
    """Bring these works, which have arXiv ids, up to date; `report` holds what was done when ArxivFailed ends it."""
    by_id = {work.arxiv_id: work for work in works if work.arxiv_id}
    report.asked, seen = len(by_id), set[str]()
    progress("asking arXiv for metadata", 0, 2 * len(by_id))
    for found in arxiv_client.metadata(by_id):
        work = by_id.get(found.arxiv_id)
        if work is None or found.arxiv_id in seen:
            continue
        seen.add(found.arxiv_id)
        news = update(work, found)
        if news:
            report.updated[found.arxiv_id] = news
        if work.arxiv_differences:
            report.differences[found.arxiv_id] = work.arxiv_differences
        progress("asking arXiv for metadata", len(seen), 2 * len(by_id))
    report.missing = [number for number in by_id if number not in seen]
    for done, number in enumerate(seen):
        progress(f"asking for the licence of {number}", len(by_id) + done, 2 * len(by_id))
        if name := update_licence(by_id[number]):
            report.updated.setdefault(number, []).append(f"licence: {name}")
    report.unchanged = [number for number in seen if number not in report.updated]
    progress("done", 2 * len(by_id), 2 * len(by_id))


def update(work: Work, found: Found) -> list[str]:
    """Write what arXiv says of one work; what is new, in words."""
    own = arxiv_fields(found) | {"arxiv_differences": differences(work, found)}
    changed = {name: value for name, value in own.items() if getattr(work, name) != value}
    fills = _fills(work, found)
    with transaction.atomic():
        for name, value in changed.items():
            setattr(work, name, value)
        Work.objects.filter(pk=work.pk).update(**changed, arxiv_synced_at=clock.now())
        if fills:
            curation.change(work, fills, None, REASON)
        elif "abstract" in changed:
            index.refresh([work.pk])
    return [_tell(name, value) for name, value in (changed | fills).items() if name != "arxiv_differences"]


def arxiv_fields(found: Found) -> dict[str, Any]:
    """What a work has from arXiv alone."""
    return {
        "abstract": found.abstract,
        "arxiv_version": found.version,
        "arxiv_updated": found.updated,
        "arxiv_primary": found.primary[:40],
        "arxiv_categories": list(found.categories),
        "arxiv_comment": found.comment,
        "journal_ref": found.journal_ref,
        "withdrawn": found.withdrawn,
    }


def _fills(work: Work, found: Found) -> dict[str, Any]:
    """Facts that the work lacks."""
    fields: dict[str, Any] = {}
    if found.doi and not work.doi:
        fields["doi"] = found.doi[:120]
    if work.published_precision == Work.Precision.NONE:
        fields |= {"published": found.published, "published_precision": Work.Precision.DAY}
    if found.authors and not work.authorships.exists():
        fields["authors"] = _names(found)
    return fields


def _names(found: Found) -> list[str]:
    """Names of authors, each once, as long as a row holds."""
    return list(dict.fromkeys(name[:200] for name in found.authors))


def differences(work: Work, found: Found) -> list[list[str]]:
    """[fact, ours, arXiv's] for title, authors and DOI, as far as both are known; case and accents aside."""
    ours = [authorship.author.name for authorship in work.authorships.select_related("author")]
    pairs = [("title", work.title, found.title, title_key(work.title) == title_key(found.title))]
    if ours:
        keys, theirs = [title_key(name) for name in ours], [title_key(name) for name in found.authors]
        same = keys == theirs if work.authors_complete else set(keys) <= set(theirs)
        pairs.append(("authors", ", ".join(ours), ", ".join(found.authors), same))
    if work.doi and found.doi:
        pairs.append(("DOI", work.doi, found.doi, work.doi.lower() == found.doi.lower()))
    return [[fact, mine, other] for fact, mine, other, same in pairs if not same and other]


def update_licence(work: Work) -> str:
    """Ask for the licence unless it is known for the newest version; its name if it is new."""
    if work.licence_version is not None and work.licence_version == work.arxiv_version:
        return ""
    before, work.licence = work.licence, arxiv_client.licence(work.arxiv_id or "")
    work.licence_version = work.arxiv_version
    Work.objects.filter(pk=work.pk).update(licence=work.licence, licence_version=work.licence_version)
    return work.licence_name if work.licence != before else ""


def _tell(name: str, value: Any) -> str:
    word = name.removeprefix("arxiv_").replace("_", " ")
    if isinstance(value, datetime.datetime):
        return f"{word}: {value:%Y-%m-%d}"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return f"{word}: {text[:80]}{'…' if len(text) > 80 else ''}"


def add(found: Found, licence: str | None, category: Category | None, user: Any) -> Work:
    """A new work, from what arXiv says; `licence` is None where it could not be asked. Exists if the work is there."""
    try:
        with transaction.atomic():
            if there := Work.objects.filter(arxiv_id=found.arxiv_id).first():
                raise Exists(there)
            work = _new_work(found, licence)
            if category:
                _list(work, category, user)
            index.refresh([work.pk])
            curation.note_created([work], user, REASON)
    except IntegrityError:
        there = Work.objects.filter(arxiv_id=found.arxiv_id).first()
        if there is None:
            raise
        raise Exists(there) from None
    return work


def _short(title: str) -> str:
    """What a work goes by: the name before its title's colon, or the first words."""
    name, colon, _ = title.partition(":")
    return name if colon and len(name.split()) <= 4 else " ".join(title.split()[:6])


def _new_work(found: Found, licence: str | None) -> Work:
    taken, address = set(Work.objects.values_list("slug", flat=True)), f"https://arxiv.org/abs/{found.arxiv_id}"
    work = Work(
        slug=unique_slug(_short(found.title), taken, f"arxiv-{found.arxiv_id}".replace(".", "-").replace("/", "-")),
        title=found.title[:400],
        kind=Work.Kind.PAPER,
        arxiv_id=found.arxiv_id,
        doi=found.doi[:120],
        url=address,
        published=found.published,
        metadata_verified=True,
        metadata_source=address,
        licence=licence or "",
        licence_version=None if licence is None else found.version,
        arxiv_synced_at=clock.now(),
        **arxiv_fields(found),
    )
    work.skip_history_when_saving = True  # type: ignore[attr-defined]  # noted once its authors are there
    work.save(force_insert=True)
    authors = [Author.objects.get_or_create(name=name)[0] for name in _names(found)]
    Authorship.objects.bulk_create(Authorship(work=work, author=a, position=i) for i, a in enumerate(authors))
    del work.skip_history_when_saving  # type: ignore[attr-defined]
    return work


def _list(work: Work, category: Category, user: Any) -> None:
    """The work's entry in a category, after the others, with a link."""
    entry = Entry(
        category=category,
        work=work,
        position=curation.next_position(category.entries.all()),
        month=f"{work.published:%Y-%m}",
        tag=_short(work.title)[:120],
        title=work.title,
    )
    curation.add(entry, user, REASON)
    curation.add(Link(entry=entry, role=Link.Role.PAPER, label="arXiv", url=work.url, position=0), user, REASON)
