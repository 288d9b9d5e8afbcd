"""Readers' collections: who sees and changes what, order, notes, and that nothing is lost by a look."""

import re

import pytest
from django.test import Client

from catalog.models import Work
from readers import collections_views, services
from readers.models import Collection, CollectionItem
from tests.site.people import asks_to_sign_in, person, sign_in
from tests.site.shown import text

pytestmark = pytest.mark.django_db
SLUGS = ["vllm", "orca", "awq"]


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


@pytest.fixture
def collection():
    made = Collection.objects.create(owner=person("owner"), name="Serving", description="Read <first>")
    for slug in SLUGS:
        services.add(made, Work.objects.get(slug=slug))
    return made


def show(collection, visibility: str) -> Collection:
    Collection.objects.filter(pk=collection.pk).update(visibility=visibility)
    return collection


def order(collection) -> list[str]:
    return list(collection.items.values_list("work__slug", flat=True))


SEES = {  # visibility: its page, its link, for everybody but the owner
    "private": (404, 404),
    "link": (404, 200),
    "public": (200, 200),
}


@pytest.mark.parametrize("role", ["anonymous", "reader", "curator", "operator", "local"])
@pytest.mark.parametrize("visibility", SEES)
def test_who_sees_somebodys_collection(client, settings, collection, role, visibility):
    show(collection, visibility)
    sign_in(client, settings, role)
    pages = (client.get(f"/collections/{collection.pk}/"), client.get(f"/collections/shared/{collection.key}/"))
    assert tuple(page.status_code for page in pages) == SEES[visibility]
    assert ("Serving" in text(client.get("/collections/"))) == (visibility == "public")
    for page in pages:
        assert page.status_code == 404 or "/items/" not in page.content.decode()


@pytest.mark.parametrize("visibility", SEES)
def test_the_owner_sees_it_always(client, settings, collection, visibility):
    show(collection, visibility)
    sign_in(client, settings, "owner")
    page = client.get(f"/collections/{collection.pk}/")
    assert "Serving" in text(page) and "Read &lt;first&gt;" in page.content.decode()
    assert (f"/collections/shared/{collection.key}/" in page.content.decode()) == (visibility != "private")


def actions(collection) -> dict[str, tuple[str, dict]]:
    """Every write to a collection that is there."""
    address, item = f"/collections/{collection.pk}/", collection.items.last()
    return {
        "edit": (f"{address}edit/", {"name": "Mine now", "visibility": "public"}),
        "delete": (f"{address}delete/", {}),
        "collect": ("/papers/gptq/collect/", {"collection": collection.pk}),
        "move": (f"{address}items/{item.pk}/move/", {"to": "up"}),
        "note": (f"{address}items/{item.pk}/note/", {"note": "x"}),
        "remove": (f"{address}items/{item.pk}/remove/", {}),
    }


ACTIONS = ("edit", "delete", "collect", "move", "note", "remove")


def state(collection) -> tuple:
    found = Collection.objects.filter(pk=collection.pk).values("name", "visibility", "description")
    return list(found), list(collection.items.values_list("work__slug", "position", "note"))


