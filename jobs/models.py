"""Jobs and the nodes that run them. The row is the truth and the queue; Celery messages only wake workers."""

from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models.functions import Coalesce, RowNumber

from config import clock
from jobs.failures import FAILURES, Failure


def _lately() -> tuple[datetime, datetime]:
    """Between which times a heartbeat tells of life; a later one was written before the clock was put back."""
    now, silence = clock.now(), timedelta(seconds=settings.LOST_AFTER_S)
    return now - silence, now + silence


class JobQuerySet(models.QuerySet):
    """Jobs by where they are in their life."""

    def waiting(self, device: str) -> "JobQuerySet":
        """Queued jobs for a kind of device, the next one first.

        By turns: a job's turn is its place among its user's waiting jobs, after those that run for that user now. So
        one job does not stand behind somebody's fifty.
        """
        running = Job.objects.active().filter(device=device, user=models.OuterRef("user")).order_by()
        busy = models.Subquery(running.values("user").annotate(n=models.Count("pk")).values("n"))
        place = models.Window(RowNumber(), partition_by="user", order_by=["queued_at", "pk"])
        waiting = self.filter(status=Job.Status.QUEUED, device=device)
        return waiting.annotate(turn=place + Coalesce(busy, 0)).order_by("turn", "queued_at", "pk")

    def active(self) -> "JobQuerySet":
        """Jobs that a worker holds."""
        return self.filter(status__in=Job.ACTIVE)

    def silent(self) -> "JobQuerySet":
        """Active jobs that no worker has spoken for since too long."""
        return self.active().exclude(heartbeat_at__range=_lately())


class Job(models.Model):
    """One piece of long work: queued -> starting -> running -> finished | failed | cancelled.

    Only `jobs.states.change` sets `status`. How the process ended is told here; what a claim did is not a job's matter.
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        STARTING = "starting"
        RUNNING = "running"
        FINISHED = "finished"
        FAILED = "failed"
        CANCELLED = "cancelled"

    ACTIVE = (Status.STARTING, Status.RUNNING)
    FINAL = (Status.FINISHED, Status.FAILED, Status.CANCELLED)

    kind = models.CharField(max_length=20)
    device = models.CharField(max_length=10, help_text="the device kind it needs: cpu, cuda or control")
    requires = models.CharField(max_length=200, blank=True, help_text="what a node must offer, such as SLUG@HASH")
    arguments = models.JSONField(default=list, blank=True, help_text="words for a kind that keeps no row of its own")
    memory_gib = models.FloatField(default=0, help_text="memory that the node's device must have")
    capability = models.FloatField(default=0, help_text="CUDA compute capability that the GPU must have, such as 9.0")
    download = models.BooleanField(default=False, help_text="whether it may use the network, to fetch a model")
    time_limit_s = models.PositiveIntegerField(help_text="on a machine as fast as the reference")
    time_factor = models.FloatField(default=1, db_default=1, help_text="what its node multiplies the limit by")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)

    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED, db_index=True)
    attempt = models.PositiveIntegerField(default=0)
    losses = models.PositiveIntegerField(default=0, help_text="how many of its attempts lost their worker")
    code = models.CharField(max_length=20, blank=True)
    reason = models.TextField(blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    queued_at = models.DateTimeField(default=clock.now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)

    stage = models.CharField(max_length=120, blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-queued_at", "-pk"]
        indexes = [models.Index(fields=["kind", "status", "code"], name="job_how_it_ended")]  # /metrics counts by it
        constraints = [
            models.CheckConstraint(
                name="job_ended_when_final",
                condition=models.Q(ended_at__isnull=False, status__in=["finished", "failed", "cancelled"])
                | models.Q(ended_at__isnull=True, status__in=["queued", "starting", "running"]),
            ),
            models.CheckConstraint(
                name="job_failed_has_code", condition=~models.Q(status="failed") | ~models.Q(code="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} ({self.status})"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in self.FINAL

    @property
    def failure(self) -> Failure | None:
        """What its code means."""
        return FAILURES.get(self.code)

    @property
    def seconds(self) -> float | None:
        """How long it has run, or ran."""
        if self.started_at is None:
            return None
        return ((self.ended_at or clock.now()) - self.started_at).total_seconds()

    @property
    def limit_s(self) -> float:
        """Seconds of wall clock after which its node stops it."""
        return self.time_limit_s * self.time_factor

    @property
    def remaining_s(self) -> float:
        """Seconds until its time limit stops it."""
        return max(0.0, self.limit_s - (self.seconds or 0.0))

    @property
    def left_s(self) -> float | None:
        """Seconds it will still take, if the rest goes as fast as what is done; None while nothing tells."""
        if self.status != self.Status.RUNNING or not self.done or not self.total or self.seconds is None:
            return None
        return min(self.remaining_s, self.seconds * (self.total - self.done) / self.done)

    @property
    def silent_s(self) -> int:
        """Seconds since its worker last spoke."""
        return int((clock.now() - self.heartbeat_at).total_seconds()) if self.heartbeat_at else 0

    @property
    def log(self) -> str:
        """All that every attempt printed."""
        return "".join(self.log_chunks.values_list("text", flat=True))


class Attempt(models.Model):
    """One try at a job: where it runs, so that whoever finds it abandoned can end its processes."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    node = models.CharField(max_length=120)
    host = models.CharField(max_length=120)
    group = models.PositiveIntegerField(null=True, help_text="process group id, which is its leader's process id")
    group_started = models.FloatField(null=True, help_text="when the leader began, seconds since 1970")
    started_at = models.DateTimeField(default=clock.now)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="attempt_once")]

    def __str__(self) -> str:
        return f"attempt {self.number} of job {self.job_id}"

    @property
    def folder(self) -> Path:
        """Its scratch folder, whose path also marks its processes."""
        return settings.DATA_DIR / "scratch" / f"{self.job_id}-{self.number}"


