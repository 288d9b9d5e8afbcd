"""Every address that writes, asked by everybody: who may is docs/architecture.md's table. Looking changes nothing."""

import datetime
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.tokens import default_token_generator
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import get_resolver, reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from catalog import curation, imports
from catalog.models import Category, Claim, Link, ListImport, Work
from config.api import api
from jobs.models import Job, Node
from readers import accounts, brake, services, tokens
from readers.models import Collection
from tests.site import measured
from tests.site.people import asks_to_sign_in, person, sign_in

pytestmark = pytest.mark.django_db
WHO = ("anonymous", "reader", "owner", "curator", "operator")
LIST = (
    "## Routing\n\n|Date|Title|Paper|Code|Recommend|\n|-|-|-|-|-|\n|2024.01|[R] A Router|[[pdf]](https://a.b/c)|⚠️|⭐️|\n"
)


@dataclass
class Site:
    """One of each thing that can be written, most of it the owner's. Words in addresses are its fields."""

    slug: str
    work: Work
    part: str = "entries"
    kind: str = "work"

    def __post_init__(self) -> None:
        owner, work = person("owner"), self.work
        made = measured.reproduction()
        self.finished = measured.run(made, error=1.0)
        self.run = measured.run(made, error=1.0)
        self.job = Job.objects.create(kind="run", device="cpu", time_limit_s=10, user=owner)
        self.bundle = Job.objects.create(kind="bundle", device="control", time_limit_s=10, user=owner)
        self.run.job = self.job
        self.run.save()
        self.collection = Collection.objects.create(owner=owner, name="C", visibility="public")
        self.item, _ = services.add(self.collection, work)
        services.add(self.collection, Work.objects.get(slug="orca"))
        self.token = tokens.create(owner, name="t", scope="write")[0]
        self.entry, self.claim = work.entries.first(), work.claims.first()
        self.link = self.entry.links.first()
        curation.change(work, {"venue": "Changed"}, person("other"))
        self.change = work.history.first()
        digest = imports.plan(LIST).digest
        self.upload = ListImport.objects.create(name="l.md", text=LIST, digest=digest)
        before = timezone.now() - datetime.timedelta(hours=1)
        self.node = Node.objects.create(name="n", host="h", device="cpu", pid=1, started_at=before, heartbeat_at=before)
        brake.wrong_password(RequestFactory().get("/"), "owner")
        self.free = Category.objects.exclude(entries__work=work).first()


@pytest.fixture
def site(catalogue):
    return Site("flashattention", Work.objects.get(slug="flashattention"))


SIGN_IN = "login"  # the answer to somebody who must sign in first
READERS = (SIGN_IN, 302, 302, 302, 302)
OWNER = (SIGN_IN, 404, 302, 404, 404)
CURATORS = (SIGN_IN, 403, 403, 302, 302)
OPERATORS = (SIGN_IN, 403, 403, 403, 302)

