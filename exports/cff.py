"""CITATION.cff 1.2.0: one work as what to cite, several as references."""

from collections.abc import Sequence
from typing import Any

import yaml

from exports.names import Name
from exports.reference import Reference

MESSAGE = "If you use this, please cite it as below."
TYPES = {"journal": "article", "conference": "conference-paper", "preprint": "article", "blog": "blog",
         "documentation": "website", "notes": "unpublished", "dataset": "data"}  # fmt: skip


def cff(references: Sequence[Reference], title: str = "Papers on LLM inference") -> str:
    """The file: of one work it is about that work, of several it lists them."""
    head: dict[str, Any] = {"cff-version": "1.2.0", "message": MESSAGE}
    if len(references) == 1:
        one = references[0]
        head |= {"title": one.title, "authors": _people(one), "preferred-citation": _reference(one)}
    else:
        head |= {"title": title, "authors": [{"name": "Claimcheck"}], "references": [_reference(r) for r in references]}
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=120)


def _people(reference: Reference) -> list[dict[str, str]]:
    return [_person(name) for name in reference.authors] or [{"name": "anonymous"}]


def _person(name: Name) -> dict[str, str]:
    if name.literal:
        return {"name": name.literal}
    person = {"family-names": name.family, "given-names": name.given, "name-suffix": name.suffix}
    return {part: text for part, text in person.items() if text}


def _reference(reference: Reference) -> dict[str, Any]:
    r = reference
    data: dict[str, Any] = {"type": TYPES[r.kind], "title": r.title, "authors": _people(r), "year": r.year}
    if len(r.date_parts) == 3:
        data["date-published"] = r.date
    data |= {"month": r.month, "doi": r.doi, "url": r.url, "abstract": r.abstract, "keywords": r.keywords}
    if r.kind == "conference":
        data |= {"collection-title": r.container, "conference": {"name": r.container}}
    elif r.kind == "journal":
        data["journal"] = r.container
    elif r.container:
        data["publisher"] = {"name": r.container}
    if r.arxiv_id:
        data["identifiers"] = [{"type": "other", "value": f"arXiv:{r.arxiv_id}", "description": "The arXiv preprint"}]
    return {name: value for name, value in (data | {"notes": r.note}).items() if value}
