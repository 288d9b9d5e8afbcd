"""What a worker does: take the next job that fits, watch its child, and store how it ended.

Not in charge of what a job means: that is its kind's module (settings.JOB_KINDS), which has
`command(job, folder)`: arguments for Python; `store(job, folder, finished)`: keeps what the child left, with the
final status in one transaction; `stored(job)`: what follows from a stored result. One whose jobs need a version of
something has `follow(job)`: brings a waiting job to the present version, or says why it cannot be. A kind for the
device `control` says `OWN_CODE = True` if its child is Claimcheck itself and so gets the whole environment, database
address included;
`about(job, mine)`, (title, address) of what the page /jobs/N/ is about; and, where a form starts it, `TIME_LIMIT_S` and
`asked(user, form)`: the job's arguments, or PermissionDenied or Http404.
"""

import contextlib
import json
import logging
import shutil
import signal
import threading
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import psutil
from django.conf import settings
from django.db import transaction

from config import clock, logs
from jobs import groups
from jobs.disk import DISK_ERRORS, is_full, trouble
from jobs.models import Attempt, Job, LogChunk, Node
from jobs.sandbox import Child, environment, memory_limit, own_environment
from jobs.states import change

logger = logging.getLogger(__name__)
Status = Job.Status
STOP = threading.Event()  # set when the worker was asked to stop
POLL_S = 0.5
LOG_LIMIT, LOG_TAIL = 500_000, 50_000  # characters of log kept of a job's beginning and of its end
SCRATCH_LIMIT = 8 * 2**30  # bytes a job may leave in its folder while it runs
FAIR_SHARE = 0.5  # of one core's time: a child that got less by its time limit was held up by its node
SCARCE = 0.03  # of the machine's memory: with less available, a job is ended before the machine suffers


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
        with logs.known(job=job.pk, node=node.name):
            _attempt(job, node)
        count += 1
    return count


def take(node: Node) -> Job | None:
    """Claim the next job that this node can run. Whoever changes the row has it."""
    if trouble() or Node.objects.filter(pk=node.pk, draining=True).exists():
        return None
    for job in Job.objects.waiting(node.device):
        if not node.can_run(job):
            continue
        if change(job.pk, job.attempt, [Status.QUEUED], Status.STARTING, time_factor=node.time_factor):
            job.refresh_from_db()
            if node.can_run(job):
                return job
            change(job.pk, job.attempt, [Status.STARTING], Status.QUEUED)  # it has followed another version meanwhile
    return None


def _attempt(job: Job, node: Node) -> None:
    """One try, whatever happens: the scratch folder goes, the group is ended, the row gets its final status."""
    attempt = Attempt(job=job, number=job.attempt, node=node.name, host=node.host)
    folder = attempt.folder
    child = None
    logger.info("job %s: attempt %s", job.pk, job.attempt)
    try:
        attempt.save()
        folder.mkdir(parents=True)
        kind, mark = kind_of(job), str(folder)
        own = getattr(kind, "OWN_CODE", False)
        env = own_environment(mark) if own else environment(node.device, node.device_uuid, mark, job.download)
        child = Child(kind.command(job, folder), folder, env, offline=not (own or job.download))
        Attempt.objects.filter(pk=attempt.pk).update(group=child.group, group_started=child.group_started)
        _watch(job, child)
    except Ended as end:
        _finish(job, child, folder, end)
    except OSError as error:
        code = "disk-full" if error.errno in DISK_ERRORS else "internal"
        _finish(job, child, folder, Ended(Status.FAILED, code, str(error)))
    except Exception as error:
        logger.exception("job %s: an error in the worker itself", job.pk)
        _finish(job, child, folder, Ended(Status.FAILED, "internal", f"{type(error).__name__}: {error}"))
    finally:
        if child:
            child.end()
        Attempt.objects.filter(job=job, number=job.attempt).update(ended_at=clock.now())
        shutil.rmtree(folder, ignore_errors=True)


def _watch(job: Job, child: Child) -> None:
    """Follow the child to its end, by itself or by ours; always leaves through `Ended`."""
    if not change(job.pk, job.attempt, [Status.STARTING], Status.RUNNING):
        raise Ended(None)
    log, kills = _Log(job, child), oom_kills()
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
            _check_limits(child)
            if (seconds := time.monotonic() - began) > job.limit_s:
                raise _past_its_limit(job, child.cpu_seconds() / seconds)
        _store_progress(job, child.folder, progress)
        raise _how_it_ended(code, child.folder, oom_kills() > kills)
    except Ended:
        child.end()
        raise
    finally:
        log.store_all()


def _heartbeat(job: Job, child: Child) -> None:
    mine = Job.objects.active().filter(pk=job.pk, attempt=job.attempt)
    if not mine.update(heartbeat_at=clock.now()):
        raise Ended(None)
    if (size := groups.bytes_below(child.folder)) > SCRATCH_LIMIT:
        raise Ended(Status.FAILED, "bad-result", f"stopped with {size:,} bytes in its folder, above {SCRATCH_LIMIT:,}")


