"""The pages that speak to arXiv: who may, what is asked when, what is shown of it."""

import pytest
from django.contrib.auth.models import Permission

from catalog.models import ArxivGate, Category, Entry, Work
from jobs.models import Job
from tests.catalog.arxiv_server import BY, Paper
from tests.catalog.arxiv_works import OLD, SINKS, sync, work

pytestmark = pytest.mark.django_db


def sign_in(client, users, name: str):
    user = users.objects.create_user(name, is_staff=name == "operator")
    if name == "curator":
        user.user_permissions.add(Permission.objects.get(codename="change_work"))
    client.force_login(user)
    return client


@pytest.fixture
def curator(client, django_user_model):
    return sign_in(client, django_user_model, "curator")


def text(response) -> str:
    return response.content.decode()


@pytest.mark.parametrize("role", ["anonymous", "reader", "curator", "operator"])
def test_who_may(client, django_user_model, arxiv, role):
    made = work()
    if role != "anonymous":
        sign_in(client, django_user_model, role)
    allowed = role in ("curator", "operator")
    expected = {"anonymous": 302, "reader": 403}.get(role)
    assert client.get("/arxiv/").status_code == (expected or 200)
    assert client.post("/arxiv/add/", {"paper": OLD}).status_code == (expected or 200)
    assert client.post("/jobs/start/arxiv/", {"work": made.slug}).status_code == (expected or 302)
    assert Job.objects.count() == allowed
    assert bool(arxiv.seen) == allowed
    assert ("Sync with arXiv" in text(client.get(f"/papers/{made.slug}/"))) == allowed
    assert ("Add a work" in text(client.get("/"))) == allowed


def test_a_get_never_asks_arxiv(curator, arxiv):
    assert curator.get("/arxiv/add/").status_code == 405
    assert curator.get("/jobs/start/arxiv/").status_code == 405
    curator.get("/arxiv/")
    assert arxiv.seen == []


def test_the_button_queues_a_sync_that_has_a_page(curator, arxiv):
    made = work()
    one = curator.post("/jobs/start/arxiv/", {"work": made.slug})
    page = text(curator.get(one.url))
    assert "Sync with arXiv: Sinks: a paper" in page and f"/papers/{made.slug}/" in page
    assert Job.objects.get().arguments == [SINKS]
    all_works = curator.post("/jobs/start/arxiv/")
    assert "Sync of all works with arXiv" in text(curator.get(all_works.url))
    assert curator.post("/jobs/start/arxiv/", {"work": "nothing"}).status_code == 404


def test_look_then_add(curator, arxiv, catalogue):
    category = Category.objects.first()
    Work.objects.filter(arxiv_id=OLD).delete()
    form = {"paper": f"https://arxiv.org/abs/{OLD}v1", "category": category.slug}
    shown = text(curator.post("/arxiv/add/", form))
    assert "An old paper" in shown and "Bob Böse" in shown and "CC BY 4.0" in shown and category.name in shown
    assert not Work.objects.filter(arxiv_id=OLD).exists()
    asked = len(arxiv.seen)
    added = curator.post("/arxiv/add/", {"paper": OLD, "category": category.slug, "confirm": "yes"})
    assert added.status_code == 302 and added.url == "/papers/an-old-paper/"
    assert len(arxiv.seen) == asked, "the second time it is remembered"
    made = Work.objects.get(arxiv_id=OLD)
    assert made.metadata_verified and made.licence == BY and made.arxiv_synced_at
    assert made.history.get().history_user.username == "curator"
    entry = Entry.objects.filter(category=category).last()
    assert (entry.work, entry.month, entry.links.get().url) == (made, "2023-09", f"https://arxiv.org/abs/{OLD}")
    page = text(curator.get(added.url))
    assert "We show something small &amp; new." in page and "CC BY 4.0" in page and "last synced" in page
    assert added.url in text(curator.get("/?q=old+paper"))
    again = curator.post("/arxiv/add/", form | {"confirm": "yes"})
    assert again.status_code == 409 and "in the list already" in text(again) and added.url in text(again)


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"paper": "nonsense"}, 400, "expected an arXiv id or address, got &#x27;nonsense&#x27;"),
        ({}, 400, "expected an arXiv id or address"),
        ({"paper": SINKS, "category": "nowhere"}, 400, "no category is called"),
        ({"paper": "2401.00009"}, 404, "arXiv does not know 2401.00009"),
    ],
)
def test_what_cannot_be_added_is_said(curator, arxiv, form, status, words):
    Work.objects.filter(arxiv_id=SINKS).delete()
    answer = curator.post("/arxiv/add/", form)
    assert answer.status_code == status and words in text(answer)


def test_a_page_that_cannot_ask_says_why(curator, arxiv, settings):
    Work.objects.filter(arxiv_id=OLD).delete()
    arxiv.faults = [(403, "")]
    for _ in range(2):
        answer = curator.post("/arxiv/add/", {"paper": OLD})
        assert answer.status_code == 503 and "nothing is fetched from arXiv until" in text(answer)
    assert "nothing is fetched" in text(curator.get("/arxiv/"))
    ArxivGate.objects.all().delete()
    settings.ARXIV_API_URL = "http://127.0.0.1:9/api/query"
    answer = curator.post("/arxiv/add/", {"paper": OLD})
    assert answer.status_code == 503 and "no connection" in text(answer)


def test_a_licence_that_cannot_be_asked_is_no_obstacle(curator, arxiv):
    Work.objects.filter(arxiv_id=OLD).delete()
    arxiv.faults = [None, *[(500, "")] * 3]
    assert "not known yet" in text(curator.post("/arxiv/add/", {"paper": OLD}))
    arxiv.faults = [(500, "")] * 3
    curator.post("/arxiv/add/", {"paper": OLD, "confirm": "yes"})
    assert Work.objects.get(arxiv_id=OLD).licence_version is None
    sync(OLD)
    assert Work.objects.get(arxiv_id=OLD).licence == BY


def test_a_title_that_is_there_is_a_question(curator, arxiv):
    Work.objects.filter(arxiv_id=OLD).delete()
    work("2401.00001", "An Old Paper")
    assert "A work with this title is in the list" in text(curator.post("/arxiv/add/", {"paper": OLD}))


def test_pages_tell_withdrawal_and_differences(curator, arxiv):
    arxiv.papers[SINKS] = Paper("<b>Other</b>", comment="Withdrawn by the authors: wrong")
    made = work()
    sync(SINKS)
    page = text(curator.get(f"/papers/{made.slug}/"))
    assert "<strong>Withdrawn</strong>" in page and "&lt;b&gt;Other&lt;/b&gt;" in page and "it differs" in page
    assert "&lt;b&gt;Other&lt;/b&gt;" in text(curator.get("/arxiv/"))
    curator.logout()
    page = text(curator.get(f"/papers/{made.slug}/"))
    assert "<strong>Withdrawn</strong>" in page and "Other" not in page
