"""Who is next, and how long until then. Fair by turns: each user's first job comes before anybody's second."""

from heapq import heapify, heappop, heappush
from statistics import median

from config import clock
from jobs.models import Job, Node

RECENT = 20  # finished jobs that a duration is taken from


def position(job: Job) -> int:
    """How many waiting jobs for the same device kind come before it."""
    order = list(Job.objects.waiting(job.device).values_list("pk", flat=True))
    return order.index(job.pk) if job.pk in order else 0


def expected_s(job: Job, factor: float) -> float:
    """How long a job of this kind takes on a node that multiplies time limits by `factor`: the median of the last that
    finished with the same limit, each on a node of its own factor, or half the limit.
    """
    alike = Job.objects.filter(
        kind=job.kind, requires=job.requires, time_limit_s=job.time_limit_s, device=job.device, status="finished"
    ).order_by("-ended_at")[:RECENT]
    durations = [
        (one.ended_at - one.started_at).total_seconds() / one.time_factor
        for one in alike
        if one.started_at and one.ended_at
    ]
    return factor * (median(durations) if durations else job.time_limit_s / 2)


def waiting_s(job: Job) -> float | None:
    """Seconds until a waiting job probably starts, over the nodes that could run it; None if no node could now."""
    nodes = [n for n in Node.objects.live().filter(device=job.device, draining=False, trouble="") if n.can_run(job)]
    if not nodes:
        return None
    now = clock.now()
    free = [(0.0, node.time_factor) for node in nodes]  # when each is, and how slow it is
    for i, active in enumerate(Job.objects.active().filter(device=job.device)[: len(nodes)]):
        began = active.started_at or now
        left = expected_s(active, active.time_factor) - (now - began).total_seconds()
        free[i] = (max(0.0, left), free[i][1])
    heapify(free)
    order = list(Job.objects.waiting(job.device))
    for before in order[: position(job)]:
        at, factor = heappop(free)
        heappush(free, (at + expected_s(before, factor), factor))
    return free[0][0]