# name: (arguments, data, what each of WHO gets). Arguments and data are made of the site.
PAGES: dict[str, tuple[Any, Any, tuple]] = {
    "import": (lambda s: [], lambda s: {"file": SimpleUploadedFile("l.md", LIST.encode())}, CURATORS),
    "import-apply": (lambda s: [s.upload.pk], lambda s: {"digest": s.upload.digest}, CURATORS),
    "import-discard": (lambda s: [s.upload.pk], lambda s: {}, CURATORS),
    "edit-facts": (
        lambda s: [s.slug],
        lambda s: {"title": "T", "kind": "paper", "url": "https://example.org/c", "published": "2022"},
        CURATORS,
    ),
    "edit-new": (
        lambda s: [s.slug, "claims"],
        lambda s: {"key": "new", "statement": "S", "direction": "trend", "needs": "any"},
        CURATORS,
    ),
    "edit": (
        lambda s: [s.slug, "links", s.link.pk],
        lambda s: {"entry": s.entry.pk, "role": "code", "label": "x", "url": "https://example.org/c"},
        CURATORS,
    ),
    "edit-remove": (lambda s: [s.slug, "entries", s.entry.pk], lambda s: {}, CURATORS),
    "undo": (lambda s: [s.slug, "work", s.change.history_id], lambda s: {}, CURATORS),
    "arxiv-add": (lambda s: [], lambda s: {"paper": "nothing"}, (SIGN_IN, 403, 403, 400, 400)),
    "run_start": (lambda s: [s.slug], lambda s: {"size": "cpu", "device": "cpu", "again": "yes"}, READERS),
    "bundles": (lambda s: [], lambda s: {"kind": "private", "query": ""}, (SIGN_IN, 403, 403, 403, 302)),
    "run_again": (lambda s: [s.finished.pk], lambda s: {}, READERS),
    "job_start": (lambda s: ["arxiv"], lambda s: {}, CURATORS),
    "job_cancel": (lambda s: [s.job.pk], lambda s: {}, (SIGN_IN, 403, 302, 403, 302)),
    "run_cancel": (lambda s: [s.run.pk], lambda s: {}, (SIGN_IN, 403, 302, 403, 302)),
    "node_drain": (lambda s: [s.node.pk], lambda s: {"draining": "yes"}, (SIGN_IN, SIGN_IN, SIGN_IN, SIGN_IN, 302)),
    "token-revoke": (lambda s: [s.token.pk], lambda s: {}, OWNER),
    "token-revoke-any": (lambda s: [s.token.pk], lambda s: {}, OPERATORS),
    "session-end": (
        lambda s: [],
        lambda s: {"session": next((one.handle for one in accounts.sessions()), "")},
        OPERATORS,
    ),
    "unlock": (lambda s: [], lambda s: {"name": "owner"}, OPERATORS),
    "tokens": (lambda s: [], lambda s: {"name": "x", "scope": "read"}, (SIGN_IN, 200, 200, 200, 200)),
    "rate": (lambda s: [s.slug], lambda s: {"value": "4"}, READERS),
    "collect": (lambda s: [s.slug], lambda s: {"name": "Another"}, READERS),
    "collection-new": (lambda s: [], lambda s: {"name": "N", "visibility": "private"}, READERS),
    "collection-edit": (lambda s: [s.collection.pk], lambda s: {"name": "N", "visibility": "private"}, OWNER),
    "collection-delete": (lambda s: [s.collection.pk], lambda s: {}, OWNER),
    "item-move": (lambda s: [s.collection.pk, s.item.pk], lambda s: {"to": "down"}, OWNER),
    "item-note": (lambda s: [s.collection.pk, s.item.pk], lambda s: {"note": "n"}, OWNER),
    "item-remove": (lambda s: [s.collection.pk, s.item.pk], lambda s: {}, OWNER),
    "password_change": (lambda s: [], lambda s: {"old_password": "x"}, (SIGN_IN, 200, 200, 200, 200)),
}
# For everybody: signing in and out, and a link that is a secret itself.
OPEN = {"login", "logout", "password_reset_confirm"}
MANY = (401, 403, 403, 200, 200)
API: dict[tuple[str, str], tuple[Any, tuple]] = {
    ("POST", "/bundles"): ({"kind": "private"}, (401, 403, 403, 403, 202)),
    ("POST", "/bundles/jobs/{bundle}/cancel"): (None, (401, 403, 200, 403, 200)),
    ("PATCH", "/works/{slug}"): ({"venue": "V"}, MANY),
    ("POST", "/works/{slug}/entries"): (
        lambda s: {"category": s.free.slug, "title": "T", "month": "2024-01"},
        (401, 403, 403, 201, 201),
    ),
    ("PATCH", "/entries/{entry}"): ({"stars": 5}, MANY),
    ("DELETE", "/entries/{entry}"): (None, (401, 403, 403, 204, 204)),
    ("POST", "/entries/{entry}/links"): (
        {"role": "code", "label": "x", "url": "https://example.org/c"},
        (401, 403, 403, 201, 201),
    ),
    ("PATCH", "/links/{link}"): ({"label": "y"}, MANY),
    ("DELETE", "/links/{link}"): (None, (401, 403, 403, 204, 204)),
    ("POST", "/works/{slug}/claims"): (
        {"key": "new", "statement": "S", "direction": "trend"},
        (401, 403, 403, 201, 201),
    ),
    ("PATCH", "/works/{slug}/claims/{claim}"): ({"unit": "s"}, MANY),
    ("DELETE", "/works/{slug}/claims/{claim}"): (None, (401, 403, 403, 204, 204)),
    ("PATCH", "/categories/{category}"): ({"name": "Other"}, MANY),
    ("POST", "/works/{slug}/runs"): ({"size": "cpu", "device": "cpu", "again": True}, (401, 201, 201, 201, 201)),
    ("POST", "/runs/{run}/cancel"): (None, (401, 403, 200, 403, 200)),
    ("POST", "/collections"): ({"name": "N"}, (401, 201, 201, 201, 201)),
    ("PATCH", "/collections/{collection}"): ({"name": "N"}, (401, 403, 200, 403, 403)),
    ("DELETE", "/collections/{collection}"): (None, (401, 403, 204, 403, 403)),
    ("POST", "/collections/{collection}/items"): ({"work": "vllm"}, (401, 403, 201, 403, 403)),
    ("PATCH", "/collections/{collection}/items/{slug}"): ({"note": "n"}, (401, 403, 200, 403, 403)),
    ("DELETE", "/collections/{collection}/items/{slug}"): (None, (401, 403, 204, 403, 403)),
}


