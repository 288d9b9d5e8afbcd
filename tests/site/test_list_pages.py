"""The list's pages as a visitor gets them: the curator's order, search, facets, and papers that nobody has run yet."""

import re

import pytest
from django.urls import reverse

from catalog.models import Work
from tests.site.shown import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("catalogue")]


def test_the_list_shows_every_entry_in_the_curators_order(client):
    page = client.get("/").content.decode()
    assert page.count("data-row") == 84
    names = re.findall(r'<h2 id="c-[^"]*">([^<]*)</h2>', page)
    assert len(names) == 12 and names[0] == "LLM Algorithmic/Eval Survey" and "Others" in names[-1]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("attention sinks", "streaming-llm"),
        ("flashattention", "flashattention"),
        ("Re", None),
        ("ré", None),
        ("dao exact attention", "flashattention"),
        ("2309.17453", "streaming-llm"),
        ("https://arxiv.org/pdf/2309.17453v3.pdf", "streaming-llm"),
        ("PagedAttention", "vllm"),
        ("LLM.int8()", "llm-int8"),
    ],
)
def test_search_finds_the_work_first(client, query, first):
    page = client.get("/", {"q": query}).content.decode()
    found = re.findall(r'class="title" href="/papers/([^/]*)/', page)
    assert found and (first is None or found[0] == first)


def test_accents_are_folded(client):
    def count(q):
        return client.get("/", {"q": q}).content.decode().count("data-row")

    assert count("Ré") == count("re") > 0


def test_nothing_found_is_said(client):
    assert "Nothing matches “zzzz”" in text(client.get("/", {"q": "zzzz"}))


def test_facets_count_what_they_would_give(client):
    page = client.get("/").content.decode()
    assert re.search(r">with code <span class=\"count\">44<", page)
    works = re.findall(r'class="title" href="([^"]*)"', client.get("/?code=yes").content.decode())
    assert len(set(works)) == 44
    chosen = client.get("/?category=early-exit&code=no").content.decode()
    assert chosen.count("data-row") == 2
    assert re.search(r'class="chosen"[^>]*>Early-Exit', chosen)


def test_what_is_not_understood_is_said_and_left_out(client):
    page = client.get("/?category=nothing&colour=red&code=perhaps")
    assert page.status_code == 200 and page.content.decode().count("data-row") == 84
    assert "category: expected a category of the list" in text(page) and "“colour” is no filter" in text(page)


def test_the_list_is_a_page_and_a_fragment_at_one_address(client):
    fragment = client.get("/?q=sinks", headers={"HX-Request": "true"})
    assert "<html" not in fragment.content.decode() and 'id="list"' in fragment.content.decode()
    assert "HX-Request" in fragment["Vary"]


def test_a_paper_without_reproduction_shows_its_claims_and_says_so(client):
    work = Work.objects.get(slug="vllm")
    page = text(client.get("/papers/vllm/"))
    assert "has no reproduction here yet" in page
    for claim in work.claims.all():
        assert " ".join(claim.statement.split())[:60] in page.replace("&#x27;", "'").replace("&quot;", '"')


def test_every_paper_has_a_page(client):
    for slug in Work.objects.values_list("slug", flat=True):
        assert client.get(reverse("paper", args=[slug])).status_code == 200


def test_a_figure_that_was_not_verified_is_marked(client):
    work = Work.objects.filter(claims__verified=False).first()
    assert "figure not verified" in text(client.get(f"/papers/{work.slug}/"))


def test_months_that_differ_are_both_shown(client):
    assert "listed under 2020-05 (published 2019-09-17)" in text(client.get("/papers/megatron-lm/"))
