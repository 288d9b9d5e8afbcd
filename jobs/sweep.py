"""The sweep: every few seconds it takes back what a lost worker held, and wakes workers for what still waits."""

import logging
import socket
from datetime import timedelta

from django.utils import timezone

from jobs import groups
from jobs.models import Attempt, Job, Node
from jobs.states import change
from jobs.wake import wake

logger = logging.getLogger(__name__)
Status = Job.Status
FORGET_NODES_AFTER = timedelta(days=1)


def sweep() -> None:
    """One round."""
    for job in Job.objects.silent():
        take_back(job)
    for device in Job.objects.waiting().values_list("device", flat=True).distinct().order_by():
        wake(device)
    Node.objects.filter(heartbeat_at__lt=timezone.now() - FORGET_NODES_AFTER).delete()


def take_back(job: Job) -> None:
    """A job whose worker fell silent: cancelled if that was asked for, queued again once, failed the second time."""
    for attempt in Attempt.objects.filter(job=job, number=job.attempt, host=socket.gethostname(), group__isnull=False):
        groups.end_if_same(attempt.group, attempt.group_started)
    if job.cancel_requested_at:
        change(job.pk, job.attempt, Job.ACTIVE, Status.CANCELLED, reason="cancelled; its worker was lost")
    elif job.losses == 0:
        reason = f"its worker fell silent for {job.silent_s} s; queued again"
        change(job.pk, job.attempt, Job.ACTIVE, Status.QUEUED, losses=1, reason=reason)
    else:
        reason = f"its worker fell silent for {job.silent_s} s, the second time"
        change(job.pk, job.attempt, Job.ACTIVE, Status.FAILED, losses=2, code="lost-worker", reason=reason)
    Attempt.objects.filter(job=job, number=job.attempt).update(ended_at=timezone.now())
    logger.warning("job %s taken back after %s s of silence", job.pk, job.silent_s)


def end_left_overs(node_name: str) -> None:
    """Before a worker of this name begins: end what an earlier one of the same name left running on this machine."""
    open_attempts = Attempt.objects.filter(node=node_name, host=socket.gethostname(), ended_at__isnull=True)
    for attempt in open_attempts.select_related("job"):
        if attempt.job.attempt == attempt.number and attempt.job.status in Job.ACTIVE:
            take_back(attempt.job)
        elif attempt.group:
            groups.end_if_same(attempt.group, attempt.group_started)
            Attempt.objects.filter(pk=attempt.pk).update(ended_at=timezone.now())