@pytest.mark.parametrize("role", ["anonymous", "reader", "owner", "curator", "operator", "local"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("visibility", ["private", "public"])
def test_only_its_owner_changes_a_collection(client, settings, collection, role, action, visibility):
    show(collection, visibility)
    before = state(collection)
    address, data = actions(collection)[action]
    sign_in(client, settings, role)
    response = client.post(address, data)
    if role == "owner":
        assert response.status_code == 302 and state(collection) != before
    else:
        assert asks_to_sign_in(response) if role == "anonymous" else response.status_code == 404
        assert state(collection) == before


@pytest.mark.parametrize("role", ["anonymous", "reader", "curator", "operator", "local"])
def test_who_makes_collections(client, settings, role):
    sign_in(client, settings, role)
    response = client.post("/collections/new/", {"name": "Kernels", "description": "", "visibility": "link"})
    if role == "anonymous":
        assert asks_to_sign_in(response) and not Collection.objects.exists()
    else:
        made = Collection.objects.get()
        assert response.url == f"/collections/{made.pk}/" and (made.name, made.visibility) == ("Kernels", "link")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_get_changes_nothing_and_forms_need_their_token(client, settings, collection, action):
    before = state(collection)
    address, data = actions(collection)[action]
    response = sign_in(client, settings, "owner").get(address, data)
    assert response.status_code == (200 if action in ("edit", "delete") else 405)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person("owner"))
    assert strict.post(address, data).status_code == 403 == strict.post("/collections/new/", {"name": "a"}).status_code
    assert state(collection) == before and Collection.objects.count() == 1


@pytest.mark.parametrize(
    ("slug", "to", "expected"),
    [
        ("vllm", "down", ["orca", "vllm", "awq"]),
        ("awq", "up", ["vllm", "awq", "orca"]),
        ("vllm", "up", SLUGS),
        ("awq", "down", SLUGS),
    ],
)
def test_order(client, settings, collection, slug, to, expected):
    sign_in(client, settings, "owner")
    item = collection.items.get(work__slug=slug)
    response = client.post(f"/collections/{collection.pk}/items/{item.pk}/move/", {"to": to})
    assert response.url.endswith(f"#item-{item.pk}") and order(collection) == expected
    titles = re.findall(r'<a class="title" href="/papers/([^/]+)/', client.get(response.url).content.decode())
    assert titles == expected


def test_order_holds_after_a_removal_and_with_equal_places(client, settings, collection):
    sign_in(client, settings, "owner")
    CollectionItem.objects.update(position=7)
    first, second, third = collection.items.all()
    client.post(f"/collections/{collection.pk}/items/{third.pk}/move/", {"to": "up"})
    assert order(collection) == ["vllm", "awq", "orca"]
    client.post(f"/collections/{collection.pk}/items/{first.pk}/remove/")
    services.add(collection, Work.objects.get(slug="gptq"))
    assert order(collection) == ["awq", "orca", "gptq"]
    second.delete()
    services.move(collection.items.last(), -1)
    assert order(collection) == ["gptq", "awq"]


def test_a_message_says_what_was_done(client, settings, collection):
    sign_in(client, settings, "owner")
    for slug, words in (("gptq", "Added to “Serving”."), (SLUGS[0], "It is in “Serving” already.")):
        answer = client.post(f"/papers/{slug}/collect/", {"collection": collection.pk}, follow=True)
        assert words in text(answer)
    assert order(collection).count(SLUGS[0]) == 1


def test_another_collections_item_is_not_found(client, settings, collection):
    other = Collection.objects.create(owner=person("owner"), name="Other")
    item = collection.items.first()
    sign_in(client, settings, "owner")
    for action in ("move", "note", "remove"):
        assert client.post(f"/collections/{other.pk}/items/{item.pk}/{action}/", {"to": "up"}).status_code == 404
    address = f"/collections/{collection.pk}/items/{item.pk}/move/"
    assert client.post(address, {"to": "sideways"}).status_code == 404
    assert order(collection) == SLUGS


def test_notes(client, settings, collection):
    sign_in(client, settings, "owner")
    item = collection.items.first()
    address = f"/collections/{collection.pk}/items/{item.pk}/note/"
    client.post(address, {"note": "  why <b>it</b> matters "})
    item.refresh_from_db()
    assert item.note == "why <b>it</b> matters"
    client.post(address, {"note": "x" * 2001})
    item.refresh_from_db()
    assert item.note.startswith("why") and "The note was not kept" in text(client.get("/collections/"))
    show(collection, "public")
    client.logout()
    page = client.get(f"/collections/{collection.pk}/").content.decode()
    assert "why &lt;b&gt;it&lt;/b&gt; matters" in page


def test_from_the_page_of_a_work(client, settings, collection):
    sign_in(client, settings, "owner")
    assert (
        'value="Serving"' not in (page := client.get("/papers/gptq/").content.decode()) and ">Serving</option>" in page
    )
    for _ in range(2):
        assert client.post("/papers/gptq/collect/", {"collection": collection.pk}).url == "/papers/gptq/#readers"
    assert order(collection) == [*SLUGS, "gptq"]
    page = client.get("/papers/gptq/").content.decode()
    assert f'<a href="/collections/{collection.pk}/">Serving</a>' in page and ">Serving</option>" not in page
    client.post("/papers/gptq/collect/", {"collection": "", "name": " Quantization "})
    made = Collection.objects.get(name="Quantization")
    assert (made.visibility, order(made)) == ("private", ["gptq"])


@pytest.mark.parametrize(
    ("data", "words"),
    [({}, "Choose a collection"), ({"collection": "x"}, "Choose a collection"), ({"name": "Serving"}, "already")],
)
def test_what_cannot_be_added_is_told(client, settings, collection, data, words):
    sign_in(client, settings, "owner").post("/papers/gptq/collect/", data)
    assert words in text(client.get("/papers/gptq/")) and order(collection) == SLUGS


@pytest.mark.parametrize("pk", ["0", "9" * 30])
def test_a_collection_that_is_not_there(client, settings, pk):
    sign_in(client, settings, "owner")
    assert client.post("/papers/gptq/collect/", {"collection": pk}).status_code == 404
    assert client.get(f"/collections/{pk}/").status_code == 404
    assert client.get("/collections/shared/nothing/").status_code == 404


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "", "visibility": "private"}, "This field is required"),
        ({"name": "Serving", "visibility": "private"}, "You have a collection of this name already"),
        ({"name": "x" * 121, "visibility": "private"}, "at most 120 characters"),
        ({"name": "New", "visibility": "world"}, "not one of the available choices"),
    ],
)
def test_errors_are_said_on_the_form(client, settings, collection, data, words):
    other = Collection.objects.create(owner=person("owner"), name="Other")
    sign_in(client, settings, "owner")
    for address in ("/collections/new/", f"/collections/{other.pk}/edit/"):
        response = client.post(address, data)
        assert response.status_code == 400 and words in text(response)
    other.refresh_from_db()
    assert Collection.objects.count() == 2 and other.name == "Other"


