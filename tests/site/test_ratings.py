"""Readers' ratings: one each, a mean that one vote does not win, apart from the curator's stars."""

import re

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from catalog.models import Entry, Standing, Work
from readers import ratings
from readers.models import Rating
from tests.site.people import asks_to_sign_in, person, sign_in
from tests.site.shown import text

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


@pytest.fixture
def work():
    return Work.objects.get(slug="vllm")


@pytest.mark.parametrize("role", ["reader", "curator", "operator", "local"])
def test_whoever_is_signed_in_rates_once(client, settings, work, role):
    sign_in(client, settings, role)
    for value in (2, 5):
        assert client.post("/papers/vllm/rating/", {"value": value}).url == "/papers/vllm/#readers"
    assert [rating.value for rating in Rating.objects.all()] == [5]
    page = client.get("/papers/vllm/")
    assert "5.0 of 5, by 1 reader " in text(page)
    assert re.search(r'value="5" aria-pressed="true"', page.content.decode())


def test_a_visitor_reads_and_is_asked_to_sign_in(client, work):
    ratings.rate(person("reader"), work, 4)
    page = client.get("/papers/vllm/")
    assert "4.0 of 5, by 1 reader" in text(page) and "/papers/vllm/rating/" not in page.content.decode()
    assert asks_to_sign_in(client.post("/papers/vllm/rating/", {"value": 1}))
    assert Rating.objects.get().value == 4


def test_it_can_be_taken_back(client, settings, work):
    sign_in(client, settings, "reader").post("/papers/vllm/rating/", {"value": 3})
    assert Standing.objects.get(work=work).ratings == 1
    client.post("/papers/vllm/rating/", {"value": ""})
    standing = Standing.objects.get(work=work)
    assert (standing.rating, standing.ratings, Rating.objects.count()) == (0.0, 0, 0)
    assert "Not rated by readers yet" in text(client.get("/papers/vllm/"))


@pytest.mark.parametrize("value", ["0", "6", "-1", "3.5", "five", "٣", "1" * 400])
def test_what_is_no_rating_is_refused(client, settings, value):
    sign_in(client, settings, "reader")
    assert client.post("/papers/vllm/rating/", {"value": value}).status_code == 400
    assert not Rating.objects.exists()


def test_a_rating_of_no_work_is_not_found(client, settings):
    assert sign_in(client, settings, "reader").post("/papers/nothing/rating/", {"value": 3}).status_code == 404


def test_a_get_changes_nothing_and_a_form_needs_its_token(client, settings):
    sign_in(client, settings, "reader")
    assert client.get("/papers/vllm/rating/?value=5").status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person("reader"))
    assert strict.post("/papers/vllm/rating/", {"value": 5}).status_code == 403
    assert not Rating.objects.exists()


def test_one_vote_does_not_win(work):
    one, many = work, Work.objects.get(slug="orca")
    ratings.rate(person("a"), one, 5)
    for name in "abcdefgh":
        ratings.rate(person(name), many, 4)
    means = dict(Standing.objects.filter(ratings__gt=0).values_list("work__slug", "rating"))
    assert means == {"vllm": pytest.approx(20 / 6), "orca": pytest.approx(47 / 13)}
    assert means["orca"] > means["vllm"]


@pytest.mark.parametrize(
    ("total", "count", "mean"), [(0, 0, 0.0), (5, 1, 20 / 6), (1, 1, 16 / 6), (500, 100, 515 / 105)]
)
def test_the_prior(total, count, mean):
    assert ratings.drawn_mean(total, count) == pytest.approx(mean)


def test_the_list_is_sorted_by_it_at_once(client, work):
    ratings.rate(person("reader"), work, 5)
    assert (
        re.findall(r'<a class="title" href="/papers/([^/]+)/', client.get("/?sort=rating").content.decode())[0]
        == "vllm"
    )


def test_the_curators_stars_stay_as_they_are(client, settings, work):
    before = list(Entry.objects.filter(work=work).values_list("stars", "highlights"))
    sign_in(client, settings, "reader").post("/papers/vllm/rating/", {"value": 1})
    assert list(Entry.objects.filter(work=work).values_list("stars", "highlights")) == before


def test_the_table_itself_holds_one_to_five(work):
    for value in (0, 6):
        with pytest.raises(IntegrityError), transaction.atomic():
            Rating.objects.create(user=person("reader"), work=work, value=value)
