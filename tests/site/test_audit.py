"""The audit log and the brake, piece by piece: addresses, waits, what is noted of operators' acts, what is removed."""

import datetime

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from config import client as clients
from config import clock
from config.audit import record
from config.security_txt import contact
from jobs.models import Job, Node
from jobs.sweep import sweep
from readers import accounts, brake, tokens
from readers.models import AuditRecord
from tests.site import measured
from tests.site.people import person, sign_in


def request(forwarded: str = "", remote: str = "198.51.100.1"):
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    return RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "found"),
    [
        (0, "", "198.51.100.1"),
        (0, "203.0.113.1", "198.51.100.1"),
        (1, "", "198.51.100.1"),
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "10.0.0.1, 203.0.113.1", "203.0.113.1"),
        (2, "10.0.0.1, 203.0.113.1, 192.0.2.9", "203.0.113.1"),
        (2, "203.0.113.1", "203.0.113.1"),
        (1, "203.0.113.1:4321", "203.0.113.1"),
        (1, "[2001:db8::7]:443", "2001:db8::7"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "::ffff:203.0.113.1", "203.0.113.1"),
        (1, "fe80::1%eth0", "fe80::1"),
        (1, "unknown", None),
        (1, "x" * 5000, None),
    ],
)
def test_which_address_counts(settings, proxies, forwarded, found):
    settings.TRUSTED_PROXIES = proxies
    assert clients.address(request(forwarded)) == found


def test_a_visitor_has_one_place_however_many_addresses():
    assert clients.place_of("2001:db8:1:2:3:4:5:6") == clients.place_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert clients.place_of("203.0.113.1") != clients.place_of("203.0.113.2")
    assert clients.place_of(None) == "0.0.0.0"


def test_waits_grow_and_end():
    assert [brake.PAIR.wait_s(n, 0) for n in (0, 4, 5, 6, 7, 12, 10**6)] == [0, 0, 30, 60, 120, 900, 900]
    assert brake.PAIR.wait_s(5, 29.5) == 1 and brake.PAIR.wait_s(5, 30) == 0
    assert max(brake.ACCOUNT.wait_s(n, 0) for n in range(1000)) <= 60, "an owner is never kept out for long"
    assert (brake.told(1), brake.told(59), brake.told(61)) == ("1 second", "59 seconds", "2 minutes")


@pytest.mark.django_db
def test_what_is_too_old_counts_no_more_and_is_removed(settings, client):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    client.force_login(person("reader"))
    for _ in range(6):
        brake.wrong_password(request(), "reader")
    brake.wrong_secret(request(), "token", "x")
    for act, days in (("old", 401), ("new", 399)):
        AuditRecord.objects.create(at=clock.now() - datetime.timedelta(days=days), act=act, outcome="done")
    assert brake.wait_s(request(), "reader") > 0
    Session.objects.update(expire_date=clock.now() - datetime.timedelta(seconds=1))
    AccessAttempt.objects.update(attempt_time=clock.now() - datetime.timedelta(hours=2))
    assert brake.wait_s(request(), "reader") == 0
    sweep()
    assert not AccessAttempt.objects.exists() and not Session.objects.exists()
    assert [row.act for row in AuditRecord.objects.all()] == ["new"]


@pytest.mark.django_db
def test_what_opens_something_is_left_out():
    record(None, "ask for bundle", "private: collection=_kgwJ2MSe&year=2023")
    record(None, "ask for bundle", "collection=_kgwJ2MSe")
    assert [row.about for row in AuditRecord.objects.order_by("pk")] == [
        "private: collection=…&year=2023", "collection=…",
    ]  # fmt: skip


@pytest.mark.django_db
def test_sessions_that_open_nothing_and_accounts_that_asked_nothing_are_not_shown(client, settings):
    ann, bob = person("ann"), person("bob")
    for one in (ann, bob):
        client.force_login(one)
        client.session.save()
        client.cookies.clear()
    assert {one.user for one in accounts.sessions()} == {ann, bob}
    User.objects.filter(pk=ann.pk).update(is_active=False)
    bob.set_password("another long one")
    bob.save()
    assert accounts.sessions() == []
    User.objects.bulk_create(User(username=f"idle{i}") for i in range(50))
    Job.objects.create(kind="bundle", device="control", time_limit_s=9, user=bob)
    with CaptureQueriesContext(connection) as asked:
        assert accounts.quotas() == [
            {"user": bob, "waiting": 1, "today": 1, "may_wait": settings.WAITING_RUNS_PER_USER,
             "may_ask": settings.RUNS_PER_USER_A_DAY},
        ]  # fmt: skip
    assert len(asked) <= 4


