"""Pages about the machinery."""

from django.conf import settings
from django.contrib.auth.decorators import login_required, user_passes_test
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from config import clock
from config.audit import record
from config.http import HtmxRequest, UserRequest
from config.observed import REQUEST_SECONDS
from config.quota import Full
from config.rest import Problem, problem_response
from jobs import queue, services, supervise
from jobs.failures import FAILURES
from jobs.health import check
from jobs.health import ready as is_ready
from jobs.models import Job, Node
from jobs.monitoring import Installation
from jobs.node import MOST_MEASURED

LOG_SHOWN = 40_000  # characters at the end of a log


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
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus reads: for operators, or with METRICS=public for everybody who can reach the site."""
    if settings.METRICS != "public" and not request.user.is_staff:
        signed_in = request.user.is_authenticated
        said = "metrics are for operators; see METRICS in docs/operations.md"
        return problem_response(request, Problem(403 if signed_in else 401, said))
    registry = CollectorRegistry()
    registry.register(Installation())
    registry.register(REQUEST_SECONDS)
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


@require_safe
def nodes(request: HttpRequest) -> HttpResponse:
    """Every worker that was heard in the last day: what it has, what it does, when it spoke."""
    doing = {a.node: job for job in Job.objects.active() for a in job.attempts.filter(number=job.attempt)}
    now = clock.now()
    heard = [(node, int((now - node.heartbeat_at).total_seconds())) for node in Node.objects.with_deeds()]
    rows = [(node, doing.get(node.name), seconds) for node, seconds in heard]
    return render(
        request, "jobs/nodes.html", {"rows": rows, "silent_s": settings.LOST_AFTER_S, "most_measured": MOST_MEASURED}
    )


@require_POST
@login_required
@user_passes_test(lambda user: user.is_staff)
def node_drain(request: HttpRequest, pk: int) -> HttpResponse:
    """An operator's wish: the node takes no new job, or takes jobs again."""
    node = get_object_or_404(Node, pk=pk)
    draining = request.POST.get("draining") == "yes"
    Node.objects.filter(pk=node.pk).update(draining=draining)
    record(request, "drain node" if draining else "let node take jobs", node.name)
    return redirect("nodes")


@require_safe
def failures(request: HttpRequest) -> HttpResponse:
    """The catalogue of failures, explained."""
    return render(request, "jobs/failures.html", {"failures": FAILURES})


@require_POST
@login_required
def job_start(request: UserRequest, kind: str) -> HttpResponse:
    """Queue a job for the control process, or show the one that does the same; its kind says who may ask for what."""
    module = supervise.kind_named(kind) if kind in settings.JOB_KINDS else None
    if not hasattr(module, "asked"):
        raise Http404(f"no form starts a job of kind {kind}")
    assert module
    arguments = module.asked(request.user, request.POST)
    asked: dict = {"kind": kind, "device": "control", "time_limit_s": module.TIME_LIMIT_S, "arguments": arguments}
    try:
        job = services.enqueue_once(**asked, user=request.user)
    except Full as full:
        return render(request, "429.html", {"said": full}, status=429)
    record(request, f"start {kind} job", f"job {job.pk} {' '.join(arguments)}".strip())
    return redirect("job", pk=job.pk)


@require_safe
def job(request: HtmxRequest, pk: int) -> HttpResponse:
    """A job that is no run: its state for everybody, its log for its owner and operators."""
    found = get_object_or_404(Job.objects.select_related("user"), pk=pk)
    module = supervise.kind_of(found) if found.kind in settings.JOB_KINDS else None
    if not hasattr(module, "about"):
        raise Http404(f"job {pk} has no page of its own")
    assert module
    mine = is_of(request, found)
    title, address = module.about(found, mine=mine)
    context: dict = {"job": found, "title": title, "address": address, "mine": mine}
    if mine:
        context["log"] = found.log[-LOG_SHOWN:]
    else:
        found.reason = ""  # it may say again what was asked for
    if found.status == Job.Status.QUEUED:
        context |= {"ahead": queue.position(found), "waits": queue.waiting_s(found)}
    partial = context["partial"] = bool(request.htmx and not request.htmx.history_restore_request)
    response = render(request, "jobs/_job.html" if partial else "jobs/job.html", context)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "HX-Request"
    return response


def is_of(request: HttpRequest, job: Job) -> bool:
    """Whether a job is this visitor's to see whole and to cancel: its owner's or an operator's."""
    return request.user.is_authenticated and (job.user_id == request.user.pk or request.user.is_staff)


def note_cancelled(request: HttpRequest, job: Job) -> None:
    """Into the audit log, if it was somebody else's; what people do with their own, their job's page tells."""
    if job.user_id != request.user.pk:
        record(request, "cancel job", f"{job.kind} job {job.pk} of {job.user or 'nobody'}")


@require_POST
@login_required
def job_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask for the job's end; one that has ended stays as it is."""
    found = get_object_or_404(Job, pk=pk)
    if not is_of(request, found):
        raise PermissionDenied("only the owner of a job or an operator may cancel it")
    if not found.is_final:
        services.cancel(found)
        note_cancelled(request, found)
    return redirect("job", pk=pk)
