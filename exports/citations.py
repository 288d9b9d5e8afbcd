"""Every format a selection leaves in: its media type, its file name, and the function that writes it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from catalog.models import Work
from exports import bibtex as tex
from exports import cff, csl, markdown, ris, styles, table
from exports.reference import Reference, of_work

Write = Callable[[Sequence[Work], bool], str]


@dataclass(frozen=True)
class Format:
    """`write(works, ascii_only)` makes the whole file."""

    label: str
    media_type: str
    extension: str
    write: Write


def _each(one: Callable[[Reference], str], between: str = "\n") -> Write:
    return lambda works, ascii_only: between.join(one(of_work(work)) for work in works)


def _tex(one: Callable[..., str]) -> Write:
    return lambda works, ascii_only: "\n".join(one(of_work(work), ascii_only=ascii_only) for work in works)


def _styled(style: str) -> Write:
    def write(works: Sequence[Work], ascii_only: bool) -> str:
        return "".join(f"{line}\n" for line in styles.formatted([of_work(work) for work in works], style))

    return write


def _csl(works: Sequence[Work], ascii_only: bool) -> str:
    return json.dumps([csl.csl(of_work(work)) for work in works], indent=1, ensure_ascii=ascii_only) + "\n"


FORMATS = {
    "bibtex": Format("BibTeX", "application/x-bibtex", "bib", _tex(tex.bibtex)),
    "biblatex": Format("BibLaTeX", "application/x-biblatex", "bib", _tex(tex.biblatex)),
    "ris": Format("RIS", "application/x-research-info-systems", "ris", _each(ris.ris, "")),
    "csl": Format("CSL-JSON", "application/vnd.citationstyles.csl+json", "json", _csl),
    "cff": Format("CITATION.cff", "application/yaml", "cff", lambda works, _: cff.cff([of_work(w) for w in works])),
    "csv": Format("CSV", "text/csv", "csv", lambda works, _: table.csv(works)),
    "markdown": Format("Markdown", "text/markdown", "md", lambda works, _: markdown.of_works(works)),
    "apa": Format("APA", "text/plain", "txt", _styled("apa")),
    "ieee": Format("IEEE", "text/plain", "txt", _styled("ieee")),
    "acm": Format("ACM", "text/plain", "txt", _styled("acm")),
}
# What the page of a work answers with, if a program asks for it (`Accept`).
NEGOTIATED = ("bibtex", "biblatex", "ris", "csl", "cff")


def bibtex(work: Work) -> str:
    """One work as BibTeX."""
    return tex.bibtex(of_work(work))
