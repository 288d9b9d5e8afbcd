"""Atom: well formed, the same names for ever, as new as the list is, for any filter."""

import datetime
from xml.etree import ElementTree

import pytest

from catalog import index
from catalog.models import Work
from readers import services
from readers.models import Collection
from tests.site.people import person, sign_in

pytestmark = pytest.mark.django_db
ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every feed stands on the list."""


def feed(client, query: str = "", **headers):
    answer = client.get(f"/feeds/works.atom{query}", **headers)
    assert answer.status_code == 200 and answer["Content-Type"].startswith("application/atom+xml")
    return ElementTree.fromstring(answer.content)


def titles(root) -> list[str]:
    return [entry.findtext(f"{ATOM}title") for entry in root.findall(f"{ATOM}entry")]


def test_it_has_what_atom_asks_for_newest_first(client):
    root = feed(client)
    assert root.tag == f"{ATOM}feed"
    for name in ("id", "title", "updated"):
        assert root.findtext(f"{ATOM}{name}")
    links = {link.get("rel"): link.get("href") for link in root.findall(f"{ATOM}link")}
    assert links["self"] == "http://testserver/feeds/works.atom" and links["alternate"] == "http://testserver/"
    entries = root.findall(f"{ATOM}entry")
    assert len(entries) == 50
    dates = [datetime.datetime.fromisoformat(entry.findtext(f"{ATOM}updated")) for entry in entries]
    assert all(date.tzinfo for date in dates)
    assert root.findtext(f"{ATOM}updated") == max(dates).isoformat()
    assert len({entry.findtext(f"{ATOM}id") for entry in entries}) == 50
    for entry in entries:
        assert entry.find(f"{ATOM}link").get("href").startswith("http://testserver/papers/")
        assert entry.find(f"{ATOM}author") is not None or root.find(f"{ATOM}author") is not None


def test_names_do_not_depend_on_host_or_title(client, settings):
    settings.ALLOWED_HOSTS = ["*"]
    before = [e.findtext(f"{ATOM}id") for e in feed(client, "?topic=pruning").findall(f"{ATOM}entry")]
    work = Work.objects.get(slug="sparsegpt")
    work.title = "Another title"
    work.save()
    index.refresh([work.pk])
    root = feed(client, "?topic=pruning", HTTP_HOST="other.example")
    after = [e.findtext(f"{ATOM}id") for e in root.findall(f"{ATOM}entry")]
    assert set(after) == set(before) and all(name.startswith("urn:uuid:") for name in after)
    assert "Another title" in titles(root)


@pytest.mark.parametrize("query", ["?topic=pruning", "?q=flash", "?year=2022&code=yes", "?category=others", "?q=xyzzy"])
def test_a_filter_is_the_lists_own(client, query):
    api = client.get(f"/api/v1/works{query}&size=200").json()
    root = feed(client, query)
    assert set(titles(root)) == {work["title"] for work in api["results"]}
    link = next(link for link in root.findall(f"{ATOM}link") if link.get("rel") == "alternate")
    assert f"<strong>{api['total']}</strong> work" in client.get(link.get("href")).content.decode()


def test_what_is_not_understood_is_said(client):
    assert "not understood" in feed(client, "?year=soon").findtext(f"{ATOM}subtitle")


def test_it_is_sent_again_only_when_something_changed(client):
    answer = client.get("/feeds/works.atom")
    tag = {"HTTP_IF_NONE_MATCH": answer["ETag"]}
    again = client.get("/feeds/works.atom", **tag)
    assert again.status_code == 304 and not again.content and again["ETag"] == answer["ETag"]
    assert client.get("/feeds/works.atom?topic=pruning", **tag).status_code == 200
    index.refresh([Work.objects.first().pk])
    assert client.get("/feeds/works.atom", **tag).status_code == 200


def test_text_that_xml_cannot_hold_does_not_break_it(client):
    work = Work.objects.get(slug="mamba")
    work.title = "A <b> & \x0b ]]> \ufffe é"
    work.save()
    index.refresh([work.pk])
    assert any(title.startswith("A <b> & ") for title in titles(feed(client, "?q=mamba")))


def test_a_collection_has_a_feed_for_those_who_may_see_it(client, settings):
    collection = Collection.objects.create(owner=person("owner"), name="Serving", visibility="private")
    services.add(collection, Work.objects.get(slug="vllm"))
    address = f"?collection={collection.pk}"
    by_key = f"?collection={collection.key}"
    assert len(titles(feed(client, address))) == 50 and "not understood" in feed(client, address).findtext(
        f"{ATOM}subtitle"
    )
    assert len(titles(feed(client, by_key))) == 50
    sign_in(client, settings, "owner")
    assert len(titles(feed(client, address))) == 1
    tag = client.get(f"/feeds/works.atom{address}")["ETag"]
    sign_in(client, settings, "reader")
    assert client.get(f"/feeds/works.atom{address}", HTTP_IF_NONE_MATCH=tag).status_code == 200
    collection.visibility = "link"
    collection.save()
    assert len(titles(feed(client, by_key))) == 1 and len(titles(feed(client, address))) == 50
    tag = client.get(f"/feeds/works.atom{by_key}")["ETag"]
    services.add(collection, Work.objects.get(slug="orca"))
    assert client.get(f"/feeds/works.atom{by_key}", HTTP_IF_NONE_MATCH=tag).status_code == 200
