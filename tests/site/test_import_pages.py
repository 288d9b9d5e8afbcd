"""Uploading a list: who may, what the preview shows, what confirming writes, and what is refused."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import IntegrityError
from django.utils import timezone

from catalog import import_views, imports
from catalog.models import Category, Entry, ListImport, Work
from tests.site import people
from tests.site.shown import text

pytestmark = pytest.mark.django_db

TEXT = """# L

## Routing

|Date|Title|Paper|Code|Recommend|
|-|-|-|-|-|
|2024.01|[Router] A Router of Tokens|[[pdf]](https://arxiv.org/pdf/2401.09999)|⚠️|⭐️|
|2022.07|[Orca] Orca|[[pdf]](https://www.usenix.org/system/files/osdi22-yu.pdf)|⚠️|⭐️|
|2023.03|FlexGen|[[x]](https://a.b/c)|⚠️|⭐️|

- [A](./a.pdf)
"""


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


def sign_in(client, users, name: str, **fields):
    user = users.objects.create_user(name, **fields)
    if name == "curator":
        user.user_permissions.add(Permission.objects.get(codename="change_work"))
    client.force_login(user)
    return client


@pytest.fixture
def curator(client, django_user_model):
    return sign_in(client, django_user_model, "curator")


def upload(client, content: str | bytes = TEXT, name: str = "list.md"):
    data = content.encode() if isinstance(content, str) else content
    return client.post("/import/", {"file": SimpleUploadedFile(name, data)})


def digest(response) -> str:
    return re.search(r'name="digest" value="(\w+)"', response.content.decode())[1]


def test_upload_preview_confirm(curator):
    response = upload(curator)
    found = ListImport.objects.get()
    assert response.url == f"/import/{found.pk}/" and found.user.username == "curator"
    page = curator.get(response.url)
    shown = text(page)
    assert "Rows read 3 Works to create 1 Works to update 1 Works left as they are 0 Rows in question 1" in shown
    assert "Rows not understood 1" in shown and "11 its links lead to no address on the web" in shown
    assert "Line 9: a work goes by this name" in shown and "New categories Routing" in shown
    assert not Work.objects.filter(slug="router").exists()
    done = curator.post(f"{response.url}apply/", {"digest": digest(page), "answer-9": "flexgen"})
    assert done.url == response.url
    assert {e.work.slug for e in Entry.objects.filter(category__name="Routing")} == {"router", "orca", "flexgen"}
    after = text(curator.get(response.url))
    assert (
        "list.md was applied." in after and "1 work created, 2 updated, 0 left as they were, 1 not understood" in after
    )
    assert "list.md" in text(curator.get("/import/"))


def test_a_question_without_an_answer_is_left_out(curator):
    response = upload(curator)
    curator.post(f"{response.url}apply/", {"answer-9": "skip"})
    assert {e.work.slug for e in Entry.objects.filter(category__name="Routing")} == {"router", "orca"}
    assert "1 row in question left out" in text(curator.get(response.url))


def test_rows_of_one_kind(curator):
    response = upload(curator)
    page = text(curator.get(response.url + "?kind=create")).partition("Row by row")[2]
    assert "A Router of Tokens" in page and "usenix" not in page and "Orca" not in page
    assert curator.get(response.url + "?kind=nonsense&page=99").status_code == 200


def test_a_catalogue_that_changed_is_not_written_over(curator):
    response = upload(curator)
    page = curator.get(response.url)
    Work.objects.create(
        slug="router",
        title="A Router of Tokens",
        kind="paper",
        arxiv_id="2401.09999",
        url="https://a.b/c",
        published="2024-01-01",
    )
    refused = curator.post(f"{response.url}apply/", {"digest": digest(page)})
    assert refused.status_code == 409 and "The catalogue has changed" in text(refused)
    assert not Category.objects.filter(name="Routing").exists() and ListImport.objects.get().applied_at is None
    assert curator.post(f"{response.url}apply/", {"digest": digest(refused)}).status_code == 302
    assert Category.objects.filter(name="Routing").exists()


def test_it_is_applied_once(curator):
    response = upload(curator)
    page = curator.get(response.url)
    assert curator.post(f"{response.url}apply/", {"digest": digest(page)}).status_code == 302
    again = curator.post(f"{response.url}apply/", {"digest": digest(page)})
    assert again.status_code == 409 and "was applied already" in text(again)


def test_a_failure_writes_nothing(curator, monkeypatch):
    response = upload(curator)

    def fail(pks):
        raise IntegrityError("no")

    monkeypatch.setattr(imports.index, "refresh", fail)
    with pytest.raises(IntegrityError):
        curator.post(f"{response.url}apply/")
    assert not Category.objects.filter(name="Routing").exists() and ListImport.objects.get().applied_at is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b" \n", "is empty"), (b"\xff\xfe", "not a text in UTF-8"), (None, "Choose a file")],
)
def test_a_file_that_cannot_be_is_told(curator, content, words):
    response = curator.post("/import/") if content is None else upload(curator, content)
    assert response.status_code == 400 and words in text(response)
    assert not ListImport.objects.exists()


def test_a_file_may_have_5_mb(curator):
    response = upload(curator, b"x" * (import_views.LIMIT + 1))
    assert response.status_code == 400 and "5.0 MB; a list may have 5 MB at most" in text(response)
    assert not ListImport.objects.exists()


def test_nothing_to_write_offers_no_button(curator):
    page = curator.get(upload(curator, "just words\n").url)
    assert "There is nothing to write" in text(page) and 'class="primary"' not in page.content.decode()


def test_what_a_list_holds_is_shown_as_text(curator):
    page = curator.get(
        upload(curator, '## <script>alert(1)</script>C\n- [<i onclick="x">T & U</i> title](https://a.b/"x)\n').url
    )
    assert "<script>alert" not in page.content.decode() and not re.search(r"<i\b", page.content.decode())


ADDRESSES = ("/import/", "/import/{}/", "/import/{}/apply/")


@pytest.mark.parametrize("who", ["anonymous", "reader"])
def test_only_curators_import(client, django_user_model, who):
    found = ListImport.objects.create(name="l", text=TEXT, digest=imports.plan(TEXT).digest)
    if who == "reader":
        sign_in(client, django_user_model, who)
    for address in ADDRESSES:
        for response in (client.get(address.format(found.pk)), client.post(address.format(found.pk))):
            if who == "reader":
                assert response.status_code in (403, 405)
            else:
                assert response.status_code == 405 or "/accounts/login/" in response.url
    assert ListImport.objects.count() == 1 and not Category.objects.filter(name="Routing").exists()
    assert 'href="/import/"' not in client.get("/").content.decode()


@pytest.mark.parametrize("who", ["curator", "operator", "local"])
def test_who_may_import(client, django_user_model, settings, who):
    if who == "local":
        people.sign_in(client, settings, "local")
    else:
        sign_in(client, django_user_model, who, is_staff=who == "operator")
    assert upload(client).status_code == 302
    assert 'href="/import/"' in client.get("/").content.decode()


def test_get_never_writes_and_forms_need_their_token(curator, django_user_model):
    from django.test import Client

    found = ListImport.objects.create(name="l", text=TEXT, digest="x")
    assert curator.get(f"/import/{found.pk}/apply/").status_code == 405
    assert curator.post(f"/import/{found.pk}/").status_code == 405
    assert curator.get("/import/999/").status_code == 404 == curator.post("/import/999/apply/").status_code
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(django_user_model.objects.get(username="curator"))
    assert strict.post(f"/import/{found.pk}/apply/").status_code == 403


def test_no_inline_script_or_style(curator):
    for address in ("/import/", upload(curator).url):
        response = curator.get(address)
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", response.content.decode())
        assert "script-src 'self'" in response["Content-Security-Policy"]


def test_a_curator_has_so_many_lists_waiting(curator, settings):
    settings.IMPORT_DRAFTS_PER_USER = 2
    assert [upload(curator, name=f"{i}.md").status_code for i in range(2)] == [302, 302]
    third = upload(curator, name="third.md")
    assert third.status_code == 409
    assert "you have 2 lists to be applied, as many as one may have: apply or remove some first" in text(third)
    first = ListImport.objects.last()
    assert first and "was removed" in text(curator.post(f"/import/{first.pk}/discard/", follow=True))
    assert curator.post(f"/import/{first.pk}/discard/").status_code == 404
    assert upload(curator, name="third.md").status_code == 302


def test_a_curators_lists_take_so_much_room(curator, settings):
    settings.IMPORT_DRAFTS_MIB = 1
    assert upload(curator, TEXT + "é" * 300_000).status_code == 302
    full = upload(curator, TEXT + "é" * 300_000)
    assert full.status_code == 409 and "your lists take 0.6 MiB, and with this one more than 1" in text(full)
    assert ListImport.objects.count() == 1


def test_a_list_that_was_applied_is_not_removed(curator):
    upload(curator)
    found = ListImport.objects.get()
    ListImport.objects.update(applied_at=found.created_at)
    said = text(curator.post(f"/import/{found.pk}/discard/", follow=True))
    assert "applied or removed already" in said and ListImport.objects.exists()


def test_old_lists_go(curator, settings):
    for name in ("old.md", "applied.md", "fresh.md"):
        upload(curator, name=name)
    then = timezone.now() - timedelta(days=settings.IMPORT_DRAFT_DAYS + 1)
    ListImport.objects.exclude(name="fresh.md").update(created_at=then)
    ListImport.objects.filter(name="applied.md").update(applied_at=then)
    call_command("load_catalog", verbosity=0)
    assert dict(ListImport.objects.values_list("name", "text")) == {"applied.md": "", "fresh.md": TEXT}
