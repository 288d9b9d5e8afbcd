"""One row of a list against the catalogue: which work it means, and what it would change."""

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.text import slugify

from catalog import addresses, markdown_facts
from catalog.markdown_list import Missed
from catalog.markdown_rows import Row, RowLink
from catalog.matching import Match, Matcher, keys_of, titles_of
from catalog.models import Category, Entry, Link, Work

UNDATED = datetime.date(1, 1, 1)
LIMITS = {"title": 400, "tag": 120}
KINDS = {"blog": Work.Kind.BLOG, "post": Work.Kind.BLOG, "blog post": Work.Kind.BLOG, "docs": Work.Kind.DOCS,
         "documentation": Work.Kind.DOCS}  # fmt: skip


@dataclass(frozen=True)
class NewWork:
    """A work to be made."""

    fields: dict[str, Any]
    authors: tuple[str, ...] = ()


@dataclass
class Item:
    """One row of a plan. `kind` is create, change, unchanged or question; `work` is negative while it is to be made."""

    row: Row
    kind: str
    category: str
    work: int = 0
    slug: str = ""
    title: str = ""
    note: str = ""
    changes: list[str] = field(default_factory=list)
    candidates: list[tuple[str, str]] = field(default_factory=list)
    entry: int | None = None
    new_entry: dict[str, Any] = field(default_factory=dict)
    entry_changes: dict[str, Any] = field(default_factory=dict)
    work_changes: dict[str, Any] = field(default_factory=dict)
    new_links: list[RowLink] = field(default_factory=list)