def stored() -> dict[str, list]:
    """Every row of every table but those that note who is signed in."""
    quiet = ("Session", "LogEntry", "Permission", "ContentType", "Migration")
    return {
        model._meta.label: list(model._base_manager.order_by("pk").values())
        for model in apps.get_models()
        if model.__name__ not in quiet and model._meta.managed
    }


def who_signed_in(rows: dict[str, list]) -> dict[str, list]:
    """Signing in moves a user's `last_login`."""
    users = [{k: v for k, v in user.items() if k != "last_login"} for user in rows["auth.User"]]
    return rows | {"auth.User": users}


@pytest.mark.parametrize("place", range(len(WHO)), ids=WHO)
@pytest.mark.parametrize("name", PAGES)
def test_who_may_write_by_page(client, settings, site, name, place):
    arguments, data, expected = PAGES[name]
    sign_in(client, settings, WHO[place])
    refused = expected[place] in (SIGN_IN, 403, 404)
    address, before = reverse(name, args=arguments(site)), who_signed_in(stored()) if refused else {}
    answer = client.post(address, data(site))
    found = SIGN_IN if asks_to_sign_in(answer) else answer.status_code
    assert found == expected[place], answer.content.decode()[-900:]
    if refused:
        assert who_signed_in(stored()) == before


@pytest.mark.parametrize("place", range(len(WHO)), ids=WHO)
@pytest.mark.parametrize("operation", API, ids=" ".join)
def test_who_may_write_by_api(client, site, operation, place):
    method, path = operation
    data, expected = API[operation]
    words = {"slug": site.slug, "entry": site.entry.pk, "link": site.link.pk, "claim": site.claim.key,
             "category": site.free.slug, "run": site.run.pk, "collection": site.collection.pk,
             "bundle": site.bundle.pk}  # fmt: skip
    token = tokens.create(person(WHO[place]), name="t", scope="write")[1] if place else ""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    refused = expected[place] >= 400
    before = stored() if refused else {}
    body = data(site) if callable(data) else data
    sent = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
    answer = client.generic(method, f"/api/v1{path.format(**words)}", headers=headers, **sent)
    assert answer.status_code == expected[place], answer.content
    if refused:
        assert answer["Content-Type"] == "application/problem+json"
        left = [rows | {"readers.Token": []} for rows in (before, stored())]  # that the token was used is noted
        assert left[0] == left[1]


def patterns(resolver, before: str = "") -> list:
    """Every address of the site but the admin's and the API's."""
    found = []
    for one in resolver.url_patterns:
        words = before + str(one.pattern)
        if words.startswith(("admin/", "api/")):
            continue
        found += patterns(one, words) if hasattr(one, "url_patterns") else [one]
    return found


