"""Curators edit a work on its page, with and without htmx, and find each change in its history."""

import re

import pytest

from catalog import curation, editing
from catalog.models import Category, Claim, Entry, Link, Work
from tests.site.people import person, sign_in
from tests.site.shown import text

pytestmark = pytest.mark.django_db
PAPER = "/papers/vllm/"


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


@pytest.fixture
def work():
    return Work.objects.get(slug="vllm")


@pytest.fixture
def curator(client, settings):
    return sign_in(client, settings, "curator")


def filled(response) -> dict:
    """What the page's form holds, as a browser would send it."""
    form = response.context["form"]
    found = {name: bound.value() for name, bound in ((b.name, b) for b in form)}
    return {
        name: "on" if value is True else value
        for name, value in found.items()
        if value is not None and value is not False
    }


def test_the_links_lead_to_forms_for_curators_alone(client, settings, work):
    assert "/edit/" not in client.get(PAPER).content.decode()
    sign_in(client, settings, "reader")
    assert "/edit/" not in client.get(PAPER).content.decode()
    sign_in(client, settings, "curator")
    page = client.get(PAPER).content.decode()
    addresses = set(re.findall(r'class="edit" href="([^"]*)"', page))
    links = Link.objects.filter(entry__work=work).count()
    assert len(addresses) == 1 + (work.claims.count() + 1) + 2 * work.entries.count() + 1 + links
    for address in addresses:
        plain, swapped = client.get(address), client.get(address, headers={"HX-Request": "true"})
        assert plain.status_code == swapped.status_code == 200
        assert b"<html" in plain.content and b"<html" not in swapped.content and b"<form" in swapped.content


def test_a_form_that_is_sent_as_it_is_changes_nothing(curator, work):
    page = curator.get(PAPER).content.decode()
    for address in re.findall(r'class="edit" href="([^"]*/edit/(?!\w+/new)[^"]*)"', page):
        assert curator.post(address, filled(curator.get(address))).status_code == 302, address
    assert "Nobody has changed anything" in text(curator.get(f"{PAPER}history/"))


def test_facts(curator, work):
    address = f"{PAPER}edit/facts/"
    data = filled(curator.get(address))
    data |= {"title": "Pages", "published": "2023-10", "authors": "Ann  Bee\r\n\r\nCee Dee", "reason": "from the paper"}
    data["topics"] = "KV cache, serving"
    assert curator.post(address, data).url == PAPER
    page = text(curator.get(PAPER))
    assert "Kept." in page and "Ann Bee, Cee Dee" in page and "2023-10" in page and "kv-cache" in page
    work.refresh_from_db()
    assert (work.title, work.published_precision) == ("Pages", "month")
    log = text(curator.get(f"{PAPER}history/"))
    assert "Work changed curator" in log and "from the paper" in log and "→ Pages" in log


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [("title", "", "required"), ("published", "soon", "YYYY-MM-DD"), ("url", "javascript:x", "valid URL"),
     ("arxiv_id", "x", "arXiv id"), ("arxiv_id", "2205.14135", "already exists"), ("kind", "novel", "valid choice")],
)  # fmt: skip
def test_what_is_wrong_is_said_on_the_form_and_nothing_is_written(curator, work, field, value, word):
    before = list(Work.objects.values())
    address = f"{PAPER}edit/facts/"
    data = filled(curator.get(address)) | {"venue": "V", field: value}
    answer = curator.post(address, data)
    assert answer.status_code == 400 and word in text(answer) and 'value="V"' in answer.content.decode()
    swapped = curator.post(address, data, headers={"HX-Request": "true"})
    assert swapped.status_code == 200 and word in text(swapped) and b"<html" not in swapped.content
    assert list(Work.objects.values()) == before


def test_htmx_asks_for_the_page_anew_once_it_is_kept(curator, work):
    entry = work.entries.first()
    address = f"{PAPER}edit/entries/{entry.pk}/"
    data = filled(curator.get(address)) | {"stars": 4}
    answer = curator.post(address, data, headers={"HX-Request": "true"})
    assert answer["HX-Refresh"] == "true"
    entry.refresh_from_db()
    assert entry.stars == 4


