"""Atom: what was listed last, for any selection."""

import datetime
import re
import uuid

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.feedgenerator import Atom1Feed
from django.views.decorators.http import require_safe

from catalog import versions
from catalog.listing import Listing
from catalog.models import Work
from catalog.selection import Selection
from config.rest import tagged, unchanged

MANY = 50
NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "claimcheck")
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Feed(Atom1Feed):
    """An empty feed is as old as it can be, not new at every request."""

    def latest_post_date(self) -> datetime.datetime:
        """When the newest entry was new."""
        return max((item["updateddate"] for item in self.items), default=_moment(datetime.date(1970, 1, 1)))


@require_safe
def works(request: HttpRequest) -> HttpResponse:
    """The works of a selection that were listed last, newest first."""
    tag = versions.tag(request)
    if (answer := unchanged(request, tag)) is not None:
        return answer
    query = request.GET.copy()
    for name in ("sort", "page"):
        query.pop(name, None)
    selection = Selection.read(query, request.user)
    selection.sort = "listed"
    listing = Listing(selection)
    order = listing.order()[:MANY].tolist()
    found = Work.objects.for_list().in_bulk(order)
    feed = _feed(request, listing)
    for pk in order:
        if pk in found:
            _add(feed, request, found[pk])
    request.etag = tag  # type: ignore[attr-defined]
    return tagged(request, HttpResponse(feed.writeString("utf-8"), content_type=Feed.content_type))


def _feed(request: HttpRequest, listing: Listing) -> Feed:
    selection, address = listing.selection, listing.selection.address(sort="")
    asked = [selection.q.strip(), *(f"{name}: {value}" for name, value in sorted(selection.filters.items()))]
    said = [*listing.chosen.notes, *(f"not understood: {problem}" for problem in listing.chosen.problems)]
    return Feed(
        title=clean(" · ".join(["New works", *filter(None, asked)])),
        link=request.build_absolute_uri(reverse("index") + address.rstrip("?")),
        description=None,
        subtitle=clean(" · ".join(said)) or None,
        feed_url=request.build_absolute_uri(),
        feed_guid=named(f"feed {address}"),
        author_name="Claimcheck",
        language="en",
    )


def _add(feed: Feed, request: HttpRequest, work: Work) -> None:
    """The work as it was listed; that a text of it was mended since makes it no newer."""
    months = sorted(entry.month for entry in work.entries.all() if re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", entry.month))
    listed = datetime.date.fromisoformat(f"{months[-1]}-01") if months else work.published
    authors = [authorship.author.name for authorship in work.authorships.all()]
    categories = [entry.category.name for entry in work.entries.all()]
    summary = ". ".join(filter(None, [", ".join(authors), work.venue, ", ".join(categories)]))
    feed.add_item(
        title=clean(work.title),
        link=request.build_absolute_uri(reverse("paper", args=[work.slug])),
        description=plain(summary),
        unique_id=named(f"work {work.slug}"),
        pubdate=_moment(work.published),
        updateddate=max(_moment(listed), _moment(work.published)),
        author_name=clean(", ".join(authors)) or None,
        categories=[clean(topic.name) for topic in work.topics.all()],
    )


def named(text: str) -> str:
    """The same on every host and for ever."""
    return f"urn:uuid:{uuid.uuid5(NAMES, text)}"


def _moment(date: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(date, datetime.time(), datetime.UTC)


def clean(text: str) -> str:
    """Without what XML cannot hold."""
    return NO_XML.sub("", text)


def plain(text: str) -> str:
    """Plain text where a feed has HTML."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;")