def address_of(pattern, site) -> str:
    """The address with things that are there."""
    own = {
        "import-": site.upload.pk, "run": site.run.pk, "node": site.node.pk, "token": site.token.pk,
        "collection": site.collection.pk, "item": site.collection.pk, "edit": site.entry.pk, "job": site.job.pk,
    }  # fmt: skip
    values: dict[str, Any] = {"slug": site.slug, "part": "entries", "kind": "work", "key": site.collection.key,
                              "item": site.item.pk, "index": 0, "number": site.change.history_id, "format": "bibtex",
                              "uidb64": "x", "token": "x", "pk": 1,
                              "ending": "pdf", "version": "x", "form": "svg"}  # fmt: skip
    values["kind"] = "arxiv" if pattern.name == "job_start" else "work"
    values["pk"] = next((pk for start, pk in own.items() if pattern.name.startswith(start)), 1)
    values["name"] = {"bundle-file": "claimcheck-report-0a", "kernel": "attention/flash"}.get(pattern.name, "bibtex")
    if pattern.name in ("run_plot", "run_plot_as"):
        values["pk"] = site.finished.pk
    return reverse(pattern.name, kwargs={name: values[name] for name in pattern.pattern.converters or {}} or {
        name: values[name] for name in pattern.pattern.regex.groupindex})  # fmt: skip


def test_every_page_that_takes_a_post_is_in_the_table(client, site):
    taken = set()
    for pattern in patterns(get_resolver()):
        if client.post(address_of(pattern, site)).status_code != 405:
            taken.add(pattern.name)
    assert taken == {*PAGES, *OPEN}


def test_every_operation_of_the_api_that_writes_is_in_the_table():
    plain = re.compile(r"\{(\w+?)(_id)?\}")
    writes = {
        (method, plain.sub("{}", path))
        for _, router in api._routers
        for path, view in router.path_operations.items()
        for operation in view.operations
        for method in operation.methods
        if method != "GET"
    }
    assert writes == {(method, plain.sub("{}", path)) for method, path in API}


@pytest.mark.parametrize("who", ["anonymous", "curator", "operator"])
def test_looking_changes_nothing(client, settings, site, who):
    sign_in(client, settings, who)
    before, seen = stored(), 0
    pages = [pattern for pattern in patterns(get_resolver()) if pattern.name != "password_reset_confirm"]
    routes = [address_of(pattern, site) for pattern in pages]
    described = client.get("/api/v1/openapi.json").json()
    words = {"slug": site.slug, "entry_id": site.entry.pk, "run_id": site.run.pk, "collection_id": site.collection.pk,
             "name": "bibtex", "job_id": site.bundle.pk}  # fmt: skip
    routes += [path.format(**words) for path, item in described["paths"].items() if "get" in item]
    with connection.execute_wrapper(only_reads):
        for address in routes:
            for method in (client.get, client.head):
                seen += method(address).status_code == 200
    assert stored() == before and seen > 40


def only_reads(execute, sql, *rest):
    """A look may note a session, and nothing else."""
    assert sql.split()[0] in ("SELECT", "SAVEPOINT", "RELEASE", "BEGIN", "PRAGMA") or "django_session" in sql, sql
    return execute(sql, *rest)


def test_a_form_of_another_site_is_refused(site):
    client = Client(enforce_csrf_checks=True)
    client.force_login(person("owner"))
    before = stored()
    for name, (arguments, data, _) in PAGES.items():
        assert client.post(reverse(name, args=arguments(site)), data(site)).status_code == 403, name
    assert stored() == before


def test_the_link_that_sets_a_password_is_the_accounts_own(client, site):
    user = person("owner")
    uid = urlsafe_base64_encode(force_bytes(person("reader").pk))
    answer = client.get(reverse("password_reset_confirm", args=[uid, default_token_generator.make_token(user)]))
    assert "opens nothing" in answer.content.decode()


def test_a_claim_or_link_of_another_work_cannot_be_reached_through_ones_own(client, settings, site):
    sign_in(client, settings, "curator")
    other = Claim.objects.exclude(work=site.work).first()
    assert client.post(reverse("edit-remove", args=[site.slug, "claims", other.pk])).status_code == 404
    link = Link.objects.exclude(entry__work=site.work).first()
    assert client.post(reverse("edit-remove", args=[site.slug, "links", link.pk])).status_code == 404
