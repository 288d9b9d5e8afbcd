"""What Prometheus reads at /metrics: the installation from its database, so every web process says the same."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Min
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from config import clock
from config.version import commit, version
from jobs import health
from jobs.failures import FAILURES
from jobs.models import Job, Node, Pulse

DEVICES = ("cpu", "cuda", "control")
NODE_STATES = ("able", "draining", "trouble", "silent")
Status = Job.Status


class Installation(Collector):
    """Asks the database when it is read: a handful of queries, however many runs there are."""

    def collect(self) -> Iterator[Metric]:
        """Every figure; those of the database only while it answers."""
        yield from _this_process()
        try:
            now = clock.now()
            figures = [*_queue(now), _ended(), _nodes(), *_sweep(now)]
        except DatabaseError:
            figures = []
        yield GaugeMetricFamily("claimcheck_database_up", "Whether the database answers.", value=bool(figures))
        yield from figures


def _gauge(name: str, text: str, labels: Iterable[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _this_process() -> Iterator[Metric]:
    build = {(version(), commit()): 1}
    yield _gauge("claimcheck_build_info", "Which Claimcheck this is.", ("version", "commit"), build)
    yield GaugeMetricFamily("claimcheck_redis_up", "Whether Redis answers.", value=health.redis_part().ok)
    usage = {(name,): shutil.disk_usage(path) for name, path in (("data", settings.DATA_DIR), ("root", "/"))}
    free, size = ({key: getattr(of, part) for key, of in usage.items()} for part in ("free", "total"))
    about = "of the disk that DATA_DIR (data) or / (root) is on, on the web server's machine."
    yield _gauge("claimcheck_disk_free_bytes", f"Free bytes {about}", ["disk"], free)
    yield _gauge("claimcheck_disk_size_bytes", f"All bytes {about}", ["disk"], size)


def _queue(now: datetime) -> Iterator[Metric]:
    counts = {(device, str(status)): 0 for device in DEVICES for status in (Status.QUEUED, *Job.ACTIVE)}
    ages = {(device,): 0.0 for device in DEVICES}
    open_jobs = Job.objects.filter(status__in=[Status.QUEUED, *Job.ACTIVE]).order_by()
    for row in open_jobs.values("device", "status").annotate(n=Count("pk"), oldest=Min("queued_at")):
        counts[row["device"], row["status"]] = row["n"]
        if row["status"] == Status.QUEUED:
            ages[(row["device"],)] = max(0.0, (now - row["oldest"]).total_seconds())
    yield _gauge("claimcheck_jobs", "Jobs that have not ended.", ("device", "status"), counts)
    text = "Since when the longest waiting job waits; 0 while none does."
    yield _gauge("claimcheck_queue_oldest_age_seconds", text, ["device"], ages)


def _ended() -> Metric:
    """Jobs by how they ended, each possible end from the start, so that the first one counts as an increase."""
    ends = [(str(Status.FINISHED), ""), (str(Status.CANCELLED), ""), *((str(Status.FAILED), code) for code in FAILURES)]
    counts = {(kind, *end): 0 for kind in settings.JOB_KINDS for end in ends}
    ours = Job.objects.filter(status__in=Job.FINAL, kind__in=settings.JOB_KINDS).order_by()  # records ran elsewhere
    counts |= {tuple(key): n for *key, n in ours.values_list("kind", "status", "code").annotate(n=Count("pk"))}
    family = CounterMetricFamily(
        "claimcheck_jobs_ended", "Jobs that ended, and how.", labels=["kind", "status", "code", "fault"]
    )
    for (kind, status, code), n in counts.items():
        family.add_metric([kind, status, code, FAILURES[code].fault if code in FAILURES else ""], n)
    return family


def _nodes() -> Metric:
    live = set(Node.objects.live().values_list("pk", flat=True))
    counts = Counter({(device, state): 0 for device in DEVICES for state in NODE_STATES})
    for pk, device, trouble, draining in Node.objects.values_list("pk", "device", "trouble", "draining"):
        state = "silent" if pk not in live else "trouble" if trouble else "draining" if draining else "able"
        counts[device, state] += 1
    return _gauge("claimcheck_nodes", "Workers heard in the last day.", ("device", "state"), counts)


def _sweep(now: datetime) -> Iterator[Metric]:
    """Nothing before the first sweep: an alert asks for its absence."""
    if swept := Pulse.objects.filter(name="sweep").first():
        age = max(0.0, (now - swept.at).total_seconds())
        yield GaugeMetricFamily("claimcheck_sweep_age_seconds", "Since when no sweep was seen.", value=age)