def test_entries_links_and_claims_are_added_changed_removed_and_brought_back(curator, work):
    category = Category.objects.exclude(entries__work=work).first()
    entry = {"category": category.pk, "month": "2024-01", "tag": "T", "title": "Listed", "stars": 3, "highlights": 1}
    assert curator.post(f"{PAPER}edit/entries/new/", entry).status_code == 302
    made = work.entries.get(category=category)
    twice = curator.post(f"{PAPER}edit/entries/new/", entry)
    assert twice.status_code == 400 and "in that category already" in text(twice)

    link = {"entry": made.pk, "role": "code", "label": "x", "url": "https://example.org/x"}
    assert curator.post(f"{PAPER}edit/links/new/", link).status_code == 302
    found = made.links.get()
    other = Entry.objects.exclude(work=work).first()
    assert curator.post(f"{PAPER}edit/links/new/", link | {"entry": other.pk}).status_code == 400
    assert curator.post(f"{PAPER}edit/links/{found.pk}/", link | {"label": "y"}).status_code == 302

    claim = {"key": "new", "statement": "It is new", "direction": "at_least", "value": "2", "needs": "any"}
    assert curator.post(f"{PAPER}edit/claims/new/", claim).url.endswith("#claim-new")
    assert curator.post(f"{PAPER}edit/claims/new/", claim).status_code == 400
    kept = work.claims.get(key="new")
    changed = claim | {"key": "other", "value": "3"}
    assert curator.post(f"{PAPER}edit/claims/{kept.pk}/", changed).status_code == 302
    kept.refresh_from_db()
    assert (kept.key, kept.value) == ("new", 3.0)

    for part, row in (("claims", kept), ("entries", made)):
        address = f"{PAPER}edit/{part}/{row.pk}/remove/"
        assert "?" in text(curator.get(address)) and type(row).objects.filter(pk=row.pk).exists()
        assert curator.post(address).status_code == 302
        assert not type(row).objects.filter(pk=row.pk).exists()
    page = curator.get(f"{PAPER}history/").content.decode()
    assert page.count("Bring it back") == 3
    for kind in ("entry", "claim"):
        model = {"entry": Entry, "claim": Claim}[kind]
        number = model.history.filter(history_type="-").first().history_id
        assert curator.post(f"{PAPER}history/{kind}/{number}/undo/").status_code == 302
    assert Link.objects.get(pk=found.pk).label == "y" and Claim.objects.get(pk=kept.pk).value == 3.0
    again = curator.post(f"{PAPER}history/{kind}/{number}/undo/")
    assert again.status_code == 409 and "Not undone: this claim is there again already." in text(again)


def test_undo_from_the_page(curator, work):
    before = work.venue
    address = f"{PAPER}edit/facts/"
    for venue in ("First", "Second"):
        curator.post(address, filled(curator.get(address)) | {"venue": venue})
    newer, older = re.findall(r'action="([^"]*/undo/)"', curator.get(f"{PAPER}history/").content.decode())
    refused = curator.post(older)
    assert refused.status_code == 409 and "venue was changed again since" in text(refused)
    assert curator.post(newer).url == curator.post(older).url == f"{PAPER}history/"
    work.refresh_from_db()
    assert work.venue == before
    assert curator.post(older.replace("/vllm/", "/orca/")).status_code == 404


def test_rows_of_another_work_are_not_found_here(curator, work):
    other = Work.objects.get(slug="orca")
    for part, row in (("entries", other.entries.first()), ("claims", other.claims.first())):
        assert curator.get(f"{PAPER}edit/{part}/{row.pk}/").status_code == 404
        assert curator.post(f"{PAPER}edit/{part}/{row.pk}/remove/").status_code == 404
    assert curator.get(f"{PAPER}edit/nothing/new/").status_code == 404


def test_the_api_writes_history_too(curator, work):
    curator.patch("/api/v1/works/vllm", {"venue": "V"}, content_type="application/json")
    assert "through the API" in text(curator.get(f"{PAPER}history/"))
    assert Work.history.first().history_user == person("curator")


def test_what_was_removed_meanwhile_is_told(curator, work, monkeypatch):
    """Two curators who look at the same link: the second is told the truth, whether he removes or changes it."""
    link = Link.objects.filter(entry__work=work).first()
    address = f"{PAPER}edit/links/{link.pk}/"
    sent, pk = filled(curator.get(address)), link.pk
    first, second, third = (Link.objects.select_related("entry").get(pk=pk) for _ in range(3))
    assert curation.remove(link, None) and not curation.remove(first, None)
    seen = iter([second, third])  # each curator's view found it before the other's removal
    monkeypatch.setattr(editing, "_row", lambda slug, part, number: (work, next(seen)))
    said = text(curator.post(f"{address}remove/", follow=True))
    assert "removed already, by somebody else" in said and "The link was removed." not in said
    changed = curator.post(address, sent | {"label": "other"})
    assert changed.status_code == 400 and "removed meanwhile" in text(changed)
    assert not Link.objects.filter(pk=pk).exists(), "nothing brings it back"
