"""CSL-JSON, by the schema 1.0.2: no type "preprint", so a preprint is an article of that genre."""

from typing import Any

from exports.reference import Reference

TYPES = {"journal": "article-journal", "conference": "paper-conference", "preprint": "article", "blog": "post-weblog",
         "documentation": "webpage", "notes": "manuscript", "dataset": "dataset"}  # fmt: skip


def csl(reference: Reference) -> dict[str, Any]:
    """One item."""
    r = reference
    item: dict[str, Any] = {"id": r.key, "citation-key": r.key, "type": TYPES[r.kind], "title": r.title}
    item["author"] = [
        {"literal": n.literal}
        if n.literal
        else {"family": n.family, "given": n.given} | ({"suffix": n.suffix} if n.suffix else {})
        for n in r.authors
    ]
    if r.year:
        item["issued"] = {"date-parts": [r.date_parts]}
    item["container-title"] = r.container
    note = r.note
    if r.kind == "preprint":
        item |= {"genre": "preprint", "publisher": "arXiv" if r.arxiv_id else ""}
        item["number"] = f"arXiv:{r.arxiv_id}" if r.arxiv_id else ""
    elif r.arxiv_id:
        note = f"arXiv:{r.arxiv_id}"
    item |= {"DOI": r.doi, "URL": r.url, "abstract": r.abstract, "keyword": ", ".join(r.keywords), "note": note}
    return {name: value for name, value in item.items() if value}
