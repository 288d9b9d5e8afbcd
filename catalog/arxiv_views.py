"""Curators and arXiv: add a work by id or address, see what differs, sync all. Nothing here is asked by a GET."""

from typing import Any

from django.contrib import messages
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from catalog import arxiv_client, arxiv_gate, arxiv_ids, arxiv_sync, licences
from catalog.arxiv_gate import ArxivFailed
from catalog.arxiv_http import HURRIED_S
from catalog.editing import for_curators
from catalog.matching import title_key
from catalog.models import Category, Work
from config.audit import record

DIFFERING = 200  # works shown


@require_safe
@for_curators
def overview(request: HttpRequest) -> HttpResponse:
    """The form, and where the catalogue and arXiv differ."""
    return _page(request)


@require_POST
@for_curators
def add(request: HttpRequest) -> HttpResponse:
    """Look a paper up and show it; once confirmed, add it. The second time arXiv's answer is remembered."""
    text, slug = str(request.POST.get("paper", "")).strip(), str(request.POST.get("category", ""))
    context: dict[str, Any] = {"paper": text, "chosen": slug}
    number, category = arxiv_ids.find(text), Category.objects.filter(slug=slug).first()
    if number is None:
        return _page(request, context | {"error": f"expected an arXiv id or address, got {text[:200]!r}"}, 400)
    if slug and category is None:
        return _page(request, context | {"error": f"no category is called {slug!r}"}, 400)
    try:
        if there := Work.objects.filter(arxiv_id=number).first():
            raise arxiv_sync.Exists(there)
        found = next(arxiv_client.metadata([number], HURRIED_S), None)
        if found is None or found.arxiv_id != number:
            return _page(request, context | {"error": f"arXiv does not know {number}"}, 404)
        licence = _licence(number)
        if "confirm" in request.POST:
            work = arxiv_sync.add(found, licence, category, request.user)
            record(request, "add from arXiv", f"{number}: {work.slug}")
            messages.success(request, f"{work.title} was added.")
            return redirect("paper", work.slug)
    except arxiv_sync.Exists as exists:
        return _page(request, context | {"error": str(exists), "there": exists.work}, 409)
    except ArxivFailed as failed:
        return _page(request, context | {"error": str(failed)}, 503)
    context |= {"found": found, "licence": licences.name(licence or ""), "category": category}
    return _page(request, context | {"alike": _alike(found.title)})


def _licence(number: str) -> str | None:
    """The licence, or None if arXiv could not be asked just now: the next sync asks again."""
    try:
        return arxiv_client.licence(number, HURRIED_S)
    except ArxivFailed:
        return None


def _alike(title: str) -> Work | None:
    key = title_key(title)
    return next((work for work in Work.objects.only("slug", "title") if title_key(work.title) == key), None)


def _page(request: HttpRequest, context: dict[str, Any] | None = None, status: int = 200) -> HttpResponse:
    shown: dict[str, Any] = {"categories": Category.objects.all()}
    works = Work.objects.exclude(arxiv_id=None)
    shown["counts"] = works.aggregate(all=Count("pk"), synced=Count("arxiv_synced_at"), oldest=Min("arxiv_synced_at"))
    shown["differing"] = works.exclude(arxiv_differences=[])[:DIFFERING]
    try:
        arxiv_gate.check_frozen()
    except ArxivFailed as frozen:
        shown["frozen"] = "" if context and context.get("error") == str(frozen) else str(frozen)
    return render(request, "catalog/arxiv.html", shown | (context or {}), status=status)
