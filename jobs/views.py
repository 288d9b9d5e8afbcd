"""Pages about the machinery."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from jobs.health import check


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """What works and what does not; status 503 if anything does not."""
    parts = check()
    well = all(part.ok for part in parts)
    return render(request, "jobs/health.html", {"parts": parts, "well": well}, status=200 if well else 503)
