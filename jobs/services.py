"""What people ask of jobs: queue one, cancel one."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from config import clock, quota
from jobs.failures import FAILURES
from jobs.models import Job, Node
from jobs.states import change
from jobs.wake import wake

Status = Job.Status


def enqueue(
    *,
    kind: str,
    device: str,
    requires: str = "",
    time_limit_s: int,
    user: User | None,
    arguments: Sequence[str] = (),
    needs: dict[str, Any] | None = None,
) -> Job:
    """A new queued job; workers are woken once the row is really there.

    `needs` may hold memory_gib, capability and download, as `Job` explains them.
    """
    if kind not in settings.JOB_KINDS:
        raise ValueError(f"kind: expected one of {sorted(settings.JOB_KINDS)}, got {kind!r}")
    fields = {"kind": kind, "device": device, "requires": requires, "time_limit_s": time_limit_s} | (needs or {})
    job = Job.objects.create(**fields, arguments=list(arguments), user=user)
    transaction.on_commit(lambda: wake(device))
    return job


def enqueue_once(*, kind: str, device: str, time_limit_s: int, user: User | None, arguments: Sequence[str]) -> Job:
    """The waiting or running job that does the same already, or a new one.

    quota.Full if its user has as many waiting, or has asked for as many in a day, as one may.
    """
    same = Job.objects.filter(kind=kind, arguments=list(arguments), cancel_requested_at=None)
    with quota.held(user) if user else transaction.atomic():
        if found := same.exclude(status__in=Job.FINAL).first():
            return found
        if user:
            waiting = Job.objects.filter(user=user, device=device, status=Status.QUEUED).count()
            quota.check(waiting, settings.WAITING_JOBS_PER_USER, "jobs waiting", "cancel some, or wait")
            quota.check(charged(user), settings.RUNS_PER_USER_A_DAY, "jobs within 24 hours", "wait for tomorrow")
        return enqueue(kind=kind, device=device, time_limit_s=time_limit_s, user=user, arguments=arguments)


def why_no_node(job: Job) -> str:
    """Why no live node could ever run this job (which need not be stored), in words; empty if one could."""
    live = list(Node.objects.live().filter(device=job.device))
    if not live or any(node.can_run(job) for node in live):
        return ""
    return "; ".join(f"{node.name}: {node.misses(job)}" for node in live)


def charged(user: User, hours: int = 24) -> int:
    """How many jobs of a user count for the last hours: not those that failed by the platform's fault."""
    return Job.objects.filter(charges(hours), user=user).count()


def charges(hours: int = 24) -> Q:
    """Jobs of the last hours that count, whoever asked for them."""
    ours = [code for code, failure in FAILURES.items() if failure.fault == "platform"]
    return Q(queued_at__gte=clock.now() - timedelta(hours=hours)) & ~Q(status=Status.FAILED, code__in=ours)


def cancel(job: Job) -> None:
    """A queued job is cancelled at once; a running one when its processes are gone, within seconds."""
    if change(job.pk, job.attempt, [Status.QUEUED], Status.CANCELLED, reason="cancelled while it waited"):
        return
    Job.objects.active().filter(pk=job.pk).update(cancel_requested_at=clock.now())
