"""arXiv ids in all their forms: 2309.17453v3, hep-th/9901001, math.GT/0309136, alone or in an address."""

import re

ID = r"(?P<id>\d{4}\.\d{4,5}|[a-z]+(?:-[a-z]+)?(?:\.[A-Za-z]{2})?/\d{7})(?:v(?P<version>[1-9]\d*))?"
PLACE = r"(?:https?://)?(?:[a-z0-9-]+\.)*arxiv\.org/(?:abs|pdf|html|format|ps|src|e-print)/|(?:https?://)?alphaxiv\.org/abs/"
DOI = r"(?:https?://(?:dx\.)?doi\.org/)?10\.48550/arxiv\."
WHOLE = re.compile(rf"(?:{PLACE}|{DOI}|arxiv:\s*)?{ID}(?:\.pdf)?/?(?:[?#].*)?", re.IGNORECASE)


def parse(text: str) -> tuple[str, int | None] | None:
    """(id, version or None) if the whole of `text` is an arXiv id or address; None if it is anything else.

    Old ids lose their subject class, as arXiv itself writes them: math.GT/0309136 is math/0309136.
    """
    found = WHOLE.fullmatch(text.strip())
    if not found:
        return None
    number = re.sub(r"\.[A-Za-z]{2}/", "/", found["id"]).lower()
    if "/" not in number and not 1 <= int(number[2:4]) <= 12:
        return None
    return number, int(found["version"]) if found["version"] else None


def find(text: str) -> str | None:
    """The id alone."""
    parsed = parse(text)
    return parsed[0] if parsed else None
