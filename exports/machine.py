"""What programs read in our pages: Highwire's tags, COinS, JSON-LD."""

import json
from typing import Any
from urllib.parse import urlencode

from catalog.models import Work
from exports.reference import Reference, of_work

ITEM_TYPES = {"journal": "journalArticle", "conference": "conferencePaper", "preprint": "preprint", "blog": "blogPost",
              "documentation": "webpage", "notes": "manuscript"}  # fmt: skip
GENRES = {"journal": "article", "conference": "proceeding", "preprint": "preprint"}
SCRIPT = {ord(">"): "\\u003E", ord("<"): "\\u003C", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def highwire(work: Work) -> list[tuple[str, str]]:
    """(name, content) of the meta tags; one tag an author, "Last, First"; `z:itemType` keeps a preprint a preprint."""
    r = of_work(work)
    tags = [("citation_title", r.title), *(("citation_author", name.inverted) for name in r.authors)]
    tags += [("citation_publication_date", r.date.replace("-", "/"))]
    container = {"journal": "citation_journal_title", "conference": "citation_conference_title"}.get(r.kind)
    tags += [(container, r.container)] if container else []
    tags += [("citation_doi", r.doi), ("citation_arxiv_id", r.arxiv_id), ("citation_abstract", r.abstract)]
    tags += [("citation_keywords", "; ".join(r.keywords)), ("citation_public_url", r.url)]
    tags += [("citation_pdf_url", f"https://arxiv.org/pdf/{r.arxiv_id}" if r.arxiv_id else "")]
    tags += [("z:itemType", ITEM_TYPES[r.kind])]
    return [(name, content) for name, content in tags if content]


def coins(reference: Reference) -> str:
    """The title of a COinS span (Z39.88-2004); attribute escaping is the template's."""
    r = reference
    pairs = [("ctx_ver", "Z39.88-2004"), ("rfr_id", "info:sid/claimcheck")]
    if r.kind in GENRES:
        title = {"journal": ("jtitle", r.container), "conference": ("btitle", r.container)}.get(r.kind, ("title", ""))
        pairs += [("rft_val_fmt", "info:ofi/fmt:kev:mtx:journal"), ("rft.genre", GENRES[r.kind])]
        pairs += [("rft.atitle", r.title), title]
    else:
        pairs += [("rft_val_fmt", "info:ofi/fmt:kev:mtx:dc"), ("rft.title", r.title), ("rft.source", r.container)]
        pairs += [("rft.type", ITEM_TYPES[r.kind])]
    if r.authors:
        pairs += [("rft.aulast", r.authors[0].family), ("rft.aufirst", r.authors[0].given)]
    pairs += [("rft.au", name.inverted) for name in r.authors] + [("rft.date", r.date)]
    pairs += [("rft_id", f"info:doi/{r.doi}" if r.doi else ""), ("rft_id", r.url)]
    return urlencode([(name, value) for name, value in pairs if value])


def json_ld(work: Work, page: str) -> str:
    """The work as schema.org has it, safe inside a script element."""
    r = of_work(work)
    same = [r.url, f"https://doi.org/{r.doi}" if r.doi else ""]
    same += [f"https://arxiv.org/abs/{work.arxiv_id}" if work.arxiv_id else ""]
    data: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "ScholarlyArticle" if r.kind in GENRES else "CreativeWork",
        "@id": page,
        "url": page,
        "name": r.title,
        "headline": r.title[:110],
        "author": [_person(name) for name in r.authors],
        "datePublished": r.date,
        "isPartOf": {"@type": "CreativeWork", "name": r.container} if r.container else None,
        "identifier": [{"@type": "PropertyValue", "propertyID": "doi", "value": r.doi}] if r.doi else None,
        "sameAs": list(dict.fromkeys(address for address in same if address)),
        "abstract": r.abstract,
        "keywords": r.keywords,
        "license": work.licence,
    }
    return json.dumps({k: v for k, v in data.items() if v}, ensure_ascii=False).translate(SCRIPT)


def _person(name: Any) -> dict[str, str]:
    if name.literal:
        return {"@type": "Organization", "name": name.literal}
    return {
        "@type": "Person",
        "familyName": name.family,
        "givenName": name.given,
        "name": f"{name.given} {name.family}",
    }
