"""RIS: two letters, two spaces, a hyphen, a space; CRLF; TY first, ER last."""

from exports.reference import Reference

TYPES = {"journal": "JOUR", "conference": "CPAPER", "preprint": "UNPB", "blog": "BLOG", "documentation": "ELEC",
         "notes": "UNPB", "dataset": "DATA"}  # fmt: skip


def ris(reference: Reference) -> str:
    """One record."""
    r = reference
    lines = [("TY", TYPES[r.kind]), ("ID", r.key), ("TI", r.title)]
    lines += [("AU", name.inverted) for name in r.authors]
    if r.year:
        lines += [("PY", f"{r.year:04}"), ("DA", "/".join([*r.date.split("-"), "", ""][:3]) + "/")]
    container = {"journal": "JO", "conference": "T2"}.get(r.kind, "PB")
    lines += [(container, r.container or ("arXiv" if r.kind == "preprint" and r.arxiv_id else ""))]
    if r.arxiv_id:
        lines += [("AN", f"arXiv:{r.arxiv_id}")]
    lines += [("DO", r.doi), ("UR", r.url), ("AB", r.abstract), *(("KW", word) for word in r.keywords), ("N1", r.note)]
    written = [f"{tag}  - {_line(tag, text)}\r\n" for tag, text in lines if text]
    return "".join(written) + "ER  - \r\n"


def _line(tag: str, text: str) -> str:
    """On one line; an asterisk has a meaning of its own in names and keywords."""
    one = " ".join(text.split())
    return one.replace("*", "") if tag in ("AU", "KW") else one
