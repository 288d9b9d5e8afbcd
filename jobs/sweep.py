"""The sweep: every few seconds it takes back what a lost worker held, and wakes workers for what still waits."""

import logging
import socket
import time
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from config import clock, logs
from jobs import groups
from jobs.models import Attempt, Job, Node, Pulse
from jobs.states import change, fence
from jobs.supervise import kind_of
from jobs.wake import wake

logger = logging.getLogger(__name__)
Status = Job.Status
FORGET_NODES_AFTER = timedelta(days=1)


def keep_sweeping() -> None:
    """Sweep every few seconds; runs in a thread for as long as its process.

    A clock that jumps, or a machine that slept, makes everybody look silent: then all get the time to speak again.
    """
    calm_until, before = 0.0, None
    while True:
        try:
            seen = clock.now().timestamp() - time.monotonic()
            if before is not None and abs(seen - before) > settings.LOST_AFTER_S / 2:
                logger.warning("the database's clock jumped by %.0f s: nobody is taken for lost now", seen - before)
                calm_until = time.monotonic() + settings.LOST_AFTER_S
            before = seen
            sweep(judging=time.monotonic() >= calm_until)
        except Exception as error:  # the database may be away for a while; the sweep goes on
            logger.warning("the sweep failed: %s: %s", type(error).__name__, error)
            connection.close()
        time.sleep(settings.SWEEP_S)


def sweep(*, judging: bool = True) -> None:
    """One round; without `judging` nobody is taken for lost, and nothing for unwanted."""
    if judging:
        for job in Job.objects.silent():
            with logs.known(job=job.pk):
                take_back(job)
        _give_up_unwanted()
        Node.objects.filter(heartbeat_at__lt=clock.now() - FORGET_NODES_AFTER).delete()
    _follow_versions()
    for device in Job.objects.filter(status=Status.QUEUED).values_list("device", flat=True).distinct().order_by():
        wake(device)
    Pulse.objects.update_or_create(name="sweep", defaults={"at": clock.now()})
    _keep_up()


def _keep_up() -> None:
    """Let each app remove what is too old; what fails there must not keep jobs from being swept."""
    for name in settings.UPKEEP:
        try:
            import_string(name)()
        except Exception:
            logger.exception("%s failed", name)


def take_back(job: Job) -> None:
    """A job whose worker fell silent: cancelled if that was asked for, queued again once, failed the second time.

    The worker is shut out first, then its processes are ended, and only then can another worker take the job.
    """
    silence = job.silent_s
    if not fence(job):
        return
    _end_attempts(Attempt.objects.filter(job=job))
    to, fields = _after_a_loss(job, silence)
    if change(job.pk, job.attempt, Job.ACTIVE, to, **fields):
        logger.warning("job %s: %s, %s", job.pk, to, fields["reason"])
    else:
        logger.warning("job %s: not taken back after %s s of silence: another process did", job.pk, silence)


def _after_a_loss(job: Job, silence: int) -> tuple[str, dict]:
    """The status that follows, and what is stored with it."""
    if job.cancel_requested_at:
        return Status.CANCELLED, {"reason": "cancelled; its worker was lost"}
    if job.losses == 0:
        return Status.QUEUED, {"reason": f"its worker fell silent for {silence} s; queued again", "losses": 1}
    reason = f"its worker fell silent for {silence} s, the second time"
    return Status.FAILED, {"reason": reason, "losses": 2, "code": "lost-worker"}


def _follow_versions() -> None:
    """What waits for a version that there is no more follows the present one, or ends with the reason."""
    for job in Job.objects.filter(status=Status.QUEUED, kind__in=settings.JOB_KINDS).exclude(requires=""):
        follow = getattr(kind_of(job), "follow", None)
        try:
            code, reason = "changed-work", follow(job) if follow else ""
        except Exception as error:  # one broken job holds up nobody else's
            logger.exception("job %s cannot follow the present version", job.pk, extra={"job": job.pk})
            code, reason = "internal", f"{type(error).__name__}: {error}"
        if reason:
            change(job.pk, job.attempt, [Status.QUEUED], Status.FAILED, code=code, reason=reason)


def _give_up_unwanted() -> None:
    """A job that has waited for a day, and that no live node can run, fails with that reason."""
    long_ago = clock.now() - timedelta(hours=settings.UNWANTED_AFTER_H)
    nodes = list(Node.objects.live())
    for job in Job.objects.filter(status=Status.QUEUED, queued_at__lt=long_ago):
        if not any(node.can_run(job) for node in nodes):
            reason = f"no node that could run it was there for {settings.UNWANTED_AFTER_H} hours"
            change(job.pk, job.attempt, [Status.QUEUED], Status.FAILED, code="no-node", reason=reason)


def _end_attempts(attempts: QuerySet[Attempt]) -> None:
    """End what open attempts left on this machine; those of another machine died with their worker, or lose."""
    for attempt in attempts.filter(ended_at__isnull=True):
        if attempt.group and attempt.host == socket.gethostname():
            groups.end_if_same(attempt.group, attempt.group_started, str(attempt.folder))
        Attempt.objects.filter(pk=attempt.pk).update(ended_at=clock.now())


def end_left_overs(node_name: str) -> None:
    """Before a worker of this name begins: take back what an earlier one of the same name held on this machine."""
    left = Attempt.objects.filter(node=node_name, host=socket.gethostname(), ended_at__isnull=True)
    for attempt in left.select_related("job"):
        if attempt.job.attempt == attempt.number:
            take_back(attempt.job)
    _end_attempts(left)
