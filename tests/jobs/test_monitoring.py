"""What /metrics reads from the database: right figures, and as few queries for many runs as for none."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from prometheus_client import CollectorRegistry

from jobs.models import Job, Node, Pulse
from jobs.monitoring import Installation, _ended

pytestmark = pytest.mark.django_db


@pytest.fixture
def registry(monkeypatch):
    """Of the installation's figures."""
    made = CollectorRegistry()
    made.register(Installation())
    return made


def jobs(n: int, status: str, **fields) -> None:
    ended = {} if status in ("queued", "running") else {"ended_at": timezone.now()}
    made = [Job(time_limit_s=1, status=status, **{"kind": "run", "device": "cpu"} | ended | fields) for _ in range(n)]
    Job.objects.bulk_create(made)


def test_figures_are_those_of_the_rows(registry):
    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"claimcheck_{name}", labels)

    now = timezone.now()
    jobs(2, "queued", queued_at=now - timedelta(seconds=90))
    jobs(1, "queued", queued_at=now + timedelta(seconds=90), device="cuda")
    jobs(1, "running")
    jobs(3, "finished")
    jobs(2, "finished", kind="record")
    jobs(4, "failed", code="timeout")
    for i, (heard, fields) in enumerate([(0, {}), (0, {"draining": True}), (0, {"trouble": "x"}), (99, {})]):
        at = now - timedelta(seconds=heard)
        Node.objects.create(name=f"n{i}", pid=1, device="cpu", started_at=at, heartbeat_at=at, **fields)
    assert value("jobs", device="cpu", status="queued") == 2 and value("jobs", device="cpu", status="running") == 1
    assert 90 <= value("queue_oldest_age_seconds", device="cpu") < 600
    assert value("queue_oldest_age_seconds", device="cuda") == value("queue_oldest_age_seconds", device="control") == 0
    ended = {"kind": "run", "fault": "", "code": ""}
    assert value("jobs_ended_total", status="finished", **ended) == 3
    assert value("jobs_ended_total", status="failed", **ended | {"code": "timeout", "fault": "request"}) == 4
    assert value("jobs_ended_total", status="finished", **ended | {"kind": "record"}) is None, "they ran elsewhere"
    states = ("able", "draining", "trouble", "silent")
    assert [value("nodes", device="cpu", state=state) for state in states] == [1, 1, 1, 1]
    assert value("sweep_age_seconds") is None
    Pulse.objects.create(name="sweep", at=now - timedelta(seconds=40))
    assert 40 <= value("sweep_age_seconds") < 600


def test_a_thousand_runs_and_fifty_nodes_cost_as_many_queries_as_none(registry, django_assert_max_num_queries):
    now = timezone.now()
    for many in (0, 1000):
        jobs(many, "finished")
        jobs(many, "queued")
        Node.objects.bulk_create(
            Node(name=f"n{i}", pid=1, device="cpu", started_at=now, heartbeat_at=now) for i in range(many // 20)
        )
        with django_assert_max_num_queries(7):
            list(registry.collect())


def test_outcomes_are_counted_from_an_index_alone(django_assert_num_queries):
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's plan")
    with django_assert_num_queries(1) as asked:
        _ended()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {asked.captured_queries[0]['sql']}")
        assert any("COVERING INDEX job_how_it_ended" in row[-1] for row in cursor.fetchall())
