"""Pages about the machinery."""

from django.contrib.auth.decorators import login_required, user_passes_test
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from jobs.failures import FAILURES
from jobs.health import check
from jobs.health import ready as is_ready
from jobs.models import Job, Node


@require_safe
@never_cache
def health(request: HttpRequest) -> HttpResponse:
    """What works and what does not; status 503 if anything does not."""
    parts = check()
    well = all(part.ok for part in parts)
    return render(request, "jobs/health.html", {"parts": parts, "well": well}, status=200 if well else 503)


@require_safe
@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """A probe: this process answers."""
    return HttpResponse("live\n", content_type="text/plain")


@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """A probe: this process can serve pages; 503 while the database does not answer."""
    well = is_ready()
    return HttpResponse("ready\n" if well else "not ready\n", content_type="text/plain", status=200 if well else 503)


@require_safe
def nodes(request: HttpRequest) -> HttpResponse:
    """Every worker that was heard in the last day: what it has, what it does, when it spoke."""
    doing = {a.node: job for job in Job.objects.active() for a in job.attempts.filter(number=job.attempt)}
    rows = [(node, doing.get(node.name)) for node in Node.objects.all()]
    return render(request, "jobs/nodes.html", {"rows": rows})


@require_POST
@login_required
@user_passes_test(lambda user: user.is_staff)
def node_drain(request: HttpRequest, pk: int) -> HttpResponse:
    """An operator's wish: the node takes no new job, or takes jobs again."""
    node = get_object_or_404(Node, pk=pk)
    Node.objects.filter(pk=node.pk).update(draining=request.POST.get("draining") == "yes")
    return redirect("nodes")


@require_safe
def failures(request: HttpRequest) -> HttpResponse:
    """The catalogue of failures, explained."""
    return render(request, "jobs/failures.html", {"failures": FAILURES})
