"""What people ask of jobs: queue one, cancel one."""

from collections.abc import Sequence

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from jobs.models import Job
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
) -> Job:
    """A new queued job; workers are woken once the row is really there."""
    if kind not in settings.JOB_KINDS:
        raise ValueError(f"kind: expected one of {sorted(settings.JOB_KINDS)}, got {kind!r}")
    job = Job.objects.create(
        kind=kind, device=device, requires=requires, arguments=list(arguments), time_limit_s=time_limit_s, user=user
    )
    transaction.on_commit(lambda: wake(device))
    return job


def enqueue_once(*, kind: str, device: str, time_limit_s: int, user: User | None, arguments: Sequence[str]) -> Job:
    """The waiting or running job that does the same already, or a new one."""
    same = Job.objects.filter(kind=kind, arguments=list(arguments), cancel_requested_at=None)
    found = same.exclude(status__in=Job.FINAL).first()
    return found or enqueue(kind=kind, device=device, time_limit_s=time_limit_s, user=user, arguments=arguments)


def cancel(job: Job) -> None:
    """A queued job is cancelled at once; a running one when its processes are gone, within seconds."""
    if change(job.pk, job.attempt, [Status.QUEUED], Status.CANCELLED, reason="cancelled while it waited"):
        return
    Job.objects.active().filter(pk=job.pk).update(cancel_requested_at=timezone.now())
