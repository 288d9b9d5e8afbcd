"""The project is updated while runs wait: they follow the present version, or end with the reason; health says it."""

import re
from copy import deepcopy

import pytest
from django.utils import timezone

from jobs import health, supervise
from jobs.models import Job, Node
from jobs.states import change
from jobs.sweep import sweep
from reproductions import services
from reproductions.models import Reproduction, Run
from tests.installation import Installation

Status = Job.Status
NEW = "f" * 16
ASK = """
from jobs.models import Job
from reproductions import services
from reproductions.models import Reproduction, Run
chosen = Reproduction.objects.get(work__slug="online-softmax")
small = {"rows": "1", "columns": "64,128", "kept": "5", "counted_columns": "32", "repeats": "5"}
run = services.start_run(chosen, size="smoke", device="cpu", changes=small, user=None)
old = "0123456789abcdef"
Reproduction.objects.update(measurement=old)
Run.objects.filter(pk=run.pk).update(measurement=old)
Job.objects.filter(pk=run.job_id).update(requires=f"online-softmax@{old}")
print("run", run.pk)
"""


@pytest.fixture(autouse=True)
def no_wake_ups(settings):
    settings.CELERY_BROKER_URL = "memory://"


def updated(made: Reproduction, **changes) -> None:
    """A new version of the reproduction comes in, as `sync_reproductions` leaves it."""
    spec = deepcopy(made.spec) | changes
    Reproduction.objects.filter(pk=made.pk).update(spec=spec | {"measurement": NEW}, measurement=NEW)


def node(made: Reproduction, offers: str = NEW, **fields) -> Node:
    now = timezone.now()
    values = {"host": "h", "pid": 1, "device": "cpu", "device_name": "a CPU", "started_at": now, "heartbeat_at": now}
    return Node.objects.create(name=f"n{offers}", offers=[f"flashattention@{offers}"], **values | fields)


def asked(made: Reproduction, **changes: str) -> Run:
    return services.start_run(made, size="smoke", device="cpu", changes=changes, user=None)


@pytest.mark.django_db(transaction=True)
def test_a_waiting_run_follows_the_present_version(made):
    run = asked(made)
    checks = [made.spec["checks"][0] | {"at_most": 3.0}]
    sizes = deepcopy(made.spec["sizes"])
    sizes["smoke"] |= {"limit_s": 77, "parameters": {"lengths": [5]}, "needs": {"memory_gib": 1}}
    updated(made, checks=checks, sizes=sizes)
    sweep()
    run = Run.objects.select_related("job").get(pk=run.pk)
    assert (run.measurement, run.checks, run.parameters, run.customised) == (NEW, checks, {"lengths": [5]}, False)
    assert (run.job.requires, run.job.time_limit_s, run.job.memory_gib) == (f"flashattention@{NEW}", 77, 1)
    assert run.job.status == Status.QUEUED and "the present version runs" in run.job.reason


