"""Curators edit a work where it is shown: htmx swaps a form in, without JavaScript it is a page of its own."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from catalog import curation, history
from catalog.forms import ClaimForm, Curated, EntryForm, LinkForm, WorkForm
from catalog.models import Claim, Entry, Link, Work
from config.audit import record

PAGE = 50
PARTS: dict[str, tuple[type, type[Curated], str]] = {
    "entries": (Entry, EntryForm, "entry"),
    "links": (Link, LinkForm, "link"),
    "claims": (Claim, ClaimForm, "claim"),
}


def for_curators(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Only for those who may change works."""

    @wraps(view)
    @login_required
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not curation.is_curator(request.user):
            raise PermissionDenied("this is for curators only")
        return view(request, *args, **kwargs)

    return guarded


@require_http_methods(["GET", "HEAD", "POST"])
@for_curators
def facts(request: Any, slug: str) -> HttpResponse:
    """Title, date, addresses, authors, topics."""
    work = get_object_or_404(Work, slug=slug)
    form = WorkForm(_sent(request), instance=work, auto_id="facts-%s")
    return _edit(request, Work.objects.get(pk=work.pk), form, "facts")


@require_http_methods(["GET", "HEAD", "POST"])
@for_curators
def new(request: Any, slug: str, part: str) -> HttpResponse:
    """Another entry, link (of `?entry=`) or claim."""
    work = get_object_or_404(Work, slug=slug)
    model, form_class, _ = _part(part)
    instance = model() if model is Link else model(work=work)
    initial = {"entry": request.GET.get("entry", "")} if model is Link else {}
    form = form_class(
        _sent(request),
        instance=instance,
        initial=initial,
        **_options(work, part, "new"),
    )
    return _edit(request, work, form, part)


@require_http_methods(["GET", "HEAD", "POST"])
@for_curators
def edit(request: Any, slug: str, part: str, pk: int) -> HttpResponse:
    """One entry, link or claim."""
    work, row = _row(slug, part, pk)
    form = _part(part)[1](_sent(request), instance=row, **_options(work, part, str(pk)))
    return _edit(request, work, form, part)


@require_http_methods(["GET", "HEAD", "POST"])
@for_curators
def remove(request: Any, slug: str, part: str, pk: int) -> HttpResponse:
    """Ask, then take away; the history brings it back."""
    work, row = _row(slug, part, pk)
    word = _part(part)[2]
    if request.method == "POST":
        about = f"{row} of {slug}"
        if curation.remove(row, request.user, request.POST.get("reason", "")):
            record(request, f"remove {word}", about)
            messages.success(request, f"The {word} was removed. The history of this work brings it back.")
        else:
            messages.error(request, f"The {word} was removed already, by somebody else.")
        return redirect("paper", slug=slug)
    return render(request, "catalog/remove.html", {"work": work, "row": row, "word": word})


def _sent(request: HttpRequest) -> Any:
    return request.POST if request.method == "POST" else None


def _part(part: str) -> tuple[Any, Any, str]:
    if part not in PARTS:
        raise Http404(f"expected one of {', '.join(PARTS)}, got {part}")
    return PARTS[part]


def _row(slug: str, part: str, pk: int) -> tuple[Work, Any]:
    work, model = get_object_or_404(Work, slug=slug), _part(part)[0]
    return work, get_object_or_404(model, pk=pk, **{"entry__work" if model is Link else "work": work})


def _options(work: Work, part: str, name: str) -> dict[str, Any]:
    return {"auto_id": f"{part}-{name}-%s"} | ({"work": work} if part == "links" else {})


def _edit(request: Any, work: Work, form: Any, part: str) -> HttpResponse:
    if request.method == "POST" and form.written(request.user):
        if request.htmx:
            return HttpResponseClientRefresh()
        messages.success(request, "Kept.")
        return redirect(reverse("paper", args=[work.slug]) + _anchor(form, part))
    context = {"work": work, "form": form, "part": part, "row": form.instance, "word": PARTS.get(part, ("", "", ""))[2]}
    if request.htmx:  # with 200, since htmx shows no other
        return render(request, "catalog/_edit.html", context)
    return render(request, "catalog/edit.html", context, status=400 if form.errors else 200)


def _anchor(form: Any, part: str) -> str:
    return f"#claim-{form.instance.key}" if part == "claims" else "" if part == "facts" else "#listed"


@require_safe
@for_curators
def changes(request: HttpRequest, slug: str) -> HttpResponse:
    """Who changed what of a work, when, from what to what."""
    return _changes(request, get_object_or_404(Work, slug=slug))


def _changes(request: HttpRequest, work: Work, *, error: str = "", status: int = 200) -> HttpResponse:
    page = Paginator(history.of_work(work), PAGE).get_page(request.GET.get("page"))
    return render(request, "catalog/history.html", {"work": work, "page": page, "error": error}, status=status)


@require_POST
@for_curators
def undo(request: HttpRequest, slug: str, kind: str, number: int) -> HttpResponse:
    """Set one change of this work back; refused, with the reason, if that is not possible any more."""
    work = get_object_or_404(Work, slug=slug)
    if not any(c.kind == kind and c.record.history_id == number for c in history.of_work(work)):
        raise Http404(f"{slug} has no {kind} change {number}")
    try:
        history.undo(kind, number, request.user)
    except history.Refused as refused:
        return _changes(request, work, error=f"Not undone: {refused}.", status=409)
    record(request, f"undo {kind} change", f"{number} of {slug}")
    messages.success(request, "Undone.")
    return redirect("work-history", slug=slug)
