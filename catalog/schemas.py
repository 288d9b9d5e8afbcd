"""What the API says of works, entries, categories and claims."""

import datetime

from django.urls import reverse
from ninja import Field, Schema

from catalog.models import Claim, Entry, Link, Work, WorkQuerySet
from catalog.selection import DEVICES, OUTCOMES, SORTS
from config.rest import Page
from config.text import clean_link


class Filters(Schema):
    """The same words as in the address of the list. What is not understood is left out and told in `problems`."""

    q: str = Field("", description="words, phrases in quotes, -word, field:value, an arXiv id or address")
    category: str = Field("", description="a category's slug, or words of its name")
    topic: str = ""
    year: str = Field("", description="2023, or 2022-2024")
    since: str = Field("", alias="from", description="published then or later: 2023, 2023-05 or 2023-05-17")
    to: str = Field("", description="published then or earlier")
    author: str = ""
    code: str = Field("", description="yes or no")
    stars: str = Field("", description="at least so many")
    highlight: str = Field("", description="yes or no")
    kind: str = Field("", description=", ".join(Work.Kind.values))
    verdict: str = Field("", description=", ".join(OUTCOMES))
    device: str = Field("", description=", ".join(DEVICES))
    runnable: str = Field("", description="yes or no")
    collection: str = Field("", description="a collection's number, or the key of its link")
    sort: str = Field("", description=", ".join(SORTS))


class LinkOut(Schema):
    """A link of an entry, as the list has it."""

    id: int
    role: str
    label: str
    url: str

    @staticmethod
    def resolve_url(link: Link) -> str:
        """As it may be followed."""
        return clean_link(link.url)


class EntryOut(Schema):
    """A work in a category of the list, with what its curator wrote."""

    id: int
    work: str = Field(description="the work's slug")
    category: str = Field(description="the category's slug")
    month: str
    tag: str
    bold: bool
    title: str
    highlights: int = Field(description="flames")
    stars: int
    links: list[LinkOut]

    @staticmethod
    def resolve_work(entry: Entry) -> str:
        """The slug."""
        return entry.work.slug

    @staticmethod
    def resolve_category(entry: Entry) -> str:
        """The slug."""
        return entry.category.slug


class CategoryOut(Schema):
    """A heading of the list."""

    slug: str
    name: str
    position: int
    works: int = Field(description="how many works of the selection it has")


class CategoryName(Schema):
    """A heading of the list by itself."""

    slug: str
    name: str
    position: int


class ClaimOut(Schema):
    """What a work says of itself."""

    work: str = Field(description="the work's slug")
    key: str
    statement: str
    metric: str
    direction: str
    value: float | None
    unit: str
    conditions: str
    place: str = Field(description="where in the work it stands")
    source: str
    verified: bool = Field(description="whether the figure was seen in the work or a full copy")
    needs: str

    @staticmethod
    def resolve_work(claim: Claim) -> str:
        """The slug."""
        return claim.work.slug


class WorkOut(Schema):
    """A paper, blog post, notes, docs page or survey of the list."""

    slug: str
    title: str
    kind: str
    arxiv_id: str | None
    doi: str
    url: str
    page: str = Field(description="its page here")
    published: str = Field(description="as far as it is known: 2023-09-29, 2023-10, 2022 or nothing")
    venue: str
    published_title: str
    authors: list[str]
    authors_complete: bool
    topics: list[str]
    entries: list[EntryOut]
    runnable: bool
    verdicts: list[dict[str, str]] = Field(description="devices and outcomes of its claims, each pair once")
    newest_result: datetime.datetime | None

    @staticmethod
    def resolve_url(work: Work) -> str:
        """As it may be followed."""
        return clean_link(work.url)

    @staticmethod
    def resolve_page(work: Work) -> str:
        """The address."""
        return reverse("paper", args=[work.slug])

    @staticmethod
    def resolve_published(work: Work) -> str:
        """As far as it is known."""
        return work.published_text

    @staticmethod
    def resolve_authors(work: Work) -> list[str]:
        """Names, in order."""
        return [authorship.author.name for authorship in work.authorships.all()]

    @staticmethod
    def resolve_topics(work: Work) -> list[str]:
        """Names."""
        return [topic.name for topic in work.topics.all()]

    @staticmethod
    def resolve_runnable(work: Work) -> bool:
        """Whether it has a reproduction."""
        return getattr(work, "standing", None) is not None and work.standing.runnable

    @staticmethod
    def resolve_verdicts(work: Work) -> list[dict[str, str]]:
        """Devices and outcomes."""
        standing = getattr(work, "standing", None)
        return [{"device": device, "outcome": outcome} for device, outcome in (standing.verdicts if standing else [])]

    @staticmethod
    def resolve_newest_result(work: Work) -> datetime.datetime | None:
        """When the newest result was measured."""
        return work.standing.newest if getattr(work, "standing", None) else None


class WorkDetail(WorkOut):
    """A work with its claims."""

    claims: list[ClaimOut]


class Selected(Page):
    """One page of what a selection gave."""

    problems: list[str] = Field(description="what was not understood, and was left out")
    notes: list[str] = Field(description="what was understood otherwise than typed")


class Works(Selected):
    """Works, in the order asked for."""

    results: list[WorkOut]


class Entries(Selected):
    """Entries, in the list's order."""

    results: list[EntryOut]


class Categories(Schema):
    """The headings of the list, in its order."""

    problems: list[str]
    notes: list[str]
    results: list[CategoryOut]


class OptionOut(Schema):
    """A value of a facet."""

    label: str
    count: int = Field(description="how many works choosing it would give")
    chosen: bool
    query: str = Field(alias="address", description="the query string that chooses it, or takes it away")


class FacetOut(Schema):
    """A filter with its values."""

    title: str
    options: list[OptionOut]


class Hit(Schema):
    """A work that was found."""

    slug: str
    title: str
    page: str
    score: float


class Search(Selected):
    """What a search found, with the facets of all of it."""

    results: list[Hit]
    words: list[str] = Field(description="what to highlight")
    facets: list[FacetOut]


def whole_works() -> WorkQuerySet:
    """Works with all that WorkDetail says of them."""
    works = Work.objects.for_list().select_related("standing")
    return works.prefetch_related("entries__work", "claims__work")
