"""Pages of works and runs: fetch, ask a service, render."""

import gzip
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from catalog import curation
from catalog import related as near
from catalog.listing import Listing
from catalog.models import Work
from catalog.selection import Selection
from config.http import HtmxRequest, UserRequest, whole_number
from jobs import queue
from jobs import services as jobs
from jobs.views import note_cancelled
from reproductions import drawing, evidence, overview, parameters, plots, services, sources, stale
from reproductions.models import Reproduction, Run

PAGE = 50
CLAIMS_OF = 25  # works a page
LOG_SHOWN = 40_000  # characters at the end of a log; the whole is a download away


@require_safe
def paper(request: HttpRequest, slug: str) -> HttpResponse:
    """The work: facts, claims beside what was measured, the form, past runs, its citation."""
    return _paper(request, slug)


def _paper(
    request: HttpRequest, slug: str, *, error: str = "", same: Run | None = None, status: int = 200
) -> HttpResponse:
    work = get_object_or_404(Work.objects.for_page(), slug=slug)
    reproduction = Reproduction.objects.filter(work=work).first()
    asked = _asked(request, reproduction)
    runs = list(reproduction.runs.for_list()[:10]) if reproduction else []
    measured = _measured(reproduction)
    plotted = measured[0] if measured else None
    around, neighbours = near.around(work)
    context = {
        "work": work,
        "reproduction": reproduction,
        "claims": evidence.of_work(work, reproduction),
        "runs": runs,
        "plotted": plotted,
        "also": measured[1:],
        "scale": evidence.against_the_paper(plotted) if plotted else [],
        "method": sources.method(slug) if reproduction else None,
        "related": around,
        "beside": neighbours,
        "sizes": services.sizes_offered(reproduction) if reproduction else [],
        "devices": services.offered_devices(),
        "may_edit": curation.is_curator(request.user),
        "error": error,
        "same": same,
        "stale": stale.of(reproduction) if reproduction and not reproduction.retired else [],
        "form": asked,
        "fields": [f | {"value": asked.get(f["name"], "")} for f in reproduction.fields] if reproduction else [],
    }
    return render(request, "reproductions/paper.html", context, status=status)


def _asked(request: HttpRequest, reproduction: Reproduction | None) -> dict:
    """What the form holds: what was sent, or what the run that `?from=` names was asked for."""
    number = whole_number(request.GET.get("from", ""))
    if request.method == "POST" or reproduction is None or number is None:
        sent = request.POST.dict()
        return sent if whole_number(sent.get("from", "")) is not None else sent | {"from": ""}
    run = reproduction.runs.defer("rows", "environment").filter(pk=number).first()
    if run is None:
        return {}
    values = {name: parameters.text(value) for name, value in run.parameters.items()}
    return values | {"size": run.size, "device": run.device, "seed": str(run.seed), "from": run.pk}


def _measured(reproduction: Reproduction | None) -> list[Run]:
    """The runs of the headlines, one a device; first the one that says most, then the newest: its plots are shown."""
    numbers = {headline["run"] for headline in reproduction.headlines} if reproduction else set()
    runs = Run.objects.for_list().filter(pk__in=numbers) if numbers else []
    return sorted(runs, key=lambda run: (run.rank, run.job.ended_at), reverse=True)


@require_safe
def kernel_list(request: HttpRequest) -> HttpResponse:
    """The bundled kernels, what calls them, and how near they come to what a device can do."""
    used = sources.users()
    families: dict[str, list] = {}
    for kernel in sources.kernels().values():
        families.setdefault(kernel.family, []).append((kernel, used.get(kernel.name, [])))
    on_gpu = Run.objects.evidence().filter(device="cuda").exists()
    context = {"families": families, "shared": sources.shared(), "roofs": overview.rooflines(), "on_gpu": on_gpu}
    return render(request, "reproductions/kernels.html", context)


@require_safe
def roofline(request: HttpRequest, index: int, form: str = "svg") -> HttpResponse:
    """One device's roofline with the kernels on it."""
    roofs = overview.rooflines()
    if index >= len(roofs):
        raise Http404(f"expected a roofline below {len(roofs)}, got {index}")
    return drawing.answer(overview.vega(roofs[index], drawing.theme_of(request)), form)


@require_safe
def kernel(request: HtmxRequest, name: str) -> HttpResponse:
    """One kernel with its source; htmx asks for the source alone."""
    found = sources.kernels().get(name)
    if found is None:
        raise Http404(f"there is no kernel {name!r}")
    if request.htmx and not request.htmx.history_restore_request:
        response = HttpResponse(sources.source(name))
    else:
        context = {"kernel": found, "source": sources.source(name), "users": sources.users().get(name, [])}
        response = render(request, "reproductions/kernel.html", context)
    response["Vary"] = "HX-Request"
    return response


@require_safe
def claims(request: HtmxRequest) -> HttpResponse:
    """Every claim of every work with what stands for it, by the same search and filters as the list."""
    listing = Listing(Selection.read(request.GET, request.user), size=CLAIMS_OF)
    context = {
        "listing": listing,
        "selection": listing.selection,
        "facets": listing.facets(),
        "sorts": listing.sorts(),
        "rows": evidence.of_works(listing.works(), listing.selection.filters | listing.chosen.found.fields),
    }
    if not listing.selection.q and not listing.selection.filters and listing.page == 1:
        context["devices"], context["overview"] = overview.claims_by_device()
    partial = request.htmx and not request.htmx.history_restore_request
    response = render(request, "reproductions/_claims.html" if partial else "reproductions/claims.html", context)
    response["Vary"] = "HX-Request"
    return response


