"""What makes pages quick: few queries whatever the size of the list, small answers, answers that need not be sent."""

import gzip

import pytest
from django.test import Client

from catalog import synthetic
from catalog.models import Work
from tests.site import measured

pytestmark = pytest.mark.django_db
WORK = "/papers/flashattention/"


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


@pytest.mark.parametrize(
    ("address", "most"), [("/", 12), ("/claims/", 14), (WORK, 40), ("/kernels/", 8), ("/runs/", 8)]
)
def test_queries_do_not_grow_with_the_list(client, django_assert_max_num_queries, address, most):
    measured.run(measured.reproduction(), 1.0)
    client.get(address)
    with django_assert_max_num_queries(most):
        client.get(address)
    synthetic.add(200)
    client.get(address)
    with django_assert_max_num_queries(most):
        client.get(address)


def test_the_list_is_small_on_the_wire(client):
    answer = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer["Content-Encoding"] == "gzip" and len(answer.content) < 40_000
    from config.settings import BASE_DIR

    assert (BASE_DIR / "static" / "app.css").stat().st_size < 40_000
    assert gzip.decompress(answer.content).startswith(b"<!doctype html>")


@pytest.mark.parametrize("address", ["/", "/claims/", "/papers/vllm/", "/help/", "/kernels/attention/flash/"])
def test_an_unchanged_page_is_not_sent_again(client, address):
    tag = client.get(address)["ETag"]
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(address, headers={"If-None-Match": '"another"'}).status_code == 200


def test_a_changed_page_is_sent_again(client):
    tag = client.get("/papers/vllm/")["ETag"]
    Work.objects.filter(slug="vllm").update(venue="Another venue")
    assert client.get("/papers/vllm/", headers={"If-None-Match": tag}).status_code == 200


def test_errors_are_pages_that_say_what_to_do(client, settings):
    assert "Try the" in client.get("/nowhere/").content.decode()
    assert "ALLOWED_HOSTS" in client.get("/", headers={"Host": "evil.example"}).content.decode()
    strict = Client(enforce_csrf_checks=True)
    answer = strict.post("/accounts/login/", {"username": "a"})
    assert answer.status_code == 403 and "load the page again" in answer.content.decode()