@pytest.mark.django_db(transaction=True)
def test_parameters_of_ones_own_are_kept(made):
    run = asked(made, lengths="3,4")
    updated(made)
    sweep()
    run.refresh_from_db()
    assert (run.parameters, run.customised, run.measurement) == ({"lengths": [3, 4]}, True, NEW)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limits": {"lengths": [1, 2]}}, "lengths: expected whole numbers between 1 and 2"),
        ({"sizes": {"cpu": {"limit_s": 1, "scale": "reduced", "parameters": {"lengths": [1]}}}}, "has no size smoke"),
        ({"sizes": {"smoke": {"limit_s": 1, "scale": "reduced", "parameters": {"n": 1}}}, "limits": {"n": [1, 2]}},
         "lengths: no such parameter"),
    ],
)  # fmt: skip
def test_what_does_not_fit_any_more_ends_with_the_reason(made, client, changes, words):
    run = asked(made, lengths="3,4")
    updated(made, **changes)
    sweep()
    job = Job.objects.get(pk=run.job_id)
    assert (job.status, job.code, job.failure.fault) == (Status.FAILED, "changed-work", "platform")
    assert words in job.reason and "changed-work" in client.get(f"/runs/{run.pk}/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_run_of_a_retired_work_ends_and_one_that_was_taken_stays(made):
    waiting, taken = asked(made), asked(made, lengths="7")
    change(taken.job_id, 0, [Status.QUEUED], Status.STARTING)
    Reproduction.objects.update(retired=True)
    sweep()
    waiting.job.refresh_from_db()
    taken.refresh_from_db()
    assert waiting.job.code == "changed-work"
    assert Job.objects.get(pk=taken.job_id).status == Status.STARTING and taken.measurement == made.measurement


@pytest.mark.django_db(transaction=True)
def test_one_broken_job_holds_up_nobody_else(made):
    broken, run = asked(made), asked(made, lengths="7")
    broken.delete()  # its job stays, as the admin's own deletion would leave it
    updated(made)
    sweep()
    job = Job.objects.get(pk=broken.job_id)
    assert (job.status, job.code) == (Status.FAILED, "internal") and "has no run" in job.reason
    run.refresh_from_db()
    assert run.measurement == NEW and "the present version runs" in run.job.log


@pytest.mark.django_db(transaction=True)
def test_a_node_that_had_looked_before_does_not_take_what_followed(made, monkeypatch):
    """The sweep comes between a worker's look and its claim."""
    old, run = node(made, offers=made.measurement), asked(made)
    real = supervise.change

    def late(*given, **fields):
        if given[3] == Status.STARTING:
            updated(made)
            sweep()
        return real(*given, **fields)

    monkeypatch.setattr(supervise, "change", late)
    assert supervise.take(old) is None
    run.job.refresh_from_db()
    assert (run.job.status, run.job.requires) == (Status.QUEUED, f"flashattention@{NEW}")


@pytest.mark.django_db
def test_health_judges_whether_a_node_could_take_what_waits(made):
    run = asked(made)
    parts = {part.name: part for part in health.check()}
    assert not parts["queue"].ok and f"no connected node could take, such as job {run.job_id}" in parts["queue"].detail
    node(made, offers="another")
    assert not {part.name: part.ok for part in health.check()}["queue"]
    node(made, offers=made.measurement)
    assert {part.name: part.ok for part in health.check()}["queue"]
    Node.objects.filter(name=f"n{made.measurement}").update(draining=True)
    assert not {part.name: part.ok for part in health.check()}["queue"], "one that is drained takes nothing"


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", [{"trouble": "only 0 MiB of disk are free"}, {"draining": True}])
def test_a_node_that_takes_no_job_is_no_worker(made, wrong):
    node(made, **wrong)
    part = {part.name: part for part in health.check()}["workers"]
    assert not part.ok and ("free" in part.detail or "drained" in part.detail)
    node(made, offers="well")
    assert {part.name: part.ok for part in health.check()}["workers"]


@pytest.mark.django_db
def test_a_full_disk_is_no_health(settings):
    assert {part.name: part.ok for part in health.check()}["disk"]
    settings.FREE_DISK_MIB = 10**12
    part = {part.name: part for part in health.check()}["disk"]
    assert not part.ok and "MiB of disk are free" in part.detail


@pytest.mark.xdist_group("up")
def test_a_run_that_an_earlier_version_left_waiting_is_carried_out(installation: Installation):
    for command in ("migrate", "load_catalog", "sync_reproductions"):
        assert installation.manage(command).returncode == 0
    done = installation.manage("shell", "-c", ASK)
    assert done.returncode == 0, done.stderr
    run = f"/runs/{re.search(r'^run ([0-9]+)$', done.stdout, re.M).group(1)}/"
    installation.up()
    assert installation.wait_for(run, "finished", "failed") == "finished"