def _check_limits(child: Child) -> None:
    """Memory is looked at often: it can be gone within seconds."""
    if groups.resident_bytes(child.group) > (limit := memory_limit()):
        raise Ended(Status.FAILED, "out-of-memory", f"stopped above {limit / 2**30:.1f} GiB of resident memory")
    memory = psutil.virtual_memory()
    if memory.available < SCARCE * memory.total:
        left = f"{memory.available / 2**20:.0f} MiB"
        raise Ended(Status.FAILED, "out-of-memory", f"stopped since the machine had only {left} of memory left")


def _past_its_limit(job: Job, share: float) -> Ended:
    """The end of a child at its time limit, which is its own fault only if it had a core to work on."""
    reason = f"stopped after {job.limit_s:.0f} s, its time limit"
    if job.time_factor != 1:
        reason += f" ({job.time_limit_s} s, times {job.time_factor:g} on this node)"
    if share < FAIR_SHARE:
        return Ended(Status.FAILED, "too-little-cpu", f"{reason}, with {share:.0%} of one core's time")
    return Ended(Status.FAILED, "timeout", reason)


def _check_wishes(job: Job) -> None:
    if STOP.is_set():
        raise Ended(Status.QUEUED, reason="its worker was stopped; queued again")
    if Job.objects.filter(pk=job.pk, cancel_requested_at__isnull=False).exists():
        raise Ended(Status.CANCELLED, reason="cancelled while running")


def oom_kills() -> int:
    """How many processes the kernel of this machine has ended for want of memory, since it started."""
    try:
        words = Path("/proc/vmstat").read_text().split()
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError):
        return 0


def _how_it_ended(code: int, folder: Path, out_of_memory: bool) -> Ended:
    """The verdict on a process that ended by itself."""
    if code == 0:
        return Ended(Status.FINISHED)
    with contextlib.suppress(OSError, ValueError, KeyError):
        failure = json.loads((folder / "failure.json").read_text())
        return Ended(Status.FAILED, failure["code"], failure["message"])
    if code > 0 and is_full(folder):  # so it could not say why
        return Ended(Status.FAILED, "disk-full", "the disk of its folder is full")
    if code == -signal.SIGKILL and out_of_memory:
        return Ended(Status.FAILED, "out-of-memory", "the kernel ended it for want of memory")
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
    try:
        changed = _store(job, folder, end)
    except BadResult as error:
        end = Ended(Status.FAILED, "bad-result", str(error))
        changed = _change_to(job, end)
    except Exception as error:
        logger.exception("job %s: its result could not be stored", job.pk)
        end = Ended(Status.FAILED, "internal", f"{type(error).__name__}: {error}")
        changed = _change_to(job, end)
    if changed:
        logger.info("job %s: %s %s", job.pk, end.to, end.reason)
    else:
        logger.warning("job %s: not %s: it is no longer this worker's, nothing was stored", job.pk, end.to)


def _store(job: Job, folder: Path, end: Ended) -> bool:
    """In one transaction; False, and nothing is stored, if the job is no longer this worker's."""
    with transaction.atomic():
        if end.to != Status.QUEUED:
            kind_of(job).store(job, folder, finished=end.to == Status.FINISHED)
        changed = _change_to(job, end)
        if not changed:
            transaction.set_rollback(True)
        elif end.to == Status.FINISHED:
            kind_of(job).stored(job)
    return changed


def _change_to(job: Job, end: Ended) -> bool:
    held = [Status.RUNNING] if end.to == Status.FINISHED else Job.ACTIVE
    assert end.to
    return change(job.pk, job.attempt, held, end.to, code=end.code, reason=end.reason)


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
    """Carries a child's log into the database: its beginning as it comes, and past a limit its last words."""

    def __init__(self, job: Job, child: Child):
        self.job, self.child, self.sequence, self.room, self.tail = job, child, 0, LOG_LIMIT, ""

    def store(self) -> bool:
        """Store the next piece; False if there was none."""
        if not (text := self.child.new_log()):
            return False
        if self.room:
            self._write(text[: self.room])
            text, self.room = text[self.room :], max(0, self.room - len(text))
            if not self.room:
                self._write(f"\n… the log is cut here, after {LOG_LIMIT:,} characters; its last follow when it ends\n")
        self.tail = (self.tail + text)[-LOG_TAIL:]
        return True

    def store_all(self) -> None:
        """Store all that is left."""
        while self.store():
            pass
        if not self.room and self.tail:
            self._write(self.tail)

    def _write(self, text: str) -> None:
        LogChunk.objects.create(job=self.job, attempt=self.job.attempt, sequence=self.sequence, text=text)
        self.sequence += 1
