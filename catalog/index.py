"""Keeps search and facets in step with the catalogue: whoever changes works calls `refresh`, or `rebuild` for all."""

import datetime
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator

from django.db import transaction

from catalog import engines
from catalog.models import SearchVersion, SearchWord, Standing, Work
from catalog.words import forms, stems, words

CHUNK = 500


def texts(work: Work) -> dict[str, str]:
    """The searched words of a work, column by column. Needs `Work.objects.for_index()`, or it costs queries."""
    entries = list(work.entries.all())
    names = [work.title, work.slug, work.arxiv_id or "", *(f"{e.tag} {e.title}" for e in entries)]
    claims = [f"{claim.statement} {claim.metric}" for claim in work.claims.all()]
    topics = [*(topic.name for topic in work.topics.all()), *(entry.category.name for entry in entries)]
    abstract = work.abstract
    raw = {
        "names": " ".join(dict.fromkeys(names)),
        "people": " ".join(authorship.author.name for authorship in work.authorships.all()),
        "topics": " ".join(topics),
        "claims": " ".join(claims),
        "abstract": abstract,
    }
    found = {column: " ".join(words(text)) for column, text in raw.items()}
    found["forms"] = " ".join(forms(" ".join([raw["names"], raw["topics"]])))
    prose = " ".join([raw["names"], raw["topics"], raw["claims"], abstract])
    return found | {"stems": " ".join(dict.fromkeys(stems(prose)))}


def rebuild() -> int:
    """Index every work anew; how many there are."""
    with transaction.atomic():
        engines.clear()
        counts: Counter = Counter()
        total = 0
        for documents in _chunks(Work.objects.all()):
            engines.write(documents)
            total += len(documents)
            for _, columns in documents:
                counts.update(_vocabulary(columns))
        SearchWord.objects.all().delete()
        _add_words(counts)
        touch()
    return total


def refresh(pks: Iterable[int]) -> None:
    """Index these works anew, which may be new or gone."""
    pks = list(pks)
    with transaction.atomic():
        engines.clear(pks)
        counts: Counter = Counter()
        for documents in _chunks(Work.objects.filter(pk__in=pks)):
            engines.write(documents)
            for _, columns in documents:
                counts.update(_vocabulary(columns))
        known = set(SearchWord.objects.filter(word__in=counts).values_list("word", flat=True))
        _add_words(Counter({word: n for word, n in counts.items() if word not in known}))
        touch()


def note_standing(work: Work, runnable: bool, verdicts: list, newest: datetime.datetime | None) -> None:
    """What runs say of a work now: `verdicts` holds [device, outcome] of each claim that was measured."""
    fields = {"runnable": runnable, "verdicts": verdicts, "newest": newest}
    Standing.objects.update_or_create(work=work, defaults=fields)
    touch()


def note_rating(work: Work, mean: float, count: int) -> None:
    """What readers think of a work: the mean to sort by, and how many rated it."""
    Standing.objects.update_or_create(work=work, defaults={"rating": mean, "ratings": count})
    touch()


def touch() -> None:
    """Facets are counted anew from here on. The number is drawn, so that one of a change undone never comes again."""
    SearchVersion.objects.update_or_create(pk=1, defaults={"number": secrets.randbits(62)})


def _chunks(works) -> Iterator[list[tuple[int, dict[str, str]]]]:
    pks = list(works.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(pks), CHUNK):
        part = Work.objects.for_index().filter(pk__in=pks[start : start + CHUNK])
        yield [(work.pk, texts(work)) for work in part]


def _vocabulary(columns: dict[str, str]) -> set[str]:
    found = {word for column, text in columns.items() if column != "stems" for word in text.split()}
    return {word for word in found if 3 <= len(word) <= 80 and not word.isdigit()}


def _add_words(counts: Counter) -> None:
    rows = [SearchWord(word=word, length=len(word), works=n) for word, n in sorted(counts.items())]
    SearchWord.objects.bulk_create(rows, batch_size=500)
