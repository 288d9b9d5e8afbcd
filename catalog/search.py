"""The one search behind the box, the facets, the API, exports and the command line."""

from dataclasses import dataclass, field, replace

import numpy as np

from catalog import engines
from catalog.models import SearchWord, Work
from catalog.query import Query, parse
from catalog.snapshot import Snapshot, current


@dataclass
class Found:
    """The works of a query: `mask` says which, `score` how well (0 where not, or where nothing was asked).

    `fields` are the `field:value` pairs still to be applied, `words` what to highlight, `notes` what was understood
    otherwise than typed, `problems` what was not.
    """

    snapshot: Snapshot
    mask: np.ndarray
    score: np.ndarray
    words: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find(text: str) -> Found:
    """Search for a line as typed. Every word must be found, misspelt ones are tried as what they may have been."""
    snapshot, query = current(), parse(text)
    n = snapshot.n
    if query.arxiv_id:
        places = snapshot.places(Work.objects.filter(arxiv_id=query.arxiv_id).values_list("pk", flat=True))
        found = Found(snapshot, _mask(n, places), np.zeros(n))
        found.notes = [f"the work with arXiv id {query.arxiv_id}"] if len(places) else []
        found.problems = [] if len(places) else [f"no work of this list has the arXiv id {query.arxiv_id}"]
        return found
    found = Found(snapshot, np.ones(n, dtype=bool), np.zeros(n), list(query.words), query.fields, [], query.problems)
    found.words += [word for phrase in query.phrases for word in phrase]
    if query.words or query.phrases:
        _match(found, query)
    elif query.excluded:
        for excluded in query.excluded:
            scores = engines.match(Query(phrases=[excluded]))
            found.mask[snapshot.places(scores)] = False
    return found


def _match(found: Found, query: Query) -> None:
    scores = engines.match(query)
    if not scores and (corrected := _corrected(query)).words != query.words:
        scores = engines.match(corrected)
        if scores:
            swaps = [(was, now) for was, now in zip(query.words, corrected.words, strict=True) if was != now]
            found.notes += [f"“{now}” instead of “{was}”" for was, now in swaps]
            query, found.words = corrected, list(corrected.words)
    if not scores and len(query.words) > 1:
        scores = engines.match(query, any_word=True)
        if scores:
            found.notes.append("no work has all of these words; these have some")
    places = found.snapshot.places(scores)
    found.mask = _mask(found.snapshot.n, places)
    known = [score for pk, score in sorted(scores.items()) if pk in found.snapshot.place]
    found.score[places] = known
    _raise_names(found, query, places)


def _mask(n: int, places: np.ndarray) -> np.ndarray:
    mask = np.zeros(n, dtype=bool)
    mask[places] = True
    return mask


def _raise_names(found: Found, query: Query, places: np.ndarray) -> None:
    """A work whose name is what was typed comes first, then those whose name holds it."""
    phrase = " ".join([*query.words, *(word for words in query.phrases for word in words)])
    joined = phrase.replace(" ", "")
    whole, spaced, begun = f"|{joined}|", f" {phrase}", f" {joined}"
    top = float(found.score.max(initial=0.0)) + 1.0
    for i in places.tolist():
        name = found.snapshot.names[i]
        if whole in name.own:
            found.score[i] += 3 * top
        elif whole in name.listed:
            found.score[i] += 2 * top
        elif spaced in name.text or begun in name.text:
            found.score[i] += top


def _corrected(query: Query) -> Query:
    """The query with each word that no work has replaced by the nearest that some work has."""
    known = set(SearchWord.objects.filter(word__in=query.words).values_list("word", flat=True))
    fixed = []
    for i, word in enumerate(query.words):
        typing = query.open_end and i == len(query.words) - 1
        there = word in known or len(word) < 3 or word.isdigit()
        if not there and typing:
            there = SearchWord.objects.filter(word__startswith=word).exists()
        fixed.append(word if there else next(iter(engines.near(word)), word))
    return replace(query, words=fixed, open_end=query.open_end and fixed[-1:] == query.words[-1:])