class Planner:
    """The catalogue as it is, and as the rows so far would leave it."""

    def __init__(self, rows: Iterable[Row], answers: Mapping[int, str]) -> None:
        self.answers, self.missed = answers, list[Missed]()
        self.works = {work.pk: work for work in Work.objects.defer("abstract")}
        entries = list(Entry.objects.all())
        links = list(Link.objects.all())
        self.matcher = Matcher(self.works.values(), entries, links)
        self.matcher.prepare(rows)
        self.categories = {category_key(category.name): category.name for category in Category.objects.all()}
        names = dict(Category.objects.values_list("pk", "name"))
        self.entries = {(names[entry.category_id], entry.work_id): entry for entry in entries}
        self.links: dict[int, set[str]] = {}
        for link in links:
            self.links.setdefault(link.entry_id, set()).add(addresses.key(link.url))
        self.slugs = {work.slug: pk for pk, work in self.works.items()}
        self.taken = set(self.slugs)
        self.new_works: dict[int, NewWork] = {}
        self.new_categories: dict[str, str] = {}
        self.seen: dict[tuple[str, int], Row] = {}

    def place(self, row: Row) -> Item | None:
        """What a row would do; None if it was not understood, which `missed` then tells."""
        if problem := _problem(row):
            self.miss(row, problem)
            return None
        match = self.matcher.find(row)
        if match.candidates:
            answer = self.answers.get(row.line, "")
            allowed = {self.slug_of(number): number for number in match.candidates}
            if answer not in ("new", *allowed):
                return self.question(row, match)
            match = Match(work=allowed.get(answer))
        if match.work is not None:
            return self.known(row, match.work)
        if not row.title:
            self.miss(row, "no title, and no work with its link")
        elif not row.links:
            self.miss(row, "no link, and no work with its title")
        else:
            return self.known(row, self.make(row))
        return None

    def miss(self, row: Row, reason: str) -> None:
        """Note why a row cannot be taken."""
        self.missed.append(Missed(row.line, f"{row.tag} {row.title}".strip()[:300], reason))

    def question(self, row: Row, match: Match) -> Item:
        """A row that a person must place."""
        candidates = [(self.slug_of(number), self.title_of(number)) for number in match.candidates]
        return Item(row, "question", self.category(row), title=row.title, note=match.question, candidates=candidates)

    def slug_of(self, number: int) -> str:
        """The slug of a work, be it still to be made."""
        return self.new_works[number].fields["slug"] if number < 0 else self.works[number].slug

    def title_of(self, number: int) -> str:
        """The title of a work, be it still to be made."""
        return self.new_works[number].fields["title"] if number < 0 else self.works[number].title

    def category(self, row: Row, *, create: bool = False) -> str:
        """The category's name: the whole path, or the last heading where the catalogue has that, or a new one."""
        whole = " / ".join(row.category)[:200]
        for name in (whole, row.category[-1]):
            if found := self.categories.get(category_key(name)):
                return found
        key = category_key(whole)
        if create:
            return self.new_categories.setdefault(key, whole)
        return self.new_categories.get(key, whole)

    def make(self, row: Row) -> int:
        """A work to be made; rows that follow may mean it too."""
        number = -len(self.new_works) - 1
        self.new_works[number] = NewWork(self.work_fields(row), row.authors)
        self.matcher.add(number, keys_of(row), titles_of(row.title, row.tag))
        return number

    def work_fields(self, row: Row) -> dict[str, Any]:
        """What a row knows of a work."""
        keys = keys_of(row)
        arxiv = next((key.partition(":")[2] for key in keys if key.startswith("arxiv:")), None)
        taken = bool(arxiv) and any(self.matcher.by_key.get(f"arxiv:{arxiv}", ()))
        doi = next((found for link in row.links if (found := addresses.doi(link.url))), "")
        published, precision = _published(row, arxiv)
        return {
            "slug": self.new_slug(row, arxiv),
            "title": row.title,
            "kind": next(
                (KINDS[link.label.lower()] for link in row.links if link.label.lower() in KINDS), Work.Kind.PAPER
            ),
            "arxiv_id": None if taken else arxiv,
            "doi": doi[:120],
            "url": f"https://arxiv.org/abs/{arxiv}" if arxiv else row.links[0].url,
            "published": published,
            "published_precision": precision,
            "venue": row.venue,
            "authors_complete": False,
            "metadata_verified": False,
        }

    def new_slug(self, row: Row, arxiv: str | None) -> str:
        """A slug from the name before the title's colon, the tag or the title's first words."""
        name, colon, _ = row.title.partition(":")
        short = name if colon and len(name.split()) <= 4 else row.tag if 0 < len(row.tag.split()) <= 4 else ""
        words = short or " ".join(row.title.split()[:8])
        return unique_slug(words, self.taken, f"arxiv-{arxiv}".replace(".", "-").replace("/", "-") if arxiv else "work")

    def known(self, row: Row, number: int) -> Item:
        """What a row changes of a work that is there, or is to be made."""
        item = Item(row, "create" if number < 0 else "unchanged", self.category(row, create=True), number)
        item.slug, item.title = self.slug_of(number), self.title_of(number)
        first = self.seen.setdefault((item.category, number), row)
        if first is not row:
            item.kind, item.note = "unchanged", f"the same work as in line {first.line}, which stands"
            taken = {addresses.key(link.url) for link in first.links}
            left = [link for link in row.links if addresses.key(link.url) not in taken]
            item.note += "".join(f"; not taken: {link.label} {link.url}" for link in left)
            return item
        if number > 0:
            self.change_work(item, self.works[number])
        entry = self.entries.get((item.category, number))
        if entry:
            self.change_entry(item, entry)
        else:
            item.new_entry = _entry_fields(row)
            item.new_links = list(row.links)
            item.changes.append(f"listed in {item.category}")
        if item.kind == "unchanged" and item.changes:
            item.kind = "change"
        return item

    def change_work(self, item: Item, work: Work) -> None:
        """Facts that the catalogue lacks; what it has stays, and so do works whose facts were verified."""
        if work.metadata_verified:
            return
        fields = {
            "arxiv_id": next((key[6:] for key in keys_of(item.row) if key.startswith("arxiv:")), None),
            "doi": next((found[:120] for link in item.row.links if (found := addresses.doi(link.url))), ""),
            "venue": item.row.venue,
        }
        for name, value in fields.items():
            if (
                value
                and not getattr(work, name)
                and (name != "arxiv_id" or len(self.matcher.by_key[f"arxiv:{value}"]) == 0)
            ):
                item.work_changes[name] = value
                item.changes.append(f"{name.replace('_', ' ')}: {value}")
                setattr(work, name, value)
        if work.arxiv_id and item.work_changes.get("arxiv_id"):
            self.matcher.add(work.pk, [f"arxiv:{work.arxiv_id}"], [])

    def change_entry(self, item: Item, entry: Entry) -> None:
        """What the row says otherwise than the entry, and links that the entry lacks."""
        row = item.row
        wanted: dict[str, Any] = {}
        if row.month and not entry.month.startswith(row.month):
            wanted["month"] = row.month
        if row.tag and markdown_facts.tidy(entry.tag) != row.tag:
            wanted["tag"] = row.tag
        if row.tag and entry.bold != row.bold:
            wanted["bold"] = row.bold
        if row.title not in ("", row.tag, markdown_facts.clean_title(entry.title)):
            wanted["title"] = row.title
        for name in ("highlights", "stars"):
            value = getattr(row, name)
            if value is not None and value != getattr(entry, name):
                wanted[name] = value
        item.entry, item.entry_changes = entry.pk, wanted
        item.changes += [_say(name, getattr(entry, name), value) for name, value in wanted.items()]
        held = self.links.get(entry.pk, set())
        item.new_links = [link for link in row.links if addresses.key(link.url) not in held]
        item.changes += [f"new link {link.label}: {link.url}" for link in item.new_links]