@require_POST
@login_required
def run_start(request: UserRequest, slug: str) -> HttpResponse:
    """Queue a run and go to its page; what is wrong with the form is said on the form."""
    reproduction = get_object_or_404(Reproduction.objects.select_related("work"), work__slug=slug)
    names = [field["name"] for field in reproduction.fields]
    asked: dict[str, Any] = {
        "size": request.POST.get("size", ""),
        "device": request.POST.get("device", ""),
        "changes": {n: request.POST[n].strip() for n in names if request.POST.get(n, "").strip()},
    }
    try:
        asked["seed"] = _seed(request.POST.get("seed", ""))
        if "again" not in request.POST and (same := services.identical(reproduction, **asked)):
            return _paper(request, slug, same=same)
        run = services.start_run(reproduction, **asked, user=request.user)
    except services.Refused as refused:
        return _paper(request, slug, error=str(refused), status=400)
    return redirect("run", pk=run.pk)


def _seed(text: str) -> int:
    if not text.strip():
        return 0
    if (seed := whole_number(text)) is None:
        raise services.Refused(f"seed: expected a whole number from 0 to {2**31 - 1}, got {text[:60]!r}")
    return seed


@require_POST
@login_required
def run_again(request: UserRequest, pk: int) -> HttpResponse:
    """Queue a run once more as it was asked for; why it cannot be is said on the paper's page."""
    found = get_object_or_404(Run.objects.select_related("reproduction__work"), pk=pk)
    try:
        return redirect("run", pk=services.rerun(found, request.user).pk)
    except services.Refused as refused:
        return _paper(request, found.reproduction.work.slug, error=str(refused), status=400)


@require_safe
def runs(request: HttpRequest) -> HttpResponse:
    """All runs, newest first; with `?stale=yes` those results that the present version has not measured yet."""
    if request.GET.get("stale") == "yes":
        return render(request, "reproductions/stale.html", {"stale": stale.of_all()})
    page = Paginator(Run.objects.for_list(), PAGE).get_page(request.GET.get("page"))
    return render(request, "reproductions/runs.html", {"page": page})


@require_safe
def run(request: HtmxRequest, pk: int) -> HttpResponse:
    """One run; htmx asks the same address for the part that changes until the run has ended."""
    found = get_object_or_404(Run.objects.select_related("job__user", "reproduction__work"), pk=pk)
    log = found.job.log
    context = {
        "run": found,
        "job": found.job,
        "work": found.reproduction.work,
        "verdicts": found.verdicts.all(),
        "state": _state(found),
        "log": log[-LOG_SHOWN:],
        "log_cut": max(0, len(log) - LOG_SHOWN),
        "plots": found.drawings,
        "may_cancel": may_cancel(request, found),
    }
    if found.job.status == found.job.Status.QUEUED:
        context |= {"ahead": queue.position(found.job), "waits": queue.waiting_s(found.job)}
    partial = request.htmx and not request.htmx.history_restore_request
    response = render(request, "reproductions/_run_part.html" if partial else "reproductions/run.html", context)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "HX-Request"
    return response


def _state(run: Run) -> str:
    """For the title, so that a tab tells it: "finished: 5 replicated, 1 contradicted"."""
    if run.job.status != run.job.Status.FINISHED:
        return run.job.status
    counts = ", ".join(f"{count} {outcome}" for outcome, count in run.outcome_counts)
    return f"finished: {counts}" if counts else "finished"


def may_cancel(request: HttpRequest, run: Run) -> bool:
    """Whether this visitor may cancel this run: its owner or an operator."""
    owner = request.user.is_authenticated and run.job.user_id == request.user.pk
    return not run.job.is_final and (owner or request.user.is_staff)


@require_POST
@login_required
def run_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask for the run's end; a run that has ended stays as it is."""
    found = get_object_or_404(Run.objects.select_related("job"), pk=pk)
    if not found.job.is_final:
        if not may_cancel(request, found):
            raise PermissionDenied("only the owner of a run or an operator may cancel it")
        jobs.cancel(found.job)
        note_cancelled(request, found.job)
    return redirect("run", pk=pk)


@require_safe
@cache_control(max_age=3600)
def plot(request: HttpRequest, pk: int, index: int, form: str = "svg") -> HttpResponse:
    """One plot of a run as SVG, PNG, CSV or Vega-Lite, `?theme=dark` for a dark page."""
    found = get_object_or_404(Run.objects.select_related("reproduction"), pk=pk)
    drawn = dict(found.drawings)
    if index not in drawn:
        numbers = ", ".join(map(str, drawn)) or "none"
        raise Http404(f"expected the number of a plot that the run has rows for ({numbers}), got {index}")
    return drawing.answer(plots.vega(drawn[index], found.rows, drawing.theme_of(request)), form)


@require_safe
@cache_control(public=True, max_age=31536000, immutable=True)
def plot_bundle(request: HttpRequest, version: str) -> HttpResponse:
    """The script that draws plots in the browser; its version is part of the address."""
    if version != drawing.BUNDLE_VERSION:
        raise Http404(f"expected version {drawing.BUNDLE_VERSION}, got {version}")
    body, taken = drawing.bundle(), "gzip" in request.headers.get("Accept-Encoding", "")
    response = HttpResponse(body if taken else gzip.decompress(body), content_type="text/javascript; charset=utf-8")
    if taken:
        response["Content-Encoding"] = "gzip"
    response["Vary"] = "Accept-Encoding"
    return response
