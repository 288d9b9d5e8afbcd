"""What a worker does: take the next job that fits, watch its child, and store how it ended.

Not in charge of what a job means: that is its kind's module (settings.JOB_KINDS), which has
`command(job, folder)`: arguments for Python; `store(job, folder, finished)`: keeps what the child left, with the
final status in one transaction; `stored(job)`: what follows from a stored result. A kind for the device `control` says
`OWN_CODE = True` if its child is Claimcheck itself and so gets the whole environment, database address included;
`about(job)`, (title, address) of what the page /jobs/N/ is about; and, where a form starts it, `TIME_LIMIT_S` and
`asked(user, form)`: the job's arguments, or PermissionDenied or Http404.
"""

import contextlib
import json
import logging
import shutil
import threading
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import psutil
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from jobs import groups
from jobs.models import Attempt, Job, LogChunk, Node
from jobs.sandbox import Child, environment, own_environment
from jobs.states import change

logger = logging.getLogger(__name__)
Status = Job.Status
STOP = threading.Event()  # set when the worker was asked to stop
POLL_S = 0.5
LOG_LIMIT = 1_000_000  # characters of log kept a job
MEMORY_SHARE = 0.85  # of the machine's memory, for all processes of a job together


class Ended(Exception):
    """The attempt is over: `to` is its status, or None when the job is no longer this worker's."""

    def __init__(self, to: str | None, code: str = "", reason: str = ""):
        super().__init__(reason)
        self.to, self.code, self.reason = to, code, reason


class BadResult(Exception):
    """A kind's `store` cannot read what the child left."""


def kind_of(job: Job) -> ModuleType:
    """The module that knows what this kind of job means."""
    return kind_named(job.kind)


def kind_named(kind: str) -> ModuleType:
    """The module of a kind; KeyError if there is none."""
    return import_module(settings.JOB_KINDS[kind])


def work(node: Node) -> int:
    """Run jobs until none fits this node; returns how many."""
    count = 0
    while not STOP.is_set() and (job := take(node)):
        _attempt(job, node)
        count += 1
    return count


def take(node: Node) -> Job | None:
    """Claim the next job that this node can run. Whoever changes the row has it."""
    if Node.objects.filter(pk=node.pk, draining=True).exists():
        return None
    for job in Job.objects.waiting(node.device):
        if not node.can_run(job.requires):
            continue
        if change(job.pk, job.attempt, [Status.QUEUED], Status.STARTING):
            job.refresh_from_db()
            return job
    return None


def _attempt(job: Job, node: Node) -> None:
    """One try, whatever happens: the scratch folder goes, the group is ended, the row gets its final status."""
    folder = settings.DATA_DIR / "scratch" / f"{job.pk}-{job.attempt}"
    attempt = Attempt(job=job, number=job.attempt, node=node.name, host=node.host)
    child = None
    try:
        attempt.save()
        folder.mkdir(parents=True)
        kind = kind_of(job)
        env = own_environment() if getattr(kind, "OWN_CODE", False) else environment(node.device, node.device_uuid)
        child = Child(kind.command(job, folder), folder, env)
        Attempt.objects.filter(pk=attempt.pk).update(group=child.group, group_started=child.group_started)
        _watch(job, child)
    except Ended as end:
        _finish(job, child, folder, end)
    except OSError as error:
        code = "disk-full" if error.errno == 28 else "internal"
        _finish(job, child, folder, Ended(Status.FAILED, code, str(error)))
    except Exception as error:
        logger.exception("job %s failed inside the worker", job.pk)
        _finish(job, child, folder, Ended(Status.FAILED, "internal", f"{type(error).__name__}: {error}"))
    finally:
        if child:
            child.end()
        Attempt.objects.filter(job=job, number=job.attempt).update(ended_at=timezone.now())
        shutil.rmtree(folder, ignore_errors=True)


