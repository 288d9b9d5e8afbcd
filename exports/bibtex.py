"""BibTeX and BibLaTeX. Text is escaped, addresses and identifiers are not."""

from exports import tex
from exports.names import Name
from exports.reference import Reference

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
BIBTEX_TYPES = {"journal": "article", "conference": "inproceedings", "notes": "unpublished"}
BIBLATEX_TYPES = {"journal": "article", "conference": "inproceedings", "notes": "unpublished", "dataset": "dataset"}
VERBATIM = {"url", "doi", "eprint", "eprinttype", "eprintclass", "archiveprefix", "primaryclass", "date", "year",
            "month", "urldate"}  # fmt: skip


def bibtex(reference: Reference, *, ascii_only: bool = False) -> str:
    """One BibTeX entry: @inproceedings or @article with a venue, @misc for preprints and pages."""
    r = reference
    fields = {"title": tex.title(r.title, ascii_only=ascii_only), "author": _authors(r, ascii_only)}
    fields |= {"booktitle": r.container if r.kind == "conference" else ""}
    fields |= {"journal": r.container if r.kind == "journal" else ""}
    fields |= {"howpublished": r.container if r.kind in ("blog", "documentation", "dataset") else ""}
    fields |= {"year": f"{r.year:04}" if r.year else "", "month": MONTHS[r.month - 1] if r.month else ""}
    if r.arxiv_id:
        fields |= {"eprint": r.arxiv_id, "archiveprefix": "arXiv", "primaryclass": r.arxiv_class}
    fields |= {"doi": r.doi, "url": r.url, "note": r.note or (r.container if r.kind == "notes" else "")}
    if r.kind == "notes":
        fields["note"] = "; ".join(part for part in (r.container or "Course notes", r.note) if part)
    return _entry(BIBTEX_TYPES.get(r.kind, "misc"), r.key, fields, ascii_only, bare=("month",))


def biblatex(reference: Reference, *, ascii_only: bool = False) -> str:
    """One BibLaTeX entry, with `eprinttype` and `eprintclass`, which Zotero reads too."""
    r = reference
    fields = {"title": tex.title(r.title, ascii_only=ascii_only), "author": _authors(r, ascii_only)}
    fields |= {"booktitle": r.container if r.kind == "conference" else ""}
    fields |= {"journaltitle": r.container if r.kind == "journal" else ""}
    fields |= {"organization": r.container if r.kind in ("blog", "documentation", "dataset") else ""}
    fields |= {"howpublished": r.container if r.kind == "notes" else ""}
    fields |= {"date": r.date}
    if r.arxiv_id:
        fields |= {"eprint": r.arxiv_id, "eprinttype": "arxiv", "eprintclass": r.arxiv_class}
    fields |= {"doi": r.doi, "url": r.url, "note": r.note}
    return _entry(BIBLATEX_TYPES.get(r.kind, "online"), r.key, fields, ascii_only)


def _entry(type_: str, key: str, fields: dict[str, str], ascii_only: bool, bare: tuple = ()) -> str:
    lines = []
    for name, value in fields.items():
        if not value:
            continue
        if name not in VERBATIM and name not in ("title", "author"):
            value = tex.escape(value, ascii_only=ascii_only)
        lines.append(f"  {name} = {value},\n" if name in bare else f"  {name} = {{{value}}},\n")
    return f"@{type_}{{{key},\n{''.join(lines)}}}\n"


def _authors(reference: Reference, ascii_only: bool) -> str:
    names = [_name(name, ascii_only) for name in reference.authors]
    return " and ".join(names + (["others"] if reference.more_authors and names else []))


def _name(name: Name, ascii_only: bool) -> str:
    """ "Last, First"; an organisation, a name of one word and a family name with lower-case words stay whole."""
    if name.literal:
        return f"{{{tex.escape(name.literal, ascii_only=ascii_only)}}}"
    family, suffix, given = (tex.escape(p, ascii_only=ascii_only) for p in (name.family, name.suffix, name.given))
    return ", ".join(part for part in (_whole(family), suffix, _whole(given)) if part)


def _whole(part: str) -> str:
    """In braces if BibTeX would read the word "and" or a comma in it."""
    words = part.lower().split()
    return f"{{{part}}}" if "," in part or "and" in words or "others" in words else part