class LogChunk(models.Model):
    """A piece of a job's log, in order."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="log_chunks")
    attempt = models.PositiveIntegerField()
    sequence = models.PositiveIntegerField()
    text = models.TextField()

    class Meta:
        ordering = ["attempt", "sequence"]
        constraints = [models.UniqueConstraint(fields=["job", "attempt", "sequence"], name="log_chunk_once")]

    def __str__(self) -> str:
        return f"log {self.job_id}/{self.attempt}/{self.sequence}"


class NodeQuerySet(models.QuerySet):
    """Workers by whether they have been heard."""

    def live(self) -> "NodeQuerySet":
        """Nodes that spoke lately."""
        return self.filter(heartbeat_at__range=_lately())

    def with_deeds(self) -> "NodeQuerySet":
        """With how many jobs each finished and failed (by their last attempt), and when the last of them ended."""
        last = Attempt.objects.filter(node=models.OuterRef("name"), number=models.F("job__attempt")).order_by()

        def count(status: str) -> Coalesce:
            found = last.filter(job__status=status).values("node").annotate(n=models.Count("pk"))
            return Coalesce(models.Subquery(found.values("n")), 0)

        newest = models.Subquery(last.values("node").annotate(at=models.Max("job__ended_at")).values("at"))
        return self.annotate(finished=count(Job.Status.FINISHED), failed=count(Job.Status.FAILED), newest=newest)


class Node(models.Model):
    """One worker: a slot on one device of one machine."""

    name = models.CharField(max_length=120, unique=True)
    host = models.CharField(max_length=120)
    pid = models.PositiveIntegerField()
    device = models.CharField(max_length=10)
    device_name = models.CharField(max_length=200)
    device_uuid = models.CharField(max_length=80, blank=True)
    memory_gib = models.FloatField(default=0, help_text="of the GPU, or of the machine for a CPU")
    capability = models.FloatField(default=0, help_text="CUDA compute capability; 0 for a CPU")
    versions = models.JSONField(default=dict, help_text="Python, torch, Triton, driver, and what isolates its runs")
    time_factor = models.FloatField(
        default=1, db_default=1, help_text="time limits are multiplied by it: how slow this machine is"
    )
    trouble = models.CharField(max_length=200, blank=True, help_text="why it takes no job now")
    draining = models.BooleanField(default=False, help_text="takes no new job, and goes on with the one it has")
    offers = models.JSONField(default=list, help_text="what it can run: SLUG@HASH of every reproduction it has")
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            # Two timed runs on one GPU would disturb each other.
            models.UniqueConstraint(fields=["device_uuid"], condition=~models.Q(device_uuid=""), name="one_node_a_gpu")
        ]

    def __str__(self) -> str:
        return self.name

    def misses(self, job: Job) -> str:
        """What it lacks for a job, in words; empty if it could run it."""
        if job.device != self.device:
            return f"its device is {self.device}"
        if job.requires and job.requires not in self.offers:
            return "it has another version of the reproduction: restart its worker"
        if job.memory_gib > self.memory_gib:
            return f"it has {self.memory_gib:g} GiB of memory, {job.memory_gib:g} are needed"
        if job.capability > self.capability:
            return f"its compute capability is {self.capability:g}, {job.capability:g} is needed"
        return ""

    def can_run(self, job: Job) -> bool:
        """Whether it has what a job asks for."""
        return not self.misses(job)

    @property
    def queue(self) -> str:
        """The Celery queue that this node alone reads."""
        return f"node.{self.name}"


class Pulse(models.Model):
    """When something that must happen again and again happened last: the sweep."""

    name = models.CharField(max_length=20, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at}"
