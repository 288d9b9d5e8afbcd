"""A small reproduction and runs of it, as a worker leaves them."""

from copy import deepcopy

from catalog.models import Work
from jobs.models import Job
from jobs.states import change
from reproductions import headlines, runs
from reproductions.models import Reproduction, Run

CHECKS = [
    {"claim": "exactness", "metric": {"metric": "Max", "column": "error"}, "at_most": 2.0, "because": "rounding"},
    {"claim": "memory", "metric": {"metric": "Mean", "column": "mb"}, "at_most": 5.0, "label": "at 64"},
    {"claim": "runtime", "metric": {"metric": "Mean", "column": "ms"}, "at_least": 2.4, "needs": "cuda"},
    {"claim": "hbm-traffic", "reason": "needs hardware counters"},
]
PLOT = {"mark": "line", "title": "Error", "x": "n", "y": "error", "color": None, "where": {}, "log": [],
        "x_title": "n", "y_title": "error"}  # fmt: skip
SPEC = {
    "slug": "flashattention",
    "question": "Is it exact?",
    "measurement": "0" * 16,
    "checks": CHECKS,
    "plots": [PLOT, PLOT | {"mark": "bar", "title": "Memory", "y": "mb", "color": "method"}],
    "limits": {"lengths": [1, 64]},
    "sizes": {
        "smoke": {"limit_s": 5, "scale": "reduced", "parameters": {"lengths": [1]}},
        "cpu": {"limit_s": 10, "scale": "reduced", "parameters": {"lengths": [1, 2]}},
        "full": {"limit_s": 10, "scale": "paper", "parameters": {"lengths": [64]}},
    },
}


def reproduction() -> Reproduction:
    work = Work.objects.get(slug="flashattention")
    fingerprints = {"measurement": SPEC["measurement"], "declaration": "d" * 16}
    return Reproduction.objects.create(work=work, question="Is it exact?", spec=deepcopy(SPEC), **fingerprints)


def rows(error: float) -> list[dict]:
    points = [{"n": n, "error": error * n / 2} for n in (1, 2)]
    return points + [{"n": 1, "method": method, "mb": mb} for method in ("a", "b") for mb in (3.0, 3.1, 3.2)]


def run(made: Reproduction, error: float, *, size: str = "cpu", user=None, **fields) -> Run:
    """A finished run, judged by the server."""
    job = Job.objects.create(kind="run", device="cpu", time_limit_s=10, user=user)
    environment = {"device_name": "Test CPU", "cpu": "Test CPU", "torch": "2", "python": "3", "host": "secret"}
    values = {"parameters": made.spec["sizes"][size]["parameters"], "scale": made.spec["sizes"][size]["scale"]}
    values |= {"measurement": made.measurement, "declaration": made.declaration}
    values |= {"environment": environment, "rows": rows(error)}
    values |= {"checks": made.spec["checks"], "seconds": 1.5, "peak_memory_mib": 20}
    found = Run.objects.create(job=job, reproduction=made, size=size, device="cpu", **values | fields)
    change(job.pk, 0, [Job.Status.QUEUED], Job.Status.STARTING)
    change(job.pk, 1, [Job.Status.STARTING], Job.Status.RUNNING)
    change(job.pk, 1, [Job.Status.RUNNING], Job.Status.FINISHED)
    runs.judge(found)
    headlines.refresh(made)
    return Run.objects.select_related("job__user", "reproduction__work").get(pk=found.pk)
