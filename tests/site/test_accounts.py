"""Accounts: invited from the command line, roles, the admin, and what it writes."""

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from catalog import history
from catalog.models import Category, Claim, Entry, Link, Work
from tests.site.people import ROLES, sign_in
from tests.site.shown import text

pytestmark = pytest.mark.django_db
PASSWORD = "a long horse battery"
ADMIN = ["work", "entry", "claim", "link", "category", "author", "topic"]


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


def invite(*words: str) -> str:
    out = StringIO()
    call_command("invite", *words, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def set_password(client, link: str, password: str = PASSWORD):
    page = client.get(link, follow=True)
    address = page.redirect_chain[-1][0] if page.redirect_chain else link
    return client.post(address, {"new_password1": password, "new_password2": password})


@pytest.mark.parametrize(
    ("words", "curator", "operator"), [([], False, False), (["--curator"], True, False), (["--operator"], True, True)]
)
def test_an_invitation_opens_once_and_gives_the_role(client, words, curator, operator):
    link = invite("ann", *words, "--site", "https://list.example/")
    assert link.startswith("https://list.example/accounts/reset/")
    link = link.removeprefix("https://list.example")
    assert not User.objects.get(username="ann").has_usable_password()
    assert "For the account ann" in text(client.get(link, follow=True))
    for weak in ("short", "password", "12345678901"):
        assert set_password(client, link, weak).status_code == 200
    assert not User.objects.get(username="ann").has_usable_password()
    assert set_password(client, link).url == "/"
    assert client.get("/accounts/tokens/").status_code == 200
    assert client.get("/import/").status_code == (200 if curator else 403)
    assert client.get("/admin/auth/user/").status_code == (200 if operator else 403 if curator else 302)
    client.post("/accounts/logout/")
    assert "opens nothing" in text(client.get(link, follow=True))
    assert client.post("/accounts/login/", {"username": "ann", "password": PASSWORD}).status_code == 302


def test_inviting_again_adds_a_role_and_replaces_a_lost_password(client):
    first = invite("ann").partition("8000")[2]
    set_password(client, first)
    second = invite("ann", "--curator").partition("8000")[2]
    client.logout()
    assert set_password(client, second, "another long horse").url == "/"
    assert User.objects.count() == 1 and client.get("/import/").status_code == 200


@pytest.mark.parametrize("name", ["a b", "", "x" * 151, "a/b"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(CommandError) as caught:
        invite(name)
    assert caught.value.returncode == 2 and "NAME:" in str(caught.value) and not User.objects.exists()


@pytest.mark.parametrize("role", ROLES)
def test_who_comes_into_the_admin(client, settings, role):
    sign_in(client, settings, role)
    lets_in = role in ("curator", "operator", "local")
    assert client.get("/admin/").status_code == (200 if lets_in else 302)
    if role in ("curator", "local"):
        for model in ADMIN:
            assert client.get(f"/admin/catalog/{model}/?q=flash").status_code == 200
            row = client.get(f"/admin/catalog/{model}/").context["cl"].result_list[0]
            assert client.get(f"/admin/catalog/{model}/{row.pk}/change/").status_code == 200
            assert client.get(f"/admin/catalog/{model}/add/").status_code == 200
        assert client.get("/admin/catalog/work/1/delete/").status_code in (302, 403)
    if role == "curator":
        assert client.get("/admin/auth/user/").status_code == 403
        assert client.get("/admin/jobs/job/").status_code == 403


def form_of(response) -> dict:
    """What the admin's page would send as it stands, its rows of other models included."""
    data = {}
    context = response.context
    forms = [context["adminform"].form]
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    for form in forms:
        for bound in form:
            value = bound.value()
            if value is True:
                data[bound.html_name] = "on"
            elif value is not None and value is not False:
                data[bound.html_name] = value
    return data


def told(work) -> list[tuple]:
    return [(str(c.record.history_user), c.kind, c.what, [f.name for f in c.fields]) for c in history.of_work(work)]


def test_what_the_admin_writes_has_a_history(client, settings):
    sign_in(client, settings, "curator")
    work = Work.objects.get(slug="vllm")
    address = f"/admin/catalog/work/{work.pk}/change/"
    assert client.post(address, form_of(client.get(address))).status_code == 302
    assert told(work) == []
    data = form_of(client.get(address)) | {"venue": "There", "topics": "serving, new", "entries-0-stars": 5}
    data["claims-1-DELETE"] = "on"
    assert client.post(address, data).status_code == 302
    assert sorted(told(work)) == [
        ("curator", "claim", "removed", sorted(told(work))[0][3]),
        ("curator", "entry", "changed", ["stars"]),
        ("curator", "work", "changed", ["venue", "topics"]),
    ]
    assert client.get(f"/admin/catalog/work/{work.pk}/history/").status_code == 200
    entry = work.entries.first()
    address = f"/admin/catalog/entry/{entry.pk}/change/"
    data = form_of(client.get(address))
    number = int(data["links-TOTAL_FORMS"])
    data |= {"links-TOTAL_FORMS": number + 1, f"links-{number}-role": "code", f"links-{number}-label": "x",
             f"links-{number}-url": "https://example.org/x", f"links-{number}-entry": entry.pk}  # fmt: skip
    assert client.post(address, data).status_code == 302
    assert told(work)[0][:3] == ("curator", "link", "added")
    assert Link.objects.filter(url="https://example.org/x").exists()
    delete = {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}
    assert client.post("/admin/catalog/entry/", delete).status_code == 302
    assert not Entry.objects.filter(pk=entry.pk).exists() and told(work)[0][:3] == ("curator", "entry", "removed")
    history.undo("entry", history.of_work(work)[0].record.history_id, User.objects.get(username="curator"))
    assert Entry.objects.get(pk=entry.pk).links.count() == number + 1


def test_a_work_can_be_made_in_the_admin(client, settings):
    sign_in(client, settings, "curator")
    data = {"slug": "new", "title": "New", "kind": "paper", "url": "https://example.org", "published": "2024-01-01",
            "published_precision": "month"}  # fmt: skip
    assert client.post("/admin/catalog/work/add/", data).status_code == 302
    assert "New" in text(client.get("/papers/new/")) and "Work added" in text(client.get("/papers/new/history/"))
    assert client.post("/admin/catalog/work/add/", data).status_code == 200
    claim = Claim.objects.first()
    assert client.post(f"/admin/catalog/claim/{claim.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Claim.objects.filter(pk=claim.pk).exists()


def test_a_category_s_change_can_be_set_back_there(client, settings):
    sign_in(client, settings, "curator")
    category = Category.objects.first()
    before, address = category.name, f"/admin/catalog/category/{category.pk}/change/"
    answer = client.post(address, form_of(client.get(address)) | {"name": "Renamed"})
    assert answer.status_code == 302, text(answer)
    assert "Renamed" in text(client.get("/"))
    first = category.history.last()
    address = f"/admin/catalog/category/{category.pk}/history/{first.pk}/"
    page = client.get(address)
    assert page.status_code == 200
    client.post(address, {name: page.context["adminform"].form.initial[name] for name in ("name", "slug", "position")})
    assert Category.objects.get(pk=category.pk).name == before
