"""Pages that set results side by side: two runs, and one claim over time."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from catalog.models import Claim
from config.http import whole_number
from jobs.models import Job
from reproductions import comparing, drawing, history, plots
from reproductions.models import Reproduction, Run

CANDIDATES = 50


@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """Runs `a` and `b` of one work side by side; without `b`, the runs that `a` can be compared with."""
    a, b, problem = _both(request)
    context: dict[str, Any] = {"a": a, "b": b, "problem": problem}
    if a and (b is None or problem):
        others = a.reproduction.runs.for_list().filter(job__status=Job.Status.FINISHED).exclude(pk=a.pk)
        context |= {"work": a.reproduction.work, "others": others[:CANDIDATES]}
    elif a and b:
        shared = dict(b.drawings)
        drawn = [(number, plot) for number, plot in a.drawings if number in shared]
        context |= {
            "work": a.reproduction.work,
            "settings": comparing.settings(a, b),
            "environment": comparing.environment(a, b),
            "verdicts": comparing.verdicts(a, b),
            "plots": drawn,
            "both": f"a={a.pk}&b={b.pk}",
        }
    return render(request, "reproductions/compare.html", context, status=400 if problem else 200)


def _both(request: HttpRequest) -> tuple[Run | None, Run | None, str]:
    """Both runs as far as they are told, and what is wrong."""
    found: list[Run | None] = []
    for name in ("a", "b"):
        text = request.GET.get(name, "").strip()
        runs = Run.objects.select_related("job", "reproduction__work").prefetch_related("verdicts")
        number = whole_number(text)
        run = None if number is None else runs.filter(pk=number).first()
        if text and run is None:
            return found[0] if found else None, None, f"{name}: expected the number of a run, got {text[:60]!r}"
        found.append(run)
    a, b = found
    if a and b and a.reproduction_id != b.reproduction_id:
        return a, b, f"expected two runs of one work, got one of {a.reproduction} and one of {b.reproduction}"
    if a is None:
        return None, b, "expected the numbers of two runs, as in /runs/compare?a=1&b=2"
    return a, b, ""


@require_safe
def compare_plot(request: HttpRequest, index: int, form: str = "svg") -> HttpResponse:
    """One plot with the rows of both runs in it."""
    a, b, problem = _both(request)
    if problem or a is None or b is None or index >= len(a.reproduction.spec["plots"]):
        raise Http404(problem or "expected two runs and a plot that there is")
    rows = {f"run {run.pk}": run.rows for run in (a, b)}
    drawn = plots.overlaid(a.reproduction.spec["plots"][index], rows, drawing.theme_of(request))
    return drawing.answer(drawn, form)


@require_safe
def claim(request: HttpRequest, slug: str, key: str) -> HttpResponse:
    """What the paper says, and every verdict on it so far, with a plot a check."""
    found, reproduction = _claim(slug, key)
    context = {
        "claim": found,
        "work": found.work,
        "reproduction": reproduction,
        "checks": history.of_claim(reproduction, key) if reproduction else [],
    }
    return render(request, "reproductions/claim.html", context)


@require_safe
def claim_plot(request: HttpRequest, slug: str, key: str, index: int, form: str = "svg") -> HttpResponse:
    """The plot of one check of the claim."""
    _, reproduction = _claim(slug, key)
    checks = history.of_claim(reproduction, key) if reproduction else []
    if index >= len(checks) or not checks[index].measured:
        raise Http404("expected a check that has been measured")
    return drawing.answer(history.vega(checks[index], drawing.theme_of(request)), form)


def _claim(slug: str, key: str) -> tuple[Claim, Reproduction | None]:
    found = get_object_or_404(Claim.objects.select_related("work"), work__slug=slug, key=key)
    return found, Reproduction.objects.filter(work=found.work).first()
