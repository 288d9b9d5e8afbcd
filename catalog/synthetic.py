"""Made-up works whose words are those of the real ones, as often: for measuring search at sizes no list has yet."""

import random
from itertools import islice

from django.utils.text import slugify

from catalog import index
from catalog.models import Author, Authorship, Category, Claim, Entry, Topic, Work
from catalog.words import words

BATCH = 2000


def add(count: int, seed: int = 0) -> None:
    """Add `count` works, with authors, topics, an entry and four claims each, to a loaded catalogue; index them."""
    rng = random.Random(seed)
    titles = " ".join(Work.objects.values_list("title", flat=True)).split()
    prose = " ".join(Claim.objects.values_list("statement", flat=True)).split()
    authors = list(Author.objects.values_list("pk", flat=True))
    topics, categories = list(Topic.objects.all()), list(Category.objects.all())
    numbers = iter(range(count))
    while part := list(islice(numbers, BATCH)):
        works = Work.objects.bulk_create(_work(rng, titles, number) for number in part)
        Authorship.objects.bulk_create(
            Authorship(work=work, author_id=pk, position=i)
            for work in works
            for i, pk in enumerate(rng.sample(authors, rng.randint(1, 8)))
        )
        tagged = Work.topics.through
        tagged.objects.bulk_create(
            tagged(work_id=work.pk, topic_id=topic.pk) for work in works for topic in rng.sample(topics, 3)
        )
        Entry.objects.bulk_create(_entry(rng, work, rng.choice(categories)) for work in works)
        Claim.objects.bulk_create(_claim(rng, work, prose, i) for work in works for i in range(4))
    index.rebuild()


def _work(rng: random.Random, titles: list[str], number: int) -> Work:
    title = " ".join(rng.choices(titles, k=rng.randint(5, 12)))
    return Work(
        slug=f"{slugify(title)[:60]}-{number}",
        title=title,
        kind=Work.Kind.PAPER,
        url=f"https://example.org/{number}",
        published=f"{rng.randint(2018, 2026)}-{rng.randint(1, 12):02}-01",
    )


def _entry(rng: random.Random, work: Work, category: Category) -> Entry:
    return Entry(
        category=category,
        work=work,
        position=work.pk,
        month=str(work.published)[:7],
        tag=work.title.split()[0],
        title=work.title,
        stars=rng.randint(0, 3),
        highlights=rng.randint(0, 1),
    )


def _claim(rng: random.Random, work: Work, prose: list[str], position: int) -> Claim:
    statement = " ".join(rng.choices(prose, k=rng.randint(20, 50)))
    return Claim(work=work, key=f"claim-{position}", position=position, statement=statement, direction="trend")


def lines(count: int, seed: int = 1) -> list[str]:
    """Lines as people type them, from the words of the catalogue as often as they are there."""
    rng = random.Random(seed)
    text = [
        *Work.objects.values_list("title", flat=True)[:2000],
        *Claim.objects.values_list("statement", flat=True)[:2000],
    ]
    pool = [word for one in text for word in words(one) if len(word) > 2]
    people = [words(name)[-1] for name in Author.objects.values_list("name", flat=True) if words(name)]
    made = []
    for _ in range(count):
        first, second = rng.sample(pool, 2)
        made.append(
            rng.choice(
                [
                    first,
                    f"{first} {second}",
                    f"{first} {second[:4]}",
                    f'"{first} {second}"',
                    f"{first} -{second}",
                    f"{first} year:2023",
                    f"author:{rng.choice(people)}",
                    f"{first[:-1]}x {second}",
                    "",
                    f"{first} code:yes",
                ]
            )  # fmt: skip
        )
    return made
