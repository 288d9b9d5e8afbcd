"""What the API says of reproductions, runs and verdicts."""

import datetime
import uuid
from typing import Any, Literal

from ninja import Field, Schema

from catalog.schemas import ClaimOut, Selected
from config.rest import Change, Page
from reproductions.models import Run


class Standing(Schema):
    """The verdict that stands for a claim on a kind of device."""

    device: str
    device_name: str
    outcome: str
    scale: str
    value: float | None
    low: float | None
    high: float | None
    bound: str
    measure: str
    reason: str
    run: int = Field(description="the run that it comes from")


class ClaimVerdicts(ClaimOut):
    """A claim and what stands for it, one verdict a kind of device."""

    verdicts: list[Standing]


class Claims(Selected):
    """Claims, work by work in the order asked for."""

    results: list[ClaimVerdicts]


class ReproductionOut(Schema):
    """How the claims of a work are checked, and what stands for them."""

    work: str
    question: str
    measurement: str = Field(description="fingerprint of all that runs; where it differs, results are outdated")
    declaration: str = Field(description="fingerprint of checks, sizes, limits and plots")
    retired: bool
    sizes: dict[str, Any] = Field(
        description="each size with its parameters, scale and time limit on the reference machine"
    )
    limits: dict[str, Any] = Field(description="what each parameter may be")
    checks: list[dict[str, Any]]
    headlines: list[dict[str, Any]] = Field(description="the verdict that stands for each check and device")
    claims: list[ClaimVerdicts]


class RunOut(Schema):
    """One run: what was asked, and how far it is. How its process ended is no verdict."""

    id: int
    work: str
    size: str
    device: str
    device_name: str
    seed: int
    parameters: dict[str, Any]
    customised: bool = Field(description="whether a parameter differs from its size's own")
    scale: str
    measurement: str = Field(description="fingerprint of all that ran")
    declaration: str = Field(description="fingerprint of the checks, sizes, limits and plots that judge it")
    is_stale: bool = Field(description="whether all that runs has changed since: outdated")
    record: str = Field(description="the file of the project's records that it came with; empty for a run of here")
    uid: uuid.UUID
    status: str = Field(alias="job.status")
    code: str = Field(alias="job.code", description="of a failure")
    reason: str = Field(alias="job.reason")
    user: str | None
    queued_at: datetime.datetime = Field(alias="job.queued_at")
    started_at: datetime.datetime | None = Field(alias="job.started_at")
    ended_at: datetime.datetime | None = Field(alias="job.ended_at")
    stage: str = Field(alias="job.stage")
    done: int = Field(alias="job.done")
    total: int = Field(alias="job.total")
    seconds: float | None
    peak_memory_mib: int | None
    command: str = Field(description="the one command that repeats it")

    @staticmethod
    def resolve_work(run: Run) -> str:
        """The slug."""
        return run.reproduction.work.slug

    @staticmethod
    def resolve_user(run: Run) -> str | None:
        """Who asked for it."""
        return run.job.user.get_username() if run.job.user else None


class VerdictOut(Schema):
    """What one check said of its claim in one run."""

    claim: str
    label: str
    measure: str
    outcome: str
    scale: str
    value: float | None
    low: float | None
    high: float | None
    method: str
    n: int
    bound: str
    because: str
    reason: str


class RunDetail(RunOut):
    """A run with its verdicts and where it ran."""

    verdicts: list[VerdictOut]
    environment: dict[str, Any]


class Rows(Schema):
    """All that a run measured."""

    rows: list[dict[str, Any]]


class Runs(Page):
    """Runs, newest first."""

    results: list[RunOut]


class RunAsked(Change):
    """A run to be started."""

    size: str = "cpu"
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = Field(0, ge=0, lt=2**31)
    parameters: dict[str, Any] = Field({}, description="those that differ from the size's own")
    again: bool = Field(False, description="measure even where an identical run has finished")
