"""The one function that changes a job's status, and the fence that shuts out a worker taken for lost."""

from collections.abc import Sequence
from typing import Any

from django.db.models import F

from config import clock
from jobs.models import Job

Status = Job.Status
NEXT = {
    Status.QUEUED: {Status.STARTING, Status.CANCELLED, Status.FAILED},
    Status.STARTING: {Status.RUNNING, Status.QUEUED, Status.FAILED, Status.CANCELLED},
    Status.RUNNING: {Status.FINISHED, Status.QUEUED, Status.FAILED, Status.CANCELLED},
}


def change(pk: int, attempt: int, from_: Sequence[str], to: str, **fields: Any) -> bool:
    """Move a job from one of `from_` to `to`, if that attempt still holds it; False if somebody else was first.

    One conditional update, so late and doubled writers lose. Taking a job (`to` = starting) opens the next attempt.
    """
    for status in from_:
        if to not in NEXT[Status(status)]:
            raise ValueError(f"a job never goes from {status} to {to}")
    now = clock.now()
    if to == Status.STARTING:
        fields |= {"attempt": F("attempt") + 1, "started_at": now, "heartbeat_at": now, "code": "", "reason": ""}
        fields |= {"stage": "", "done": 0, "total": 0}
    elif to == Status.QUEUED:
        fields |= {"started_at": None, "heartbeat_at": None}
    elif to in Job.FINAL:
        fields["ended_at"] = now
    return Job.objects.filter(pk=pk, attempt=attempt, status__in=from_).update(status=to, **fields) == 1


def fence(job: Job) -> bool:
    """Take an active job from the attempt that holds it, so that its late writes lose; False if it is not active."""
    taken = Job.objects.active().filter(pk=job.pk, attempt=job.attempt).update(attempt=F("attempt") + 1)
    job.refresh_from_db()
    return taken == 1
