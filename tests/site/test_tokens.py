"""Tokens of readers' programs: shown once, kept as a digest, and opening no more than they should."""

import datetime
import json
import re

import pytest
from django.core.management import call_command
from django.utils import timezone

from catalog.models import Work
from readers import tokens
from readers.models import Collection, Token
from tests.site.people import person, sign_in

pytestmark = pytest.mark.django_db
NEW = {"name": "Mine"}


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


def bearer(text: str) -> dict:
    return {"Authorization": f"Bearer {text}"}


def make(name: str = "reader", scope: str = "write", **fields) -> str:
    return tokens.create(person(name), name="test", scope=scope, **fields)[1]


def create_collection(client, text: str):
    return client.post("/api/v1/collections", NEW, content_type="application/json", headers=bearer(text))


def test_the_page_shows_a_token_once_and_only_its_digest_is_kept(client, settings, tmp_path):
    sign_in(client, settings, "reader")
    page = client.post("/accounts/tokens/", {"name": "laptop", "scope": "write", "days": ""})
    text = re.search(r"cc_[\w-]{43}", page.content.decode())[0]
    assert page["Cache-Control"].count("no-store") == 1
    again = client.get("/accounts/tokens/").content.decode()
    assert text not in again and text[:8] in again and "laptop" in again
    call_command("dumpdata", "readers", "-o", str(tmp_path / "dump.json"))
    assert text not in (tmp_path / "dump.json").read_text() and text[8:] not in (tmp_path / "dump.json").read_text()
    client.logout()
    assert create_collection(client, text).status_code == 201
    assert Token.objects.get().used_at is not None


def test_a_token_acts_as_its_owner_whatever_the_session(client, settings):
    sign_in(client, settings, "operator")
    assert create_collection(client, make("reader")).status_code == 201
    assert Collection.objects.get().owner == person("reader")


def revoked(text: str) -> None:
    tokens.revoke(Token.objects.get())


def expired(text: str) -> None:
    Token.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))


def barred(text: str) -> None:
    person("reader").__class__.objects.filter(username="reader").update(is_active=False)


@pytest.mark.parametrize("end", [revoked, expired, barred])
def test_a_token_that_ended_opens_nothing_and_says_so_even_on_reading(client, end):
    text = make(days=1)
    assert client.get("/api/v1/works/vllm", headers=bearer(text)).status_code == 200
    end(text)
    for answer in (create_collection(client, text), client.get("/api/v1/works/vllm", headers=bearer(text))):
        assert answer.status_code == 401 and "not valid" in answer.json()["detail"]
        assert answer["WWW-Authenticate"].startswith("Bearer")
    assert not Collection.objects.exists()


@pytest.mark.parametrize("header", ["Bearer", "Bearer cc_nothing", "Basic cmVhZGVyOng=", "Bearer a b", ""])
def test_a_header_that_is_no_token_is_refused(client, header):
    assert client.get("/api/v1/works", headers={"Authorization": header}).status_code == 401


def test_a_token_opens_the_api_alone(client):
    text = make()
    assert client.get("/accounts/tokens/", headers=bearer(text)).status_code == 302
    assert client.post("/collections/new/", NEW, headers=bearer(text)).status_code == 302
    assert not Collection.objects.exists()


@pytest.mark.parametrize(("scope", "writes", "runs"), [("read", 403, 403), ("run", 403, 404), ("write", 201, 404)])
def test_a_scope_is_held(client, scope, writes, runs):
    text = make(scope=scope)
    answer = create_collection(client, text)
    assert answer.status_code == writes
    if writes == 403:
        assert answer.json()["detail"] == f"this needs a token with the scope write; this one has {scope}"
    asked = {"size": "cpu", "device": "cpu"}
    started = client.post(
        "/api/v1/works/vllm/runs", json.dumps(asked), content_type="application/json", headers=bearer(text)
    )
    assert started.status_code == runs  # vllm has no reproduction here
    assert client.get("/api/v1/collections?mine=true", headers=bearer(text)).status_code == 200


def test_a_token_gives_no_more_than_its_owner_has(client):
    answer = client.patch(
        "/api/v1/works/vllm", {"venue": "X"}, content_type="application/json", headers=bearer(make(scope="write"))
    )
    assert answer.status_code == 403 and Work.objects.get(slug="vllm").venue != "X"


def test_nobody_revokes_anothers_token(client, settings):
    make("owner")
    token = Token.objects.get()
    sign_in(client, settings, "reader")
    assert client.post(f"/accounts/tokens/{token.pk}/revoke/").status_code == 404
    sign_in(client, settings, "owner")
    assert client.post(f"/accounts/tokens/{token.pk}/revoke/").status_code == 302
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_a_form_that_is_wrong_says_so_and_makes_nothing(client, settings):
    sign_in(client, settings, "reader")
    page = client.post("/accounts/tokens/", {"name": "", "scope": "all", "days": "-1"})
    assert page.status_code == 400 and page.content.decode().count('role="alert"') == 3
    assert not Token.objects.exists()


def test_a_session_needs_its_csrf_token_on_the_api(settings):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(person("reader"))
    answer = client.post("/api/v1/collections", NEW, content_type="application/json")
    assert answer.status_code == 403 and "CSRF" in answer.json()["detail"]
    client.get("/collections/")
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    assert client.post("/api/v1/collections", NEW, content_type="application/json", headers=headers).status_code == 201


def test_a_token_of_the_local_operator_opens_nothing_where_there_is_none(db, settings):
    _, text = tokens.create(person("local operator"), name="script", scope="write")
    settings.LOCAL_SECRET = "of this start"
    assert tokens.find(text)
    settings.LOCAL_SECRET = ""
    assert tokens.find(text) is None
