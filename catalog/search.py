"""Search over the list's works. A list of some hundred works is ranked in Python, alike on every database."""

import re
import unicodedata
from collections.abc import Iterable

from catalog.models import Work

ARXIV_ID = re.compile(r"(?:arxiv\.org/(?:abs|pdf|html)/|arxiv:)?(\d{4}\.\d{4,5})(?:v\d+)?(?:\.pdf)?/?$", re.IGNORECASE)
# What a word is worth by where it stands; a word that only begins with what was typed is worth half.
WEIGHTS = {"title": 8.0, "tag": 8.0, "slug": 8.0, "authors": 4.0, "topics": 4.0, "category": 2.0, "claims": 1.0}
PHRASE_BONUS = 20.0


def normalise(text: str) -> str:
    """Lower case, accents folded, everything but letters, digits and dots a space."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[^\W_]+(?:\.[^\W_]+)*", plain.casefold()))


def arxiv_id(text: str) -> str | None:
    """The arXiv id in an id or address, without its version."""
    found = ARXIV_ID.search(text.strip())
    return found[1] if found else None


def rank(works: Iterable[Work], query: str) -> list[Work]:
    """The works that hold every word of `query` (or words that begin with it), the best first.

    Works come with `Work.objects.for_list()`, so that no further query is needed. A pasted arXiv id or address finds
    that work alone.
    """
    if wanted := arxiv_id(query):
        return [work for work in works if work.arxiv_id == wanted]
    words = normalise(query).split()
    if not words:
        return list(works)
    scored = [(_score(work, words), work) for work in works]
    return [work for score, work in sorted(scored, key=lambda pair: (-pair[0], pair[1].title)) if score > 0]


def _score(work: Work, words: list[str]) -> float:
    """0 unless every word is found; a name that is, then a title or tag that holds the words as typed come first."""
    fields = {name: normalise(text) for name, text in _texts(work).items()}
    tokens = {name: set(text.split()) | set(text.replace(".", " ").split()) for name, text in fields.items()}
    total = 0.0
    for word in words:
        best = max(WEIGHTS[name] * _match(word, found) for name, found in tokens.items())
        if best == 0:
            return 0.0
        total += best
    phrase = " ".join(words)
    names = {normalise(entry.tag) for entry in work.entries.all()} | {fields["slug"]}
    in_name = any(phrase in fields[name] for name in ("title", "tag", "slug"))
    return total + PHRASE_BONUS * in_name + PHRASE_BONUS * (phrase in names)


def _match(word: str, tokens: set[str]) -> float:
    if word in tokens:
        return 1.0
    return 0.5 if any(token.startswith(word) for token in tokens) else 0.0


def _texts(work: Work) -> dict[str, str]:
    entries = list(work.entries.all())
    return {
        "title": " ".join([work.title, *(entry.title for entry in entries)]),
        "tag": " ".join(entry.tag for entry in entries),
        "slug": work.slug.replace("-", " "),
        "authors": " ".join(authorship.author.name for authorship in work.authorships.all()),
        "topics": " ".join(topic.name for topic in work.topics.all()),
        "category": " ".join(entry.category.name for entry in entries),
        "claims": " ".join(claim.statement for claim in work.claims.all()),
    }
