"""A job's life in one worker: real children, a real database; each end has its status, its code and its log."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from django.db import connection
from django.utils import timezone

from jobs import groups, services, supervise
from jobs.disk import trouble
from jobs.failures import FAILURES
from jobs.models import Attempt, Job, Node
from jobs.states import NEXT, change, fence
from jobs.sweep import end_left_overs, sweep, take_back
from tests.installation import ROOT, eventually
from tests.jobs import script
from tests.waiting import allowed

pytestmark = pytest.mark.django_db(transaction=True)
Status = Job.Status


@pytest.fixture(autouse=True)
def script_kind(settings):
    settings.JOB_KINDS = {"script": "tests.jobs.script"}
    settings.CELERY_BROKER_URL = "memory://"
    supervise.STOP.clear()
    script.STORED.clear()


@pytest.fixture
def node():
    now = timezone.now()
    return Node.objects.create(
        name="node", host=socket.gethostname(), pid=1, device="cpu", device_name="a CPU",
        offers=list(script.SCRIPTS), started_at=now, heartbeat_at=now,
    )  # fmt: skip


def queue(name: str, time_limit_s: int = 60, device: str = "cpu") -> Job:
    return Job.objects.create(kind="script", device=device, requires=name, time_limit_s=time_limit_s)


def run(name: str, node: Node, **options) -> Job:
    job = queue(name, **options)
    assert supervise.work(node) == 1
    job.refresh_from_db()
    return job


class InBackground:
    """A worker in a thread, with its own database connection."""

    def __init__(self, node: Node):
        self.thread = threading.Thread(target=self._work, args=[node])

    def _work(self, node: Node) -> None:
        try:
            supervise.work(node)
        finally:
            connection.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.thread.join(allowed(30))
        assert not self.thread.is_alive()


def group_of(job: Job) -> int:
    def look():
        attempt = Attempt.objects.filter(job=job, group__isnull=False).last()
        return attempt and "started" in job.log and attempt.group

    return eventually(look, "the child runs")


def test_a_job_that_ends_well(node):
    job = run("well", node)
    assert (job.status, job.code, job.attempt) == (Status.FINISHED, "", 1)
    assert job.log == "hello\n"
    assert [(job.pk, {"n": 1})] == script.STORED
    attempt = job.attempts.get()
    assert attempt.ended_at and not groups.members(attempt.group)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("fails", "crashed", "exit code 3"),
        ("killed", "crashed", "killed by signal 9"),
        ("says-why", "missing-model", "no model"),
        ("bad-parameters", "bad-parameters", "refused its parameters"),
        ("no-result", "bad-result", "no result.json"),
    ],
)
def test_every_failure_has_a_code_and_a_reason(node, name, code, words):
    job = run(name, node)
    assert (job.status, job.code) == (Status.FAILED, code)
    assert words in job.reason and job.code in FAILURES and job.failure.next_step
    assert script.STORED == []


def test_the_log_of_a_killed_child_is_kept(node):
    assert run("killed", node).log == "so far\n"


def test_a_child_past_its_time_limit_is_stopped(node, monkeypatch):
    monkeypatch.setattr(supervise, "FAIR_SHARE", 0.1)  # of a core that the tests share with others
    began = time.monotonic()
    job = run("spins", node, time_limit_s=2)
    assert (job.status, job.code, job.failure.fault) == (Status.FAILED, "timeout", "request")
    assert job.reason == "stopped after 2 s, its time limit" and time.monotonic() - began < allowed(10)
    assert not groups.members(job.attempts.get().group)


def test_a_limit_is_longer_on_a_slow_node(node):
    Node.objects.update(time_factor=2.5)
    node.refresh_from_db()
    began = time.monotonic()
    job = run("spins", node, time_limit_s=1)
    assert time.monotonic() - began > 2.5 and (job.limit_s, job.time_limit_s) == (2.5, 1)
    assert "stopped after 2 s, its time limit (1 s, times 2.5 on this node)" in job.reason


@pytest.mark.parametrize("name", ["sleeps", "spins"])
def test_a_child_that_got_less_than_half_of_a_core_is_no_fault_of_whoever_asked(node, name):
    """It waits for something that does not come, or is kept off the processor: here, paused."""
    job = queue(name, time_limit_s=3)
    with InBackground(node):
        group = group_of(job)
        if name == "spins":
            os.killpg(group, signal.SIGSTOP)
    job.refresh_from_db()
    assert (job.status, job.code, job.failure.fault) == (Status.FAILED, "too-little-cpu", "platform")
    assert "3 s, its time limit" in job.reason and "% of one core's time" in job.reason


def test_what_all_processes_of_a_child_did_is_counted():
    """By a child of the child, and by one that has ended."""
    busy = "import time\nwhile time.process_time() < 0.4: pass"
    script = f"import os, subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {busy!r}])\n"
    script += "if not os.fork():\n  while time.process_time() < 0.4: pass\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    eventually(lambda: groups.cpu_seconds(child.pid) > 0.7, "both are counted", 20)
    groups.end(child.pid)
    child.wait()


def told_ends(caplog) -> list[str]:
    """What the worker told of jobs, but for their beginnings."""
    said = [record.getMessage() for record in caplog.records if record.name == "jobs.supervise"]
    return [one for one in said if not one.endswith(": attempt 1")]


def test_an_end_that_was_refused_is_not_told_as_one(node, caplog):
    """A worker that was paused comes back to a job that another has taken."""
    job = queue("waits-for-a-word")
    with InBackground(node):
        group_of(job)
        folder = job.attempts.get().folder
        assert fence(Job.objects.get(pk=job.pk))
        (folder / "word").write_text("")
    job.refresh_from_db()
    assert job.status == Status.RUNNING
    said = told_ends(caplog)
    assert said == [f"job {job.pk}: not finished: it is no longer this worker's, nothing was stored"]


def test_an_end_is_told_once(node, caplog):
    caplog.set_level("INFO", "jobs")
    job, bad = run("well", node), run("no-result", node)
    said = told_ends(caplog)
    assert said == [f"job {job.pk}: finished ", f"job {bad.pk}: failed no result.json"]


def test_a_job_that_another_took_back_first_is_not_told_as_taken_back(node, monkeypatch, caplog):
    job = silent("well")
    monkeypatch.setattr("jobs.sweep.change", lambda *given, **fields: False)
    take_back(job)
    assert [record.getMessage().partition(" after")[0] for record in caplog.records] == [
        f"job {job.pk}: not taken back"
    ]


def test_memory_over_the_limit_is_not_a_dead_machine(node, settings):
    settings.JOB_MEMORY_SHARE = 400e6 / psutil.virtual_memory().total
    job = run("hungry-family", node)
    assert (job.status, job.code) == (Status.FAILED, "out-of-memory")
    assert "resident memory" in job.reason and not groups.members(job.attempts.get().group)


def test_one_process_cannot_even_ask_for_more(node, settings):
    settings.JOB_MEMORY_SHARE = 400e6 / psutil.virtual_memory().total
    assert "refused by the kernel" in run("hungry", node).log


def test_the_kernel_takes_a_child_first(node):
    job = queue("sleeps")
    with InBackground(node):
        group = group_of(job)
        assert Path(f"/proc/{group}/oom_score_adj").read_text().strip() == "1000"
        services.cancel(job)


def test_a_long_log_keeps_its_beginning_and_its_end_and_fills_no_disk(node, monkeypatch):
    monkeypatch.setattr("jobs.sandbox.LARGE_LOG", 2**20)
    job = run("chatty", node)
    log = job.log
    assert log.startswith("line 0 ") and "the log is cut here" in log and log.endswith("the end\n")
    assert len(log) < supervise.LOG_LIMIT + supervise.LOG_TAIL + 1000


def test_a_child_has_no_way_out_where_the_kernel_can_keep_it(node):
    can = subprocess.run([sys.executable, "-c", "from jobs.leash import leave_network as l; exit(not l())"], cwd=ROOT)
    if can.returncode:
        pytest.skip("this kernel gives a process no network of its own")
    assert "unreachable" in run("no-way-out", node).log


def test_a_folder_that_is_too_large_ends_its_job(node, monkeypatch, settings):
    monkeypatch.setattr(supervise, "SCRATCH_LIMIT", 1)
    settings.HEARTBEAT_S = 0.1
    job = run("sleeps", node)
    assert (job.status, job.code) == (Status.FAILED, "bad-result") and "bytes in its folder" in job.reason


def test_a_node_whose_disk_is_full_or_read_only_takes_no_job_and_says_why(node, settings, tmp_path):
    job = queue("well")
    settings.FREE_DISK_MIB = 10**12
    assert supervise.work(node) == 0 and "MiB of disk are free" in trouble()
    settings.FREE_DISK_MIB = 0
    settings.DATA_DIR = Path("/proc/claimcheck")
    assert supervise.work(node) == 0 and "cannot write" in trouble()
    job.refresh_from_db()
    assert job.status == Status.QUEUED


def test_a_disk_that_fills_while_an_attempt_begins_is_told(node, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(script, "command", full)
    job = run("well", node)
    assert (job.status, job.code) == (Status.FAILED, "disk-full") and "No space left" in job.reason


def test_cancel_reaches_a_child_that_left_the_group(node):
    job = queue("leaves-the-group")
    with InBackground(node):
        group = group_of(job)
        mark = str(job.attempts.get().folder)
        eventually(lambda: len(groups.members(group, mark)) == 2 and len(groups.members(group)) == 1, "it has left")
        services.cancel(job)
    assert not groups.members(group, mark)


def test_cancel_ends_the_whole_group_within_ten_seconds(node):
    job = queue("stubborn")
    with InBackground(node):
        group = group_of(job)
        assert len(groups.members(group)) == 2
        began = time.monotonic()
        services.cancel(job)
    job.refresh_from_db()
    assert (job.status, job.reason) == (Status.CANCELLED, "cancelled while running")
    assert not groups.members(group) and time.monotonic() - began < allowed(10)
    assert "started" in job.log


def test_cancel_of_a_waiting_job_is_at_once(node):
    job = queue("well")
    services.cancel(job)
    job.refresh_from_db()
    assert job.status == Status.CANCELLED
    assert supervise.work(node) == 0


def test_a_stopped_worker_gives_its_job_back(node):
    job = queue("sleeps")
    with InBackground(node):
        group = group_of(job)
        supervise.STOP.set()
    job.refresh_from_db()
    assert (job.status, job.losses) == (Status.QUEUED, 0) and "stopped" in job.reason
    assert not groups.members(group)


def test_progress_and_heartbeat_reach_the_row(node):
    job = queue("progress")
    with InBackground(node):
        eventually(lambda: Job.objects.filter(pk=job.pk, stage="half way", done=1, total=2).exists(), "progress")
        services.cancel(Job.objects.get(pk=job.pk))


def test_a_child_knows_no_secret(node, settings, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "secret")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p@h/d")
    monkeypatch.setenv("REDIS_URL", "redis://h")
    log = run("environment", node).log
    assert not any(name in log for name in ("SECRET", "DATABASE", "REDIS")) and "HF_HUB_OFFLINE" in log


def test_only_a_node_that_fits_takes_a_job(node):
    queue("well", device="cuda")
    Node.objects.filter(pk=node.pk).update(offers=["fails"])
    node.refresh_from_db()
    queue("well")
    assert supervise.work(node) == 0


def test_two_workers_never_take_the_same_job(node):
    jobs = [queue("well") for _ in range(4)]
    taken = []

    def take():
        while job := supervise.take(node):
            taken.append(job.pk)
        connection.close()

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(job.pk for job in jobs)


def test_a_late_writer_loses(node):
    job = queue("well")
    assert change(job.pk, 0, [Status.QUEUED], Status.STARTING)
    assert not change(job.pk, 0, [Status.QUEUED], Status.STARTING)
    assert not change(job.pk, 0, [Status.STARTING], Status.RUNNING)
    assert change(job.pk, 1, [Status.STARTING], Status.RUNNING)
    assert change(job.pk, 1, [Status.RUNNING], Status.FINISHED)
    assert not change(job.pk, 1, [Status.RUNNING], Status.CANCELLED)


def test_a_final_job_never_moves():
    for status in Job.FINAL:
        assert status not in NEXT
        with pytest.raises(KeyError):
            change(1, 1, [status], Status.QUEUED)


def silent(name: str) -> Job:
    job = queue(name)
    change(job.pk, 0, [Status.QUEUED], Status.STARTING)
    change(job.pk, 1, [Status.STARTING], Status.RUNNING, heartbeat_at=timezone.now() - timezone.timedelta(seconds=31))
    return Job.objects.get(pk=job.pk)


def test_a_lost_job_is_queued_again_once_and_fails_the_second_time(node):
    job = silent("well")
    sweep()
    job.refresh_from_db()
    assert (job.status, job.losses) == (Status.QUEUED, 1) and "fell silent" in job.reason
    change(job.pk, job.attempt, [Status.QUEUED], Status.STARTING)
    job.refresh_from_db()
    take_back(job)
    job.refresh_from_db()
    assert (job.status, job.code) == (Status.FAILED, "lost-worker")


def test_a_job_that_no_node_can_run_fails_after_a_day(node):
    wanted, unwanted = queue("well"), queue("well", device="cuda")
    Job.objects.update(queued_at=timezone.now() - timezone.timedelta(hours=25))
    sweep()
    unwanted.refresh_from_db()
    wanted.refresh_from_db()
    assert (unwanted.status, unwanted.code, wanted.status) == (Status.FAILED, "no-node", Status.QUEUED)


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(node):
    job = silent("well")
    services.cancel(job)
    sweep()
    job.refresh_from_db()
    assert job.status == Status.CANCELLED


def test_a_worker_that_lost_its_job_stops_and_writes_nothing(node, monkeypatch):
    monkeypatch.setattr("django.conf.settings.HEARTBEAT_S", 0.2)
    job = queue("sleeps")
    with InBackground(node):
        group = group_of(job)
        job.refresh_from_db()
        take_back(job)
        supervise.STOP.wait(2)
        supervise.STOP.set()
    job.refresh_from_db()
    assert job.status == Status.QUEUED and not groups.members(group)


def test_a_starting_worker_ends_what_an_earlier_one_left(node):
    left = subprocess.Popen(["sleep", "300"], start_new_session=True)
    job = silent("well")
    Attempt.objects.create(
        job=job, number=1, node="node", host=socket.gethostname(), group=left.pid,
        group_started=groups.started_at(left.pid),
    )  # fmt: skip
    end_left_overs("node")
    assert left.wait(allowed(5)) != 0
    job.refresh_from_db()
    assert job.status == Status.QUEUED


def test_a_reused_process_id_is_left_alone(node):
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    assert not groups.end_if_same(other.pid, groups.started_at(other.pid) - 100)
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.fixture
def small_disk(settings, tmp_path):
    """The scratch folder on a disk of 128 KiB."""
    settings.DATA_DIR, settings.FREE_DISK_MIB = tmp_path, 0
    (folder := tmp_path / "scratch").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this account cannot mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_a_run_fills_is_told_though_nothing_can_be_written(node, small_disk):
    job = run("fills-its-disk", node)
    assert (job.status, job.code, job.failure.fault) == (Status.FAILED, "disk-full", "platform")


def test_a_run_that_fails_beside_room_is_its_own_fault(node, small_disk):
    assert run("fails", node).code == "crashed"


def test_the_command_line_ends_in_one_line_where_the_disk_is_full(small_disk):
    words = ["-m", "reproductions", "run", "online-softmax", "--size", "smoke", "--folder", str(small_disk / "run")]
    (small_disk / "run").mkdir()
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: OSError: [Errno 28]"), done.stderr


def test_a_failed_run_on_a_full_disk_is_the_disks_fault_wherever_tests_run(node, monkeypatch):
    """As above, for an account that cannot mount: only the look at the disk is replaced."""
    monkeypatch.setattr(supervise, "is_full", lambda folder: True)
    job = run("fails", node)
    assert (job.status, job.code) == (Status.FAILED, "disk-full")
