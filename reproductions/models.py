"""Reproductions, their runs and the verdicts, as rows. What a claim did is told here; how a process ended, in jobs."""

import uuid
from collections import Counter

from django.db import models
from django.utils.functional import cached_property

from catalog.models import Work
from jobs.models import Job
from reproductions import plots
from reproductions.parameters import expected, text
from reproductions.spec import NOT_TESTABLE, WORST_FIRST, Check, Untested, check_from_json, worst

SIZE_ORDER = {"cpu": 0, "full": 1}


class Reproduction(models.Model):
    """What `sync_reproductions` learnt of one file of papers/; results of a removed one are kept."""

    work = models.OneToOneField(Work, on_delete=models.PROTECT, related_name="reproduction")
    question = models.TextField()
    spec = models.JSONField(help_text="the whole spec as data: sizes, limits, checks, plots")
    measurement = models.CharField(max_length=16, help_text="fingerprint of all that runs")
    declaration = models.CharField(max_length=16, default="", help_text="fingerprint of what its page shows")
    retired = models.BooleanField(default=False)
    headlines = models.JSONField(default=list, help_text="the verdicts that stand for each claim and device")

    class Meta:
        ordering = ["work__slug"]

    def __str__(self) -> str:
        return self.work.slug

    @property
    def requires(self) -> str:
        """Name what a node must offer to run it: the very same measurement."""
        return f"{self.work.slug}@{self.measurement}"

    @property
    def present(self) -> list[str]:
        """Fingerprints of measurements whose results are not outdated: its own, and those shown to be equivalent."""
        return [self.measurement, *self.spec.get("equivalent", {})]

    @cached_property
    def checks(self) -> list[Check | Untested]:
        """The checks as they are now."""
        return [check_from_json(data) for data in self.spec["checks"]]

    @property
    def headline_counts(self) -> list[tuple[str, int]]:
        """(outcome, how many claims), for the list: the worst of each claim's checks on any device.

        A claim with a check that nothing has measured yet is not counted as replicated, nor counted at all unless
        another of its checks speaks against it.
        """
        outcomes = []
        for claim in dict.fromkeys(check.claim for check in self.checks):
            positions = {i for i, check in enumerate(self.checks) if check.claim == claim}
            standing = [h for h in self.headlines if h["position"] in positions]
            missing = positions - {h["position"] for h in standing}
            outcomes.append(worst([h["outcome"] for h in standing] + [NOT_TESTABLE] * len(missing)))
        return [(name, outcomes.count(name)) for name in WORST_FIRST if name in outcomes and name != NOT_TESTABLE]

    @property
    def claim_verdicts(self) -> list[dict]:
        """What stands for each claim on each kind of device: the worst of its checks, and the run of that check.

        Claims of which no check was measured there are left out; a check that is missing there keeps the claim from
        being replicated.
        """
        found = []
        for claim in dict.fromkeys(check.claim for check in self.checks):
            positions = {i for i, check in enumerate(self.checks) if check.claim == claim}
            for device in sorted({h["device"] for h in self.headlines if h["position"] in positions}):
                here = [h for h in self.headlines if h["position"] in positions and h["device"] == device]
                missing = positions - {h["position"] for h in here}
                outcome = worst([h["outcome"] for h in here] + [NOT_TESTABLE] * len(missing))
                shown = next((h for h in here if h["outcome"] == outcome), here[0])
                found.append(shown | {"claim": claim, "outcome": outcome})
        return found

    @property
    def fields(self) -> list[dict]:
        """The parameters for a form: name, what is expected, and each size's own value."""
        sizes, limits = self.spec["sizes"], self.spec["limits"]
        names = list(dict.fromkeys(name for size in sizes.values() for name in size["parameters"]))
        return [
            {
                "name": name,
                "expected": expected(self._own(name)[0][1], limits[name]),
                "defaults": [(size, text(value)) for size, value in self._own(name)],
            }
            for name in names
        ]

    def _own(self, name: str) -> list[tuple]:
        sizes = self.spec["sizes"]
        return [(size, sizes[size]["parameters"][name]) for size in sizes if name in sizes[size]["parameters"]]


