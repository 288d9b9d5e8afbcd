"""Jobs that are no reproductions: the control process takes them, one at a time, and each has a page."""

import sys

import pytest
from django.contrib.auth.models import User

from jobs import health, services, supervise
from jobs.models import Job, Node
from jobs.node import register
from tests.installation import Installation, eventually, free_port

Status = Job.Status


@pytest.fixture(autouse=True)
def kinds(settings):
    settings.JOB_KINDS = {"own": "tests.jobs.own", "script": "tests.jobs.script"}
    settings.CELERY_BROKER_URL = "memory://"
    supervise.STOP.clear()


@pytest.fixture
def people(db):
    return {name: User.objects.create_user(name, is_staff=name == "operator") for name in ("operator", "reader")}


def queue(*words: str, user=None) -> Job:
    return services.enqueue(kind="own", device="control", time_limit_s=60, user=user, arguments=words)


@pytest.mark.django_db(transaction=True)
def test_the_control_node_runs_own_code_with_the_whole_environment(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite:///x")
    node = register("here-control", "control", 0)
    job = queue("a", "b")
    Job.objects.create(kind="script", device="cpu", requires="", time_limit_s=9)
    assert supervise.work(node) == 1, "no reproduction runs in the control process"
    job.refresh_from_db()
    assert job.status == Status.FINISHED
    assert "DATABASE_URL" in job.log and "['a', 'b']" in job.log


def test_the_control_node_is_no_worker(db):
    register("here-control", "control", 0)
    assert not {part.name: part.ok for part in health.check()}["workers"]
    assert Node.objects.get().can_run(Job(device="control"))


def test_a_form_starts_a_job_once(client, people):
    client.force_login(people["operator"])
    first = client.post("/jobs/start/own/", {"word": ["a"]})
    again = client.post("/jobs/start/own/", {"word": ["a"]})
    assert first.status_code == 302 and first.url == again.url
    job = Job.objects.get()
    assert (job.arguments, job.device, job.user) == (["a"], "control", people["operator"])
    assert client.post("/jobs/start/own/", {"word": ["b"]}).url != first.url


def test_who_may_start_see_and_cancel_a_job(client, people):
    job = queue(user=people["operator"])
    address = f"/jobs/{job.pk}/"
    assert client.post("/jobs/start/own/").url.startswith("/accounts/login/")
    assert client.post(f"{address}cancel/").url.startswith("/accounts/login/")
    page = client.get(address).content.decode()
    assert "An errand" in page and "no control process is heard" in page and "Log" not in page
    client.force_login(people["reader"])
    assert client.post("/jobs/start/own/").status_code == 403
    assert client.post(f"{address}cancel/").status_code == 403
    assert "Cancel" not in client.get(address).content.decode()
    client.force_login(people["operator"])
    assert "Cancel" in client.get(address).content.decode()
    assert client.get(f"{address}cancel/").status_code == 405
    assert client.get("/jobs/start/own/").status_code == 405
    client.post(f"{address}cancel/")
    assert "cancelled while it waited" in client.get(address).content.decode()


def test_kinds_without_a_page_or_a_form_have_none(client, people):
    client.force_login(people["operator"])
    job = Job.objects.create(kind="script", device="cpu", requires="", time_limit_s=9)
    assert client.get(f"/jobs/{job.pk}/").status_code == 404
    assert client.post("/jobs/start/script/").status_code == 404
    assert client.post("/jobs/start/nothing/").status_code == 404


def test_htmx_gets_the_part_that_changes(client, people):
    job = queue(user=people["operator"])
    page = client.get(f"/jobs/{job.pk}/", headers={"HX-Request": "true"})
    assert page.content.strip().startswith(b'<div id="job-live"') and page["Vary"].startswith("HX-Request")


def test_the_control_process_looks_after_everything_as_it_starts(tmp_path):
    """Without Redis, which the sweep does not need."""
    site = Installation(tmp_path, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    ask = "from jobs.models import Pulse; print('swept', Pulse.objects.filter(name='sweep').exists())"
    try:
        assert site.manage("migrate").returncode == 0
        assert "swept False" in site.manage("shell", "-c", ask).stdout
        site.start(sys.executable, "manage.py", "control", log="control")
        eventually(lambda: "swept True" in site.manage("shell", "-c", ask).stdout, "it swept")
    finally:
        site.stop()
