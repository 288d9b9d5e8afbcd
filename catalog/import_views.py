"""Upload a list, look at what it would do row by row, then apply all of it or nothing. For curators."""

from typing import Any

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from catalog import imports
from catalog.editing import for_curators
from catalog.models import ListImport
from config import clock
from config.audit import record
from config.http import UserRequest, whole_number
from config.quota import Full
from config.text import cleaned

LIMIT = 5 * 1024 * 1024
PAGE = 200
CHANGED = "The catalogue has changed since this was shown, so nothing was written. Below is what would happen now."
KINDS = {"create": "new", "change": "changed", "unchanged": "as it is", "question": "question"}


class Refused(Exception):
    """An upload or a confirmation that cannot be taken; the message says why."""


@require_http_methods(["GET", "HEAD", "POST"])
@for_curators
def upload(request: UserRequest) -> HttpResponse:
    """The form and earlier imports; a file that was sent becomes a preview."""
    error, status = "", 400
    if request.method == "POST":
        file = request.FILES.get("file")
        try:
            text = read(file if isinstance(file, UploadedFile) else None)
        except Refused as refused:
            error = str(refused)
        else:
            name = cleaned(str(getattr(file, "name", "")))[-200:]
            try:
                return redirect("import-preview", pk=imports.keep(request.user, name, text).pk)
            except Full as full:
                error, status = f"Not kept: {full}.", 409
    recent = ListImport.objects.select_related("user").defer("text")[:20]
    return render(request, "catalog/import.html", {"error": error, "recent": recent}, status=status if error else 200)


def read(file: UploadedFile | None) -> str:
    """The text of an upload."""
    if file is None:
        raise Refused("Choose a file first.")
    if (file.size or 0) > LIMIT:
        raise Refused(
            f"{file.name} has {(file.size or 0) / 1024**2:.1f} MB; a list may have {LIMIT // 1024**2} MB at most."
        )
    try:
        text = file.read().decode("utf-8").replace("\x00", "\ufffd")
    except UnicodeDecodeError as error:
        raise Refused(f"{file.name} is not a text in UTF-8 (byte {error.start}).") from None
    if not text.strip():
        raise Refused(f"{file.name} is empty.")
    return text


@require_safe
@for_curators
def preview(request: HttpRequest, pk: int) -> HttpResponse:
    """What an upload would do now, row by row; once applied, what it did."""
    return _preview(request, get_object_or_404(ListImport.objects.select_related("user"), pk=pk))


def _preview(request: HttpRequest, found: ListImport, *, error: str = "", status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {"found": found, "error": error}
    if not found.applied_at:
        plan = imports.plan(found.text)
        kind = request.GET.get("kind", "")
        chosen = [item for item in plan.items if item.kind == kind] if kind in KINDS else plan.items
        counts = {name: sum(item.kind == name for item in plan.items) for name in KINDS}
        context |= {
            "plan": plan,
            "kind": kind if kind in KINDS else "",
            "kinds": [(name, word, counts[name]) for name, word in KINDS.items() if counts[name]],
            "page": Paginator(chosen, PAGE).get_page(request.GET.get("page")),
        }
    return render(request, "catalog/import_preview.html", context, status=status)


@require_POST
@for_curators
def apply(request: HttpRequest, pk: int) -> HttpResponse:
    """Apply an upload as it was shown, in one transaction."""
    found = get_object_or_404(ListImport, pk=pk)
    try:
        with transaction.atomic():
            if not ListImport.objects.filter(pk=pk, applied_at=None).update(applied_at=clock.now()):
                raise Refused("This list was applied already.")
            plan = imports.plan(found.text)
            if plan.digest != request.POST.get("digest", found.digest):
                raise Refused(CHANGED)
            if answers := _answers(request):
                plan = imports.plan(found.text, answers)
            counts = imports.apply(plan, request.user, f"import of {found.name}")
            ListImport.objects.filter(pk=pk).update(result=counts)
    except Refused as refused:
        found = get_object_or_404(ListImport, pk=pk)
        return _preview(request, found, error=str(refused), status=409)
    record(request, "apply import", f"{pk}: {found.name}")
    messages.success(request, f"{found.name} was applied.")
    return redirect("import-preview", pk=pk)


@require_POST
@for_curators
def discard(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove an upload that was not applied."""
    found = get_object_or_404(ListImport, pk=pk)
    if ListImport.objects.filter(pk=pk, applied_at=None).delete()[0]:
        record(request, "discard import", f"{pk}: {found.name}")
        messages.success(request, f"{found.name} was removed; nothing of it was applied.")
    else:
        messages.error(request, f"{found.name} was applied or removed already.")
    return redirect("import")


def _answers(request: HttpRequest) -> dict[int, str]:
    """Where the rows in question belong; one without an answer is left out."""
    given = {key[7:]: str(value) for key, value in request.POST.items() if key.startswith("answer-")}
    numbers = {line: whole_number(line) for line in given}
    return {number: given[line] for line, number in numbers.items() if number is not None}
