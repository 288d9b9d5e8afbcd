"""Citations of works: BibTeX for now."""

import re
import unicodedata

from catalog.models import Work

# Characters that mean something to TeX; the backslash first, so that what is put in is not escaped again.
TEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
       "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def escape(text: str) -> str:
    """Text for a BibTeX field; letters beyond ASCII stay, as biber and current BibTeX styles read UTF-8."""
    return "".join(TEX.get(character, character) for character in text)


def key(work: Work) -> str:
    """Citation key: first author's last name, year, the slug's first word; ASCII letters, digits and `-` only."""
    names = [authorship.author.name for authorship in work.authorships.all()]
    last = names[0].split()[-1] if names else "anonymous"
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9-]", "", f"{plain}{work.published_text[:4]}{work.slug}")


def bibtex(work: Work) -> str:
    """One BibTeX entry. An arXiv id becomes eprint and archivePrefix; a venue of ours is free text, so it is a note."""
    authors = " and ".join(_name(authorship.author.name) for authorship in work.authorships.all())
    fields = {"title": f"{{{escape(work.title)}}}", "author": authors, "year": work.published_text[:4]}
    if work.published_precision in ("day", "month"):
        fields["month"] = str(work.published.month)
    if work.arxiv_id:
        fields |= {"eprint": work.arxiv_id, "archiveprefix": "arXiv"}
    if work.doi:
        fields["doi"] = work.doi
    if work.venue:
        fields["note"] = escape(work.venue)
    fields["url"] = work.url
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@misc{{{key(work)},\n{lines}}}\n"


def _name(name: str) -> str:
    """A name as BibTeX takes it; a group's name in braces stays whole."""
    return escape(name) if " " in name else f"{{{escape(name)}}}"
