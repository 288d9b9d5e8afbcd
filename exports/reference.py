"""What is cited of a work: one record that every citation format is written from.

A work whose published title differs from its preprint's is cited as published, title, venue and DOI together, and the
preprint is told in a note: one title never stands with the other's venue.
"""

import datetime
import re
from dataclasses import dataclass, field
from typing import Any

from catalog.models import Work
from config.text import clean_link
from exports.names import Name, split

JOURNALS = {"TMLR", "Neurocomputing", "High-Confidence Computing"}
SITES = {"blog": "blog", "docs": "documentation", "notes": "notes"}  # kinds of work without a venue
VENUE = re.compile(r"(?P<name>.+?) (?P<year>(?:19|20)\d\d)(?P<more> .+)?")


@dataclass(frozen=True)
class Reference:
    """One thing that can be cited. `kind`: journal, conference, preprint, blog, documentation, notes or dataset."""

    key: str
    kind: str
    title: str
    authors: list[Name]
    url: str
    year: int | None = None
    month: int | None = None
    day: int | None = None
    container: str = ""
    doi: str = ""
    arxiv_id: str = ""
    arxiv_class: str = ""
    abstract: str = ""
    keywords: list[str] = field(default_factory=list)
    note: str = ""
    more_authors: bool = False

    @property
    def date(self) -> str:
        """The date as far as it is known: 2023-09-29, 2023-09, 2023 or nothing."""
        parts = [f"{part:02}" if i else f"{part:04}" for i, part in enumerate(self.date_parts)]
        return "-".join(parts)

    @property
    def date_parts(self) -> list[int]:
        """Year, month and day, as far as they are known."""
        known = []
        for part in (self.year, self.month, self.day):
            if part is None:
                break
            known.append(part)
        return known


def key(work: Work) -> str:
    """The citation key: the slug, which is ASCII, unique and as stable as the page's address."""
    return work.slug


def of_work(work: Work) -> Reference:
    """A work as it is cited. Needs authorships and topics, or costs queries."""
    common: dict[str, Any] = {
        "key": key(work),
        "authors": [split(authorship.author.name) for authorship in work.authorships.all()],
        "more_authors": not work.authors_complete,
        "url": clean_link(work.url),
        "abstract": work.abstract,
        "keywords": [topic.name for topic in work.topics.all()],
    }
    if work.kind in SITES:
        return Reference(**common, **_date(work), kind=SITES[work.kind], title=work.title, container=work.venue)
    arxiv_class = work.arxiv_primary if work.arxiv_id else ""
    preprint: dict[str, Any] = {"arxiv_id": work.arxiv_id or "", "arxiv_class": arxiv_class}
    venue = VENUE.fullmatch(work.venue)
    if not work.venue:
        doi = work.doi or (f"10.48550/arXiv.{work.arxiv_id}" if work.arxiv_id else "")
        return Reference(**common, **preprint, **_date(work), kind="preprint", title=work.title, doi=doi)
    published: dict[str, Any] = {
        "kind": "journal" if venue and venue["name"] in JOURNALS else "conference",
        "container": venue["name"] if venue and venue["name"] in JOURNALS else work.venue,
        "year": int(venue["year"]) if venue else work.published.year,
        "doi": work.doi,
    }
    if work.published_title:
        note = f"Preprint, under the title “{work.title}”: arXiv:{work.arxiv_id}" if work.arxiv_id else ""
        url = f"https://doi.org/{work.doi}" if work.doi else common["url"]
        return Reference(**common | {"url": url}, **published, title=work.published_title, note=note)
    return Reference(**common, **preprint, **published, title=work.title)


def _date(work: Work) -> dict[str, Any]:
    known = {"day": 3, "month": 2, "year": 1, "none": 0}[work.published_precision]
    day: datetime.date = work.published
    return dict(zip(("year", "month", "day"), (day.year, day.month, day.day)[:known], strict=False))