def test_two_readers_may_choose_the_same_name(client, settings, collection):
    sign_in(client, settings, "reader").post("/collections/new/", {"name": "Serving", "visibility": "public"})
    assert Collection.objects.filter(name="Serving").count() == 2


def test_delete_asks_first(client, settings, collection):
    sign_in(client, settings, "owner")
    assert "It holds 3 works" in text(client.get(f"/collections/{collection.pk}/delete/"))
    assert client.post(f"/collections/{collection.pk}/delete/").url == "/collections/"
    assert not Collection.objects.exists() and Work.objects.filter(slug__in=SLUGS).count() == 3


def test_the_page_costs_few_queries(client, settings, collection, django_assert_max_num_queries):
    sign_in(client, settings, "owner")
    for work in Work.objects.exclude(slug__in=SLUGS)[:30]:
        services.add(collection, work)
    with django_assert_max_num_queries(9):
        client.get(f"/collections/{collection.pk}/")


def test_no_inline_script_or_style(client, settings, collection):
    sign_in(client, settings, "owner")
    for address in ("", f"{collection.pk}/", f"{collection.pk}/edit/", f"{collection.pk}/delete/"):
        page = client.get(f"/collections/{address}").content.decode()
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", page)


def test_a_collection_that_was_deleted_meanwhile_does_not_come_back(client, settings, collection, monkeypatch):
    sign_in(client, settings, "owner")
    gone = Collection.objects.get(pk=collection.pk)
    item = gone.items.first()
    monkeypatch.setattr(collections_views, "_own", lambda request, pk: gone)
    monkeypatch.setattr(collections_views, "_item", lambda request, pk, number: item)
    collection.delete()
    gone.pk = collection_pk = item.collection_id
    for path, data in (("edit", {"name": "N", "visibility": "private"}), (f"items/{item.pk}/note", {"note": "n"}),
                       (f"items/{item.pk}/move", {"to": "down"}), (f"items/{item.pk}/remove", {})):  # fmt: skip
        assert client.post(f"/collections/{collection_pk}/{path}/", data).status_code in (302, 404), path
    assert client.post("/papers/orca/collect/", {"collection": str(collection_pk)}).status_code == 404
    assert not Collection.objects.filter(pk=collection_pk).exists()
