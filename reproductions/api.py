"""Claims with what stands for them, reproductions and runs as JSON; readers start runs and cancel their own."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from ninja import Query, Router, Status

from catalog.api import said, selected
from catalog.listing import Listing
from catalog.models import Claim, Work
from catalog.schemas import Filters
from catalog.versions import of_catalogue
from config.rest import ApiRequest, Paging, Problem, Visitor, paged
from jobs import services as jobs
from jobs.models import Job
from jobs.views import note_cancelled
from reproductions import evidence, schemas, services
from reproductions.models import Reproduction, Run
from reproductions.views import may_cancel

router = Router(tags=["reproductions"])


@router.get("/claims", response=schemas.Claims)
@of_catalogue
def claims(request: HttpRequest, response: HttpResponse, filters: Query[Filters], paging: Query[Paging]) -> dict:
    """Claims of the works of a selection; with a verdict or a device, those that have it."""
    listing = selected(request)
    standing = _standing(listing)
    pks = _claim_pks(listing, standing)
    part = pks[paging.part]
    found = Claim.objects.select_related("work").in_bulk(part)
    results = [_with_verdicts(found[pk], standing.get((found[pk].work_id, found[pk].key), [])) for pk in part]
    return paged(request, response, paging, len(pks), results, **said(listing))


def _with_verdicts(claim: Claim, verdicts: list[dict]) -> Claim:
    claim.verdicts = verdicts  # type: ignore[attr-defined]
    return claim


def _standing(listing: Listing) -> dict[tuple[int, str], list[dict]]:
    """What stands for (work, claim) of the works that have a reproduction and are in the selection."""
    standing: dict[tuple[int, str], list[dict]] = {}
    measured = Reproduction.objects.exclude(headlines=[])
    for reproduction in measured:
        place = listing.snapshot.place.get(reproduction.work_id)
        if place is not None and listing.mask[place]:
            for verdict in reproduction.claim_verdicts:
                standing.setdefault((reproduction.work_id, verdict["claim"]), []).append(verdict)
    return standing


def _claim_pks(listing: Listing, standing: dict[tuple[int, str], list[dict]]) -> list[int]:
    """The claims to show, by their works' order, then as the work has them."""
    order = {pk: i for i, pk in enumerate(listing.order().tolist())}
    filters = listing.selection.filters | listing.chosen.found.fields
    wanted = [(key, filters[name]) for name, key in (("verdict", "outcome"), ("device", "device")) if name in filters]
    rows = [
        (order[work], position, pk)
        for pk, work, position, key in Claim.objects.order_by().values_list("pk", "work_id", "position", "key")
        if work in order
        and all(any(v[field] == value for v in standing.get((work, key), [])) for field, value in wanted)
    ]
    return [pk for _, _, pk in sorted(rows)]


@router.get("/works/{slug}/reproduction", response=schemas.ReproductionOut)
def reproduction(request: HttpRequest, slug: str) -> dict:
    """How the claims of a work are checked, and what stands for them."""
    found = _reproduction(slug)
    spec = found.spec
    return {
        "work": slug,
        "question": found.question,
        "measurement": found.measurement,
        "declaration": found.declaration,
        "retired": found.retired,
        "sizes": spec["sizes"],
        "limits": spec["limits"],
        "checks": spec["checks"],
        "headlines": found.headlines,
        "claims": [_with_verdicts(one.claim, one.verdicts) for one in evidence.of_work(_work(slug), found)],
    }


def _work(slug: str) -> Work:
    return Work.objects.prefetch_related("claims__work").get(slug=slug)


def _reproduction(slug: str) -> Reproduction:
    get_object_or_404(Work, slug=slug)
    found = Reproduction.objects.select_related("work").filter(work__slug=slug).first()
    if found is None:
        raise Problem(404, f"{slug} has no reproduction")
    return found


@router.post("/works/{slug}/runs", response={201: schemas.RunOut, 200: schemas.RunOut}, auth=Visitor("run"))
def start_run(request: ApiRequest, response: HttpResponse, slug: str, asked: schemas.RunAsked) -> Status:
    """Queue a run: 201. Where an identical one has finished it is given instead, with 200, unless `again` is true."""
    found = _reproduction(slug)
    changes = {name: _text(name, value) for name, value in asked.parameters.items()}
    wish: dict[str, Any] = {"size": asked.size, "device": asked.device, "changes": changes, "seed": asked.seed}
    try:
        same = None if asked.again else services.identical(found, **wish)
        if same:
            return Status(200, same)
        run = services.start_run(found, **wish, user=request.user)
    except services.TooMany as refused:
        raise Problem(429, str(refused)) from None
    except services.Refused as refused:
        raise Problem(422, str(refused)) from None
    response["Location"] = reverse("api-1:run_detail", args=[run.pk])
    return Status(201, run)


def _text(name: str, value: Any) -> str:
    """A parameter as it is typed into the form, which is how the limits are held."""
    one = value if isinstance(value, list) else [value]
    if not all(isinstance(x, str | int | float) for x in one):
        raise Problem(422, f"{name}: expected a text, a number, yes or no, or a list of these")
    return ",".join(map(str, one))


class Wanted(Paging):
    """Which runs."""

    work: str = ""
    device: str = ""
    status: Job.Status | None = None


@router.get("/runs", response=schemas.Runs)
def runs(request: HttpRequest, response: HttpResponse, wanted: Query[Wanted]) -> dict:
    """Runs, newest first, of one work, device or status if asked."""
    found = Run.objects.for_list()
    names = {"reproduction__work__slug": wanted.work, "device": wanted.device, "job__status": wanted.status}
    found = found.filter(**{name: value for name, value in names.items() if value})
    return paged(request, response, wanted, found.count(), list(found[wanted.part]))


@router.get("/runs/{run_id}", response=schemas.RunDetail)
def run_detail(request: HttpRequest, run_id: int) -> Run:
    """One run with its verdicts."""
    return get_object_or_404(_runs().prefetch_related("verdicts").defer("rows"), pk=run_id)


@router.get("/runs/{run_id}/rows", response=schemas.Rows)
def run_rows(request: HttpRequest, run_id: int) -> Run:
    """All that a run measured, row by row."""
    return get_object_or_404(Run, pk=run_id)


@router.post("/runs/{run_id}/cancel", response=schemas.RunOut, auth=Visitor("run"))
def cancel_run(request: ApiRequest, run_id: int) -> Run:
    """Ask for a run's end; one that has ended stays as it is. For its owner and operators."""
    found = get_object_or_404(_runs(), pk=run_id)
    if not found.job.is_final:
        if not may_cancel(request, found):
            raise Problem(403, "only the owner of a run or an operator may cancel it")
        jobs.cancel(found.job)
        note_cancelled(request, found.job)
    return _runs().get(pk=run_id)


def _runs() -> Any:
    return Run.objects.select_related("job__user", "reproduction__work")