class RunQuerySet(models.QuerySet):
    """Runs as pages need them."""

    def for_list(self) -> "RunQuerySet":
        """With all that a row of the runs table shows."""
        return self.select_related("job__user", "reproduction__work").defer("rows")

    def evidence(self) -> "RunQuerySet":
        """Finished runs that may stand as a headline: not smoke, and with the size's own parameters."""
        return self.filter(job__status=Job.Status.FINISHED, customised=False).exclude(size="smoke")


class Run(models.Model):
    """One run of a reproduction: what was asked, on what it ran, what it measured."""

    job = models.OneToOneField(Job, on_delete=models.CASCADE, related_name="run")
    reproduction = models.ForeignKey(Reproduction, on_delete=models.PROTECT, related_name="runs")
    size = models.CharField(max_length=20)
    device = models.CharField(max_length=10)
    seed = models.IntegerField(default=0)
    parameters = models.JSONField()
    customised = models.BooleanField(default=False, help_text="whether a parameter differs from its size's own")
    scale = models.CharField(max_length=10)
    measurement = models.CharField(max_length=16, help_text="fingerprint of all that ran")
    declaration = models.CharField(max_length=16, default="", help_text="fingerprint of the one that judges it")
    checks = models.JSONField(help_text="the checks it is judged by: the present ones unless it is outdated")

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False, help_text="the same wherever it is known")
    record = models.CharField(max_length=120, blank=True, help_text="the file of records/ that it was loaded from")
    record_digest = models.CharField(max_length=64, blank=True, help_text="of that file and of the judge")
    environment = models.JSONField(default=dict)
    rows = models.JSONField(default=list)
    seconds = models.FloatField(null=True)
    peak_memory_mib = models.PositiveIntegerField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.reproduction}"

    @property
    def command(self) -> str:
        """The one command that repeats it."""
        return " ".join(["python", *self.arguments])

    @property
    def arguments(self) -> list[str]:
        """The same, for a process: what follows `python`."""
        words = ["-m", "reproductions", "run", self.reproduction.work.slug, "--size", self.size]
        words += ["--device", self.device, "--seed", str(self.seed)]
        own = self.reproduction.spec["sizes"].get(self.size, {}).get("parameters", {})
        changed = {name: value for name, value in self.parameters.items() if own.get(name) != value}
        if changed:
            words += ["--set", *(f"{name}={text(value)}" for name, value in changed.items())]
        return words

    @property
    def device_name(self) -> str:
        """What it ran on, by name."""
        return self.environment.get("device_name") or self.device

    @cached_property
    def drawings(self) -> list[tuple[int, dict]]:
        """(its number, plot) of each of the spec's plots that these rows have something for."""
        return [(i, plot) for i, plot in enumerate(self.reproduction.spec["plots"]) if plots.rows_of(plot, self.rows)]

    @property
    def outcome_counts(self) -> list[tuple[str, int]]:
        """(outcome, how many checks), the worst first."""
        counts = Counter(verdict.outcome for verdict in self.verdicts.all())
        return [(name, counts[name]) for name in WORST_FIRST if counts[name]]

    @property
    def rank(self) -> tuple[bool, int]:
        """How much it says as evidence: the paper's scale before a reduced one, then the larger size."""
        return self.scale == "paper", SIZE_ORDER.get(self.size, -1)

    @property
    def is_stale(self) -> bool:
        """Whether the reproduction has changed since."""
        return self.measurement not in self.reproduction.present

    @property
    def timings(self) -> str:
        """What to say of its timings, such as "earlier stopwatch"; nothing where they are as good as new."""
        return self.reproduction.spec.get("equivalent", {}).get(self.measurement, "")


class Verdict(models.Model):
    """What one check said of its claim in one run; bound and reason are copied, so history stays as judged."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="verdicts")
    position = models.PositiveIntegerField()
    claim = models.CharField(max_length=80)
    label = models.CharField(max_length=200, blank=True)
    measure = models.CharField(max_length=300, blank=True, help_text="the metric in words")
    outcome = models.CharField(max_length=20)
    scale = models.CharField(max_length=10, blank=True)
    value = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    method = models.CharField(max_length=30, blank=True)
    n = models.PositiveIntegerField(default=0)
    bound = models.CharField(max_length=80, blank=True)
    because = models.TextField(blank=True)
    reason = models.TextField(blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["run", "position"], name="verdict_once")]

    def __str__(self) -> str:
        return f"{self.claim}: {self.outcome}"
