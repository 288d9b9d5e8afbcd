"""The list and the claims as pages: filters, orders, highlights, what is said. What a line finds: tests/catalog."""

import re

import pytest

from catalog.models import Work
from tests.site import measured
from tests.site.shown import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("catalogue")]


def rows(page) -> list[str]:
    return re.findall(r'class="title" href="/papers/([^/]*)/"', page.content.decode())


def test_hits_are_highlighted_and_text_stays_escaped(client):
    page = client.get("/", {"q": "attention"}).content.decode()
    assert "Flash<mark>Attention</mark>" in page
    Work.objects.filter(slug="mamba").update(title="<b>Mamba</b> & co")
    page = client.get("/", {"q": "mamba"}).content.decode()
    assert "&lt;b&gt;<mark>Mamba</mark>&lt;/b&gt; &amp; co" in page and "<b>Mamba" not in page


def test_what_was_understood_otherwise_is_said(client):
    assert "“quantization” instead of “quantizaton”" in text(client.get("/", {"q": "quantizaton"}))


@pytest.mark.parametrize(
    ("query", "some", "other"),
    [
        ("topic=pruning", "sparsegpt", "mamba"),
        ("year=2022", "flashattention", "mamba"),
        ("kind=survey", "efficient-llms-survey", "mamba"),
        ("stars=2", "flashattention", "fp8-lm"),
        ("highlight=yes", "flashattention", "fp8-lm"),
        ("author=tri+dao", "mamba", "fp8-lm"),
        ("from=2018&to=2018", "online-softmax", "mamba"),
        ("code=no&year=2018", "online-softmax", "mamba"),
    ],
)
def test_each_filter_narrows_the_list(client, query, some, other):
    found = rows(client.get(f"/?{query}"))
    assert some in found and other not in found


def test_filters_stay_in_the_address_and_can_be_taken_away(client):
    page = client.get("/?topic=attention&year=2023&q=fast").content.decode()
    assert 'href="?q=fast&amp;year=2023" class="chosen"' in page and 'href="?q=fast&amp;topic=attention"' in page
    assert '<input type="hidden" form="search" name="year" value="2023">' in page


def test_a_facet_counts_what_its_address_gives(client):
    page = client.get("/?year=2023").content.decode()
    options = re.findall(r'href="(\?[^"]*)">[^<]*<span class="count">(\d+)<', page)
    assert len(options) > 20
    for address, count in options[::4]:
        found = client.get("/" + address.replace("&amp;", "&")).content.decode()
        assert f"<strong>{count}</strong> work" in found, address


@pytest.mark.parametrize("sort", ["date", "listed", "stars", "rating", "result", "title"])
def test_every_order_shows_every_work_once(client, sort):
    found = rows(client.get(f"/?sort={sort}"))
    assert len(found) == len(set(found)) == 76


def test_orders_are_what_they_say(client):
    dates = dict(Work.objects.values_list("slug", "published"))
    found = rows(client.get("/?sort=date"))
    assert [dates[slug] for slug in found] == sorted(dates.values(), reverse=True)


def test_a_work_in_no_category_is_listed_last(client):
    from catalog import index

    work = Work.objects.create(
        slug="stray", title="A stray work", kind="paper", url="https://e.org", published="2024-01-01"
    )
    index.refresh([work.pk])
    page = client.get("/")
    assert rows(page)[-1] == "stray" and "In no category" in text(page)


def test_verdicts_are_a_facet_per_device(client, made):
    assert rows(client.get("/?verdict=replicated")) == []
    measured.run(made, 9.0)
    assert rows(client.get("/?verdict=contradicted")) == ["flashattention"]
    assert rows(client.get("/?verdict=contradicted&device=cpu")) == ["flashattention"]
    assert rows(client.get("/?verdict=contradicted&device=cuda")) == []
    assert rows(client.get("/", {"q": "verdict:contradicted"})) == ["flashattention"]
    assert rows(client.get("/?sort=result"))[0] == "flashattention"


def test_claims_of_every_work_are_on_one_page_after_another(client):
    seen, page = 0, 1
    while page <= 4:
        found = client.get(f"/claims/?page={page}").content.decode()
        seen += len(re.findall(r"#claim-", found))
        page += 1
    assert seen == 369


def test_claims_show_what_stands_by_device(client, made):
    assert "not measured" in text(client.get("/claims/?q=flashattention"))
    run = measured.run(made, 9.0)
    page = client.get("/claims/?verdict=contradicted").content.decode()
    assert len(re.findall("#claim-", page)) == 1 and f'href="/runs/{run.pk}/"' in page and "contradicted" in page


@pytest.mark.parametrize("address", ["/", "/?q=attention", "/claims/", "/?sort=date&year=2023"])
def test_pages_ask_few_queries(client, django_assert_max_num_queries, address):
    client.get(address)
    with django_assert_max_num_queries(12):
        client.get(address)


def test_claims_are_a_fragment_for_htmx(client):
    fragment = client.get("/claims/?q=sinks", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in fragment and 'id="list"' in fragment
