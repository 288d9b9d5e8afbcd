"""What arXiv knows of papers: metadata through the package `arxiv`, licences through OAI-PMH."""

import datetime
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

import arxiv
import requests
from django.conf import settings
from lxml import etree

from catalog import arxiv_http, arxiv_ids
from catalog.arxiv_gate import ArxivFailed
from catalog.arxiv_http import PATIENT_S
from config.text import clean_link, cleaned

PAGE = 100  # works a request
OAI = "{http://www.openarchives.org/OAI/2.0/}"
RECORD = "{http://arxiv.org/OAI/arXiv/}"
# arXiv has no field for it: authors are asked to say so in the comment, and the abstract often does.
WITHDRAWN = re.compile(
    r"(?:\b(?:been|is|was|are|were)|^)\s*withdrawn\b|\bwithdrawn (?:by|due|because|as)\b", re.IGNORECASE
)
ABOUT_ITSELF = re.compile(
    r"^\W*(?:this|the) (?:paper|article|submission|manuscript|work|preprint|note)s?\b[^.]{0,40}\bwithdrawn\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """A paper as arXiv has it; `version` is the newest, `authors` in their order, dates in UTC."""

    arxiv_id: str
    version: int
    title: str
    authors: tuple[str, ...]
    abstract: str
    published: datetime.date
    updated: datetime.datetime
    primary: str
    categories: tuple[str, ...]
    comment: str
    journal_ref: str
    doi: str

    @property
    def withdrawn(self) -> bool:
        """Whether its comment or the beginning of its abstract says so."""
        return bool(WITHDRAWN.search(self.comment) or ABOUT_ITSELF.search(self.abstract))


def metadata(ids: Iterable[str], patience_s: float = PATIENT_S) -> Iterator[Found]:
    """The papers of these ids (without versions), page by page; ids that arXiv does not know are left out.

    ArxivFailed if it cannot be asked.
    """
    client = arxiv.Client(page_size=PAGE, delay_seconds=0, num_retries=0)  # arxiv_http paces and tries again
    client.query_url_format = f"{settings.ARXIV_API_URL}?{{}}"
    client._session = arxiv_http.session(patience_s)
    ids = sorted(set(ids))  # so that the same works are the same query
    for start in range(0, len(ids), PAGE):
        search = arxiv.Search(id_list=ids[start : start + PAGE], max_results=None)
        try:
            for result in client.results(search):
                if found := _found(result):
                    yield found
        except (arxiv.ArxivError, requests.RequestException, ValueError) as error:
            raise ArxivFailed(f"arXiv's answer could not be read: {_line(str(error))[:200]}") from None


def _found(result: arxiv.Result) -> Found | None:
    """A result in our terms; ArxivFailed if arXiv answers with an error in place of one."""
    if "/api/errors" in result.entry_id:
        raise ArxivFailed(f"arXiv says: {_line(result.summary)[:200]}")
    parsed = arxiv_ids.parse(result.entry_id)
    if parsed is None:
        return None
    names = (_line(author.name) for author in result.authors)
    return Found(
        arxiv_id=parsed[0],
        version=parsed[1] or 1,
        title=_line(result.title),
        authors=tuple(name for name in names if name),
        abstract=_line(result.summary),
        published=result.published.date(),
        updated=result.updated,
        primary=_line(result.primary_category),
        categories=tuple(map(_line, result.categories)),
        comment=_line(result.comment or ""),
        journal_ref=_line(result.journal_ref or ""),
        doi=next(iter(_line(result.doi or "").split()), ""),
    )


def licence(arxiv_id: str, patience_s: float = PATIENT_S) -> str:
    """The address of the newest version's licence; empty if arXiv states none. ArxivFailed if it cannot be asked."""
    query = {"verb": "GetRecord", "identifier": f"oai:arXiv.org:{arxiv_id}", "metadataPrefix": "arXiv"}
    try:
        answer = arxiv_http.session(patience_s).get(f"{settings.ARXIV_OAI_URL}?{urlencode(query)}")
    except requests.RequestException as error:
        raise ArxivFailed(f"arXiv's OAI-PMH cannot be asked: {_line(str(error))[:200]}") from None
    if answer.status_code != 200:
        raise ArxivFailed(f"arXiv's OAI-PMH answered with status {answer.status_code}")
    try:
        root = arxiv_http.parse(answer.content)
    except etree.XMLSyntaxError:
        raise ArxivFailed("arXiv's OAI-PMH sent no XML") from None
    problem = root.find(f"{OAI}error")
    if problem is not None and problem.get("code") != "idDoesNotExist":
        raise ArxivFailed(f"arXiv's OAI-PMH says: {problem.get('code')}: {_line(problem.text or '')[:200]}")
    stated = clean_link(root.findtext(f".//{RECORD}license") or "")
    return stated if len(stated) <= 200 else ""


def _line(text: str) -> str:
    return " ".join(cleaned(text).split())