@pytest.mark.django_db
def test_an_upkeep_that_fails_holds_up_no_job(settings):
    settings.UPKEEP = ["readers.nothing.of_this_name", "readers.upkeep.remove_old"]
    AuditRecord.objects.create(at=clock.now() - datetime.timedelta(days=1000), act="old", outcome="done")
    sweep()
    assert not AuditRecord.objects.exists()


@pytest.mark.django_db
def test_what_operators_do_is_noted(client, settings, catalogue):
    owner, now = person("owner"), clock.now()
    run = measured.run(measured.reproduction(), 1.0)
    job, other = (Job.objects.create(kind=kind, device="cpu", time_limit_s=9, user=owner) for kind in ("run", "bundle"))
    run.job = job
    run.save()
    node = Node.objects.create(name="n", host="h", device="cpu", pid=1, started_at=now, heartbeat_at=now)
    sign_in(client, settings, "operator")
    client.post(f"/runs/{run.pk}/cancel/")
    client.post(f"/jobs/{other.pk}/cancel/")
    client.post(f"/nodes/{node.pk}/drain/", {"draining": "yes"})
    client.post(f"/nodes/{node.pk}/drain/", {"draining": "no"})
    client.post("/jobs/start/arxiv/")
    client.post("/bundles/", {"kind": "private", "query": "year=2023"})
    entry = run.reproduction.work.entries.first()
    client.post(f"/papers/flashattention/edit/entries/{entry.pk}/remove/")
    found = list(AuditRecord.objects.order_by("pk").values_list("who", "act", "about"))
    assert [row[1:] for row in found] == [
        ("cancel job", f"run job {job.pk} of owner"),
        ("cancel job", f"bundle job {other.pk} of owner"),
        ("drain node", "n"),
        ("let node take jobs", "n"),
        ("start arxiv job", f"job {Job.objects.get(kind='arxiv').pk}"),
        ("ask for bundle", "private: year=2023"),
        ("remove entry", f"{entry} of flashattention"),
    ]
    assert {row[0] for row in found} == {"operator"}
    own = Job.objects.create(kind="bundle", device="cpu", time_limit_s=9, user=person("operator"))
    client.post(f"/jobs/{own.pk}/cancel/")
    assert AuditRecord.objects.count() == len(found), "with one's own it is no operator's act"


@pytest.mark.django_db
def test_what_the_command_line_does_is_noted(catalogue, tmp_path):
    path = tmp_path / "list.md"
    path.write_text("## Attention\n\n|Date|Title|Paper|\n|-|-|-|\n|2024.01|[R] A Router|[[pdf]](https://a.b/c)|\n")
    call_command("import_list", path, verbosity=0)
    (row,) = AuditRecord.objects.all()
    assert row.who.startswith("command line: ") and (row.act, row.about) == ("apply import", "list.md")


@pytest.mark.django_db
def test_text_of_others_cannot_turn_the_log(client):
    client.force_login(person("reader"))
    client.post("/accounts/tokens/", {"name": "a\u202eb\u2028c", "scope": "read"})
    made = AuditRecord.objects.filter(act="make token").first()
    assert made is None or ("\u202e" not in made.about and "\u2028" not in made.about)
    long = tokens.create(person("reader"), name="n" * 80, scope="read")[0]
    client.post(f"/accounts/tokens/{long.pk}/revoke/")
    assert AuditRecord.objects.get(act="revoke token").about == "n" * 80


@pytest.mark.parametrize(
    ("text", "found"),
    [("", ""), ("a@b.example", "mailto:a@b.example"), (" https://b.example/report ", "https://b.example/report"),
     ("tel:+44-1", "tel:+44-1")],
)  # fmt: skip
def test_whom_to_tell_of_a_hole(text, found):
    assert contact(text) == found


@pytest.mark.parametrize("text", ["ann", "http://b.example", "javascript:x", "a@b.example\nExpires: never", "a@b c"])
def test_a_contact_that_is_none_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match="SECURITY_CONTACT: expected"):
        contact(text)


def test_security_txt(client, settings, db):
    assert client.get("/.well-known/security.txt").status_code == 404
    settings.SECURITY_CONTACT = "mailto:a@b.example"
    answer = client.get("/.well-known/security.txt", secure=True)
    fields = dict(line.split(": ", 1) for line in answer.content.decode().splitlines())
    assert answer["Content-Type"] == "text/plain; charset=utf-8" and fields["Contact"] == "mailto:a@b.example"
    assert (
        fields["Canonical"] == "https://testserver/.well-known/security.txt" and fields["Preferred-Languages"] == "en"
    )
    left = datetime.datetime.fromisoformat(fields["Expires"]) - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=100) < left < datetime.timedelta(days=365)
    assert "Canonical" not in client.get("/.well-known/security.txt").content.decode()
