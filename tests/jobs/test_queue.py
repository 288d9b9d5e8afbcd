"""Who is next: by turns, with an honest estimate; and nodes that take nothing more."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from jobs import queue, supervise
from jobs.models import Job, Node, Pulse
from jobs.states import change
from jobs.sweep import sweep

pytestmark = pytest.mark.django_db
Status = Job.Status
NODE = ("host", "pid", "device", "device_name", "offers", "started_at", "heartbeat_at")


@pytest.fixture
def users(django_user_model):
    return [django_user_model.objects.create_user(name) for name in ("many", "one")]


@pytest.fixture
def node():
    now = timezone.now()
    return Node.objects.create(
        name="n", host="h", pid=1, device="cpu", device_name="a CPU", offers=["x"], started_at=now, heartbeat_at=now
    )


def job(user=None, device="cpu", requires="x", limit=100) -> Job:
    return Job.objects.create(kind="script", device=device, requires=requires, time_limit_s=limit, user=user)


def finished(seconds: float, limit=100) -> Job:
    ended = timezone.now()
    began = ended - timedelta(seconds=seconds)
    return Job.objects.create(
        kind="script", device="cpu", requires="x", time_limit_s=limit, status=Status.FINISHED,
        queued_at=began, started_at=began, ended_at=ended,
    )  # fmt: skip


def test_a_users_only_job_comes_before_anothers_second(users, node):
    many, one = users
    lots = [job(many) for _ in range(50)]
    assert change(lots[0].pk, 0, [Status.QUEUED], Status.STARTING)
    only = job(one)
    assert queue.position(only) == 0
    assert supervise.take(node).pk == only.pk
    assert supervise.take(node).pk == lots[1].pk


def test_turns_alternate_between_users_who_wait(users):
    many, one = users
    a, b = [job(many) for _ in range(3)], [job(one) for _ in range(2)]
    order = list(Job.objects.waiting("cpu").values_list("pk", flat=True))
    assert order == [a[0].pk, b[0].pk, a[1].pk, b[1].pk, a[2].pk]


def test_devices_have_queues_of_their_own(users, node):
    gpu = [job(users[0], device="cuda") for _ in range(3)]
    cpu = job(users[0])
    assert queue.position(cpu) == 0 and queue.position(gpu[2]) == 2
    assert supervise.take(node).pk == cpu.pk and supervise.take(node) is None


def test_the_estimate_comes_from_what_such_jobs_took(node):
    for seconds in (10, 20, 30):
        finished(seconds)
    waiting = [job() for _ in range(3)]
    assert [round(queue.waiting_s(one)) for one in waiting] == [0, 20, 40]
    running = supervise.take(node)
    Job.objects.filter(pk=running.pk).update(started_at=timezone.now() - timedelta(seconds=5))
    assert round(queue.waiting_s(waiting[1])) == 15


def test_without_history_half_the_limit_is_expected(node):
    first, second = job(limit=60), job(limit=60)
    assert queue.waiting_s(first) == 0 and queue.waiting_s(second) == 30


def test_a_slow_node_is_expected_to_take_longer(node):
    Node.objects.update(time_factor=3)
    first, second = job(limit=60), job(limit=60)
    assert queue.waiting_s(first) == 0 and queue.waiting_s(second) == 90
    finished(20, limit=60)  # on a machine as fast as the reference
    assert round(queue.waiting_s(second)) == 60
    Job.objects.filter(status=Status.FINISHED).update(time_factor=2)
    assert round(queue.waiting_s(second)) == 30


def test_of_two_nodes_the_quicker_is_free_earlier(node):
    Node.objects.create(**{f: getattr(node, f) for f in NODE} | {"name": "slow", "time_factor": 4})
    finished(20)
    waiting = [job() for _ in range(4)]
    assert [round(queue.waiting_s(one)) for one in waiting] == [0, 0, 20, 40]


def test_a_running_job_is_expected_to_end_as_its_own_node_has_it(node):
    running, waiting = job(limit=60), job(limit=60)
    Node.objects.update(time_factor=3)
    node.refresh_from_db()
    assert supervise.take(node).pk == running.pk
    assert round(queue.waiting_s(waiting)) == 90


def test_no_node_no_estimate(node):
    assert queue.waiting_s(job(requires="another")) is None
    Node.objects.update(draining=True)
    assert queue.waiting_s(job()) is None


def test_a_drained_node_takes_nothing(node):
    job()
    Node.objects.update(draining=True)
    assert supervise.take(node) is None
    Node.objects.update(draining=False)
    assert supervise.take(node) is not None


def test_the_sweep_leaves_its_pulse(settings):
    settings.CELERY_BROKER_URL = "memory://"
    sweep()
    first = Pulse.objects.get(name="sweep").at
    sweep()
    assert Pulse.objects.get(name="sweep").at > first


@pytest.mark.parametrize("address", ["/health/live", "/health/ready"])
def test_probes_answer(client, address):
    assert client.get(address).status_code == 200


def test_health_misses_the_sweep(client):
    assert "is manage.py control running?" in client.get("/health/").content.decode()
    Pulse.objects.create(name="sweep", at=timezone.now() - timedelta(minutes=5))
    page = client.get("/health/")
    assert page.status_code == 503 and "last 300 s ago" in page.content.decode()


def health(client) -> tuple[int, str]:
    """Its status and its text, with everything but the nodes in order."""
    Pulse.objects.update_or_create(name="sweep", defaults={"at": timezone.now()})
    page = client.get("/health/")
    return page.status_code, " ".join(re.sub("<[^>]*>", " ", page.content.decode()).split())


def test_health_sees_that_the_last_node_is_drained_or_in_trouble(client, node):
    assert "workers works n (a CPU)" in health(client)[1]
    Node.objects.update(draining=True)
    status, said = health(client)
    assert status == 503 and "workers does not work n (a CPU, drained)" in said
    Node.objects.update(draining=False, trouble="only 3 MiB of disk are free")
    status, said = health(client)
    assert status == 503 and "workers does not work n (a CPU, only 3 MiB of disk are free)" in said
    Node.objects.create(**{f: getattr(node, f) for f in NODE} | {"name": "another"})
    assert "workers works another (a CPU), n (a CPU, only 3 MiB of disk are free)" in health(client)[1]


def test_health_misses_a_node_for_what_waits(client, node):
    job(requires="x"), job(requires="x")
    assert "queue works 2 waiting" in health(client)[1]
    Node.objects.update(draining=True)
    assert "2 of them no connected node could take" in health(client)[1]


def test_nodes_page_and_who_may_drain(client, django_user_model, node):
    assert "a CPU" in client.get("/nodes/").content.decode()
    address = f"/nodes/{node.pk}/drain/"
    assert client.get(address).status_code == 405
    assert client.post(address, {"draining": "yes"}).status_code == 302
    client.force_login(django_user_model.objects.create_user("reader"))
    client.post(address, {"draining": "yes"})
    assert not Node.objects.get().draining
    client.force_login(django_user_model.objects.create_user("operator", is_staff=True))
    client.post(address, {"draining": "yes"})
    assert Node.objects.get().draining and "drained" in client.get("/nodes/").content.decode()


def test_every_failure_is_explained(client):
    from jobs.failures import FAILURES

    page = client.get("/failures/").content.decode()
    assert all(f'id="{code}"' in page for code in FAILURES)
