"""The works as a table, for spreadsheets and pandas."""

from collections.abc import Sequence

import pandas

from catalog.models import Work
from config.cells import inert
from config.text import clean_link

COLUMNS = ("key", "title", "authors", "published", "venue", "published_title", "kind", "arxiv_id", "doi", "url",
           "topics", "categories", "tags", "listed", "stars", "flames", "code", "claims", "licence")  # fmt: skip


def csv(works: Sequence[Work]) -> str:
    """One row a work; several values in a cell are joined by "; ". Lines end with CRLF, as RFC 4180 has it."""
    frame = pandas.DataFrame([_row(work) for work in works], columns=list(COLUMNS)).map(inert)
    return frame.to_csv(index=False, lineterminator="\r\n")


def _row(work: Work) -> dict:
    entries = list(work.entries.all())
    code = dict.fromkeys(
        clean_link(link.url) for entry in entries for link in entry.links.all() if link.role == link.Role.CODE
    )
    return {
        "key": work.slug,
        "title": work.title,
        "authors": "; ".join(authorship.author.name for authorship in work.authorships.all()),
        "published": work.published_text,
        "venue": work.venue,
        "published_title": work.published_title,
        "kind": work.kind,
        "arxiv_id": work.arxiv_id or "",
        "doi": work.doi,
        "url": clean_link(work.url),
        "topics": "; ".join(topic.name for topic in work.topics.all()),
        "categories": "; ".join(entry.category.name for entry in entries),
        "tags": "; ".join(dict.fromkeys(entry.tag for entry in entries if entry.tag)),
        "listed": "; ".join(dict.fromkeys(entry.month for entry in entries if entry.month)),
        "stars": max((entry.stars for entry in entries), default=0),
        "flames": max((entry.highlights for entry in entries), default=0),
        "code": " ".join(code),
        "claims": len(work.claims.all()),
        "licence": work.licence_name,
    }
