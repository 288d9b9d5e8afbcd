"""Downloads."""

from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from exports import crates
from reproductions.models import Run


@require_safe
def crate(request: HttpRequest, pk: int) -> HttpResponse | FileResponse:
    """All that a run left, as a Process Run Crate; 409 while it goes on."""
    run = get_object_or_404(Run.objects.select_related("job__user", "reproduction__work"), pk=pk)
    if not run.job.is_final:
        return render(request, "exports/not_yet.html", {"run": run}, status=409)
    name = f"{run.reproduction.work.slug}-run-{run.pk}.zip"
    return FileResponse(crates.make(run, request.build_absolute_uri("/")), as_attachment=True, filename=name)
