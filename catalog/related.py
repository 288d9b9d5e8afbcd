"""What stands near a work: works on the same topics, by the same people, of alike words; its neighbours in the list."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from django.core.cache import cache

from catalog import engines
from catalog.models import SearchWord, Work
from catalog.query import Query
from catalog.snapshot import Pairs, Snapshot, current
from catalog.words import words

RARE_WORDS = 6
PERSON, TEXT = 2.0, 3.0  # what a shared author and the most alike text weigh beside a shared topic, at most 1


@dataclass
class Near:
    """A work near another and why, in words."""

    work: Work
    reasons: list[str] = field(default_factory=list)


def around(work: Work) -> tuple[list[Near], dict]:
    """`related` and `beside`, kept until any work changes."""
    key = f"around-{current().version}-{work.pk}"
    found = cache.get(key)
    if found is None:
        found = related(work), beside(work)
        cache.set(key, found)
    return found


def related(work: Work, count: int = 6) -> list[Near]:
    """The `count` nearest works, best first. Needs a work with topics, authors and claims prefetched."""
    snapshot = current()
    if work.pk not in snapshot.place:
        return []
    own, score, n = snapshot.place[work.pk], np.zeros(snapshot.n), snapshot.n
    reasons: dict[int, list[str]] = defaultdict(list)
    topics = _shared(snapshot.topic, own, n)
    for _, others in topics:
        score[others] += 1 - len(others) / n
    people = _shared(snapshot.person, own, n)
    for _, others in people:
        score[others] += PERSON
    alike = _alike(work, snapshot)
    score += TEXT * alike
    score[own] = 0
    best = [int(i) for i in np.argsort(-score, kind="stable")[:count] if score[i] > 0]
    names = [topic.name for topic in snapshot.topic.values]
    for i in best:
        reasons[i] += [names[value] for value, others in topics if i in others]
        reasons[i] += ["same authors"] if any(i in others for _, others in people) else []
        reasons[i] += ["alike in words"] if alike[i] > 0.5 else []
    works = Work.objects.in_bulk([int(snapshot.pks[i]) for i in best])
    return [Near(works[int(snapshot.pks[i])], reasons[i]) for i in best if int(snapshot.pks[i]) in works]


def _shared(pairs: Pairs, own: int, n: int) -> list[tuple[int, np.ndarray]]:
    """(value, the other works that have it) of each value of work `own`."""
    values = pairs.value[pairs.work == own]
    found = [(int(value), pairs.work[(pairs.value == value) & (pairs.work != own)]) for value in values]
    return [(value, others) for value, others in found if len(others)]


def _alike(work: Work, snapshot: Snapshot) -> np.ndarray:
    """How much of the work's rarest words the others hold, 0 to 1."""
    text = " ".join([work.title, *(claim.statement for claim in work.claims.all())])
    asked = {word for word in words(text) if len(word) > 3 and not word.isdigit()}
    known = SearchWord.objects.filter(word__in=list(asked)[:200], works__range=(2, max(2, snapshot.n // 10)))
    rare = list(known.order_by("works", "word").values_list("word", flat=True)[:RARE_WORDS])
    found = np.zeros(snapshot.n)
    if rare:
        for pk, score in engines.match(Query(words=rare), any_word=True).items():
            if pk in snapshot.place:
                found[snapshot.place[pk]] = score
        own = found[snapshot.place[work.pk]]
        found /= max(own, float(found.max()), 1e-9)
    return np.clip(found, 0, 1)


def beside(work: Work) -> dict:
    """The work before and after it in its first category, and that category; empty for a work in none."""
    snapshot = current()
    own = snapshot.place.get(work.pk)
    entries = np.flatnonzero(snapshot.entry_work == own) if own is not None else np.array([])
    if not len(entries):
        return {}
    category = snapshot.entry_category[entries[0]]
    row = np.flatnonzero(snapshot.entry_category == category)
    at = int(np.flatnonzero(row == entries[0])[0])
    places = {name: row[i] for name, i in (("previous", at - 1), ("next", at + 1)) if 0 <= i < len(row)}
    pks = {name: int(snapshot.pks[snapshot.entry_work[place]]) for name, place in places.items()}
    works = Work.objects.in_bulk(list(pks.values()))
    found = {name: works[pk] for name, pk in pks.items() if pk in works}
    return found | {"category": snapshot.category.values[category]}