def _watch(job: Job, child: Child) -> None:
    """Follow the child to its end, by itself or by ours; always leaves through `Ended`."""
    if not change(job.pk, job.attempt, [Status.STARTING], Status.RUNNING):
        raise Ended(None)
    log = _Log(job, child)
    began = spoke = time.monotonic()
    progress = None
    try:
        while (code := child.wait(POLL_S)) is None:
            log.store()
            progress = _store_progress(job, child.folder, progress)
            if time.monotonic() - spoke > settings.HEARTBEAT_S:
                spoke = time.monotonic()
                _heartbeat(job, child)
            _check_wishes(job)
            if time.monotonic() - began > job.time_limit_s:
                raise Ended(Status.FAILED, "timeout", f"stopped after {job.time_limit_s} s, its time limit")
        _store_progress(job, child.folder, progress)
        raise _how_it_ended(code, child.folder)
    except Ended:
        child.end()
        raise
    finally:
        log.store_all()


def _heartbeat(job: Job, child: Child) -> None:
    if groups.resident_bytes(child.group) > (limit := MEMORY_SHARE * psutil.virtual_memory().total):
        raise Ended(Status.FAILED, "out-of-memory", f"stopped above {limit / 2**30:.1f} GiB of resident memory")
    mine = Job.objects.active().filter(pk=job.pk, attempt=job.attempt)
    if not mine.update(heartbeat_at=timezone.now()):
        raise Ended(None)


def _check_wishes(job: Job) -> None:
    if STOP.is_set():
        raise Ended(Status.QUEUED, reason="its worker was stopped; queued again")
    if Job.objects.filter(pk=job.pk, cancel_requested_at__isnull=False).exists():
        raise Ended(Status.CANCELLED, reason="cancelled while running")


def _how_it_ended(code: int, folder: Path) -> Ended:
    """The verdict on a process that ended by itself."""
    if code == 0:
        return Ended(Status.FINISHED)
    with contextlib.suppress(OSError, ValueError, KeyError):
        failure = json.loads((folder / "failure.json").read_text())
        return Ended(Status.FAILED, failure["code"], failure["message"])
    if code < 0:
        return Ended(Status.FAILED, "crashed", f"its process was killed by signal {-code}")
    if code == 2:
        return Ended(Status.FAILED, "bad-parameters", "it refused its parameters; see the log")
    return Ended(Status.FAILED, "crashed", f"its process ended with exit code {code}; see the log")


def _finish(job: Job, child: Child | None, folder: Path, end: Ended) -> None:
    """Store what the child left and the final status together, or neither."""
    if child:
        child.end()
    if end.to is None:
        logger.info("job %s is no longer this worker's", job.pk)
        return
    held = [Status.RUNNING] if end.to == Status.FINISHED else Job.ACTIVE
    try:
        with transaction.atomic():
            if end.to != Status.QUEUED:
                kind_of(job).store(job, folder, finished=end.to == Status.FINISHED)
            if not change(job.pk, job.attempt, held, end.to, code=end.code, reason=end.reason):
                transaction.set_rollback(True)
            elif end.to == Status.FINISHED:
                kind_of(job).stored(job)
    except BadResult as error:
        change(job.pk, job.attempt, Job.ACTIVE, Status.FAILED, code="bad-result", reason=str(error))
    except Exception as error:
        logger.exception("job %s: its result could not be stored", job.pk)
        change(
            job.pk, job.attempt, Job.ACTIVE, Status.FAILED, code="internal", reason=f"{type(error).__name__}: {error}"
        )
    logger.info("job %s: %s %s", job.pk, end.to, end.reason)


def _store_progress(job: Job, folder: Path, before: dict | None) -> dict | None:
    try:
        now = json.loads((folder / "progress.json").read_text())
    except (OSError, ValueError):
        return before
    if now != before:
        mine = Job.objects.filter(pk=job.pk, attempt=job.attempt)
        mine.update(stage=str(now["stage"])[:120], done=now["done"], total=now["total"])
    return now


class _Log:
    """Carries a child's log into the database, up to a limit."""

    def __init__(self, job: Job, child: Child):
        self.job, self.child, self.sequence, self.length = job, child, 0, 0

    def store(self) -> bool:
        """Store the next piece; False if there was none."""
        text = self.child.new_log()
        if not text:
            return False
        if self.length < LOG_LIMIT:
            self.length += len(text)
            if self.length >= LOG_LIMIT:
                text += f"\n… the log is cut here: more than {LOG_LIMIT:,} characters\n"
            LogChunk.objects.create(job=self.job, attempt=self.job.attempt, sequence=self.sequence, text=text)
            self.sequence += 1
        return True

    def store_all(self) -> None:
        """Store all that is left."""
        while self.store():
            pass
