"""PDF bundles as JSON: which there are, ask for one, follow and cancel the job that makes it."""

import datetime
from typing import Any, Literal

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from config.quota import Full
from config.rest import ApiRequest, Line, Page, Paging, Problem, Visitor, paged
from exports import bundle_plan, bundle_store, bundles
from exports.bundle_store import Made
from jobs import services as jobs
from jobs.models import Job
from jobs.views import is_of, note_cancelled

router = Router(tags=["bundles"])


class BundleOut(Schema):
    """A bundle that is there."""

    name: str
    kind: str = Field(description="report, public or private")
    query: str | None = Field(description="as it was asked for; null for all but those who did, and operators")
    selection: str = Field(description="which works, in words that tell nothing of who asked")
    made_at: datetime.datetime
    pages: int
    size: int = Field(description="bytes")
    sha256: str
    works: int
    papers: int = Field(description="works whose paper is bound in")
    pdf: str
    manifest: str = Field(description="address of what it says of every work, as JSON")

    @staticmethod
    def of(made: Made, request: HttpRequest) -> dict[str, Any]:
        """From the files."""
        counts = made.told["counts"]
        addresses = {
            name: request.build_absolute_uri(reverse("bundle-file", args=[made.name, ending]))
            for name, ending in (("pdf", "pdf"), ("manifest", "json"))
        }
        told = {name: made.told[name] for name in ("kind", "selection", "pages")}
        told |= {"query": bundle_store.query_of(made, request.user), "made_at": made.made}
        files = {"name": made.name, "size": made.size, "sha256": made.sha256}
        return files | told | {"works": counts["works"], "papers": counts["papers"]} | addresses


class Bundles(Page):
    """Bundles that the visitor may have, the newest first."""

    results: list[BundleOut]


class BundleJob(Schema):
    """The job that makes a bundle; `bundle` once it is there."""

    job: int | None
    status: str = Field(description="queued, starting, running, finished, failed or cancelled")
    stage: str
    done: int
    total: int
    reason: str
    bundle: BundleOut | None


class Asked(Schema):
    """Which bundle is wanted."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["report", "public", "private"] = "report"
    query: Line = Field("", max_length=600, description="words of the search box, or filters: q=flash&year=2023")
    fetch: bool = Field(False, description="get papers that are not here; for operators")


@router.get("/bundles", response=Bundles)
def list_bundles(request: HttpRequest, response: HttpResponse, paging: Query[Paging]) -> dict:
    """The bundles that there are."""
    found = bundle_store.seen_by(request.user)
    results = [BundleOut.of(made, request) for made in found[paging.part]]
    return paged(request, response, paging, len(found), results)


@router.post("/bundles", response={200: BundleJob, 202: BundleJob}, auth=Visitor("run"))
def ask_for_bundle(request: ApiRequest, asked: Asked) -> Status:
    """The bundle if it is there (200), else the job that makes it (202)."""
    try:
        found = bundles.ask(asked.kind, asked.query, request.user, fetch=asked.fetch)
    except bundle_plan.NotUnderstood as error:
        raise Problem(422, str(error), errors=[{"pointer": "#/query", "detail": str(error)}]) from None
    except Full as full:
        raise Problem(429, str(full)) from None
    except PermissionDenied as error:
        raise Problem(403, str(error)) from None
    bundles.note_asked(request, asked.kind, asked.query, fetch=asked.fetch)
    if isinstance(found, Job):
        return Status(202, _told(found, request))
    there = {"job": None, "status": "finished", "stage": "", "done": 0, "total": 0, "reason": ""}
    return Status(200, there | {"bundle": BundleOut.of(found, request)})


@router.get("/bundles/jobs/{job_id}", response=BundleJob)
def bundle_job(request: HttpRequest, job_id: int) -> dict:
    """How far the job is, and its bundle once it has ended."""
    return _told(get_object_or_404(Job, pk=job_id, kind="bundle"), request)


@router.post("/bundles/jobs/{job_id}/cancel", response=BundleJob, auth=Visitor("run"))
def cancel_bundle_job(request: ApiRequest, job_id: int) -> dict:
    """Ask for the job's end; one that has ended stays as it is. For its owner and operators."""
    found = get_object_or_404(Job, pk=job_id, kind="bundle")
    if not found.is_final:
        if not is_of(request, found):
            raise Problem(403, "only the owner of a job or an operator may cancel it")
        jobs.cancel(found)
        note_cancelled(request, found)
        found.refresh_from_db()
    return _told(found, request)


def _told(job: Job, request: HttpRequest) -> dict[str, Any]:
    told = {name: getattr(job, name) for name in ("status", "stage", "done", "total")}
    told["reason"] = job.reason if is_of(request, job) else ""  # it may say again what was asked for
    made = bundle_store.made(bundles.made_by(job.pk)) if job.status == Job.Status.FINISHED else None
    shown = BundleOut.of(made, request) if made and bundle_store.may_have(request.user, made) else None
    return {"job": job.pk} | told | {"bundle": shown}