def unique_slug(text: str, taken: set[str], fallback: str) -> str:
    """A slug of at most 80 characters that is not taken yet; it is taken now."""
    base = slugify(text)[:70].strip("-_") or fallback
    slug, n = base, 2
    while slug in taken:
        slug, n = f"{base}-{n}", n + 1
    taken.add(slug)
    return slug


def category_key(name: str) -> str:
    """A category's name as it is compared."""
    return markdown_facts.clean_title(name).casefold() or name


def _say(name: str, before: Any, after: Any) -> str:
    if name == "bold":
        return "tag set in bold" if after else "tag no longer in bold"
    word = {"highlights": "flames"}.get(name, name)
    return f"{word}: {before if before != '' else 'none'} → {after}"


def _problem(row: Row) -> str:
    for name, limit in LIMITS.items():
        if (length := len(getattr(row, name))) > limit:
            return f"the {name} has {length} characters; {limit} at most"
    longest = max((len(link.url) for link in row.links), default=0)
    return f"a link has {longest} characters; 400 at most" if longest > 400 else ""


def _entry_fields(row: Row) -> dict[str, Any]:
    return {
        "month": row.month,
        "tag": row.tag,
        "bold": row.bold,
        "title": row.title,
        "highlights": row.highlights or 0,
        "stars": row.stars or 0,
    }


def _published(row: Row, arxiv: str | None) -> tuple[datetime.date, str]:
    """When a work appeared: the row's month, that of its arXiv id, a heading such as 2023, or unknown."""
    text = row.month
    if len(text) < 7 and arxiv and (digits := re.search(r"(\d\d)(0[1-9]|1[0-2])", arxiv)):
        year = int(digits[1])
        text = f"{year + (1900 if '/' in arxiv and year > 50 else 2000)}-{digits[2]}"
    if not text:
        text = next((markdown_facts.find_date(name) for name in row.category if markdown_facts.is_date(name)), "")
    if not text:
        return UNDATED, Work.Precision.NONE
    known_year, _, month = text.partition("-")
    return datetime.date(int(known_year), int(month or 1), 1), Work.Precision.MONTH if month else Work.Precision.YEAR
