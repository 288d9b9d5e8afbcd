"""Atom: runs that have ended, the newest first."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.feeds import Feed, clean, named, plain
from jobs.models import Job
from reproductions.models import Run

MANY = 50


@require_safe
def runs(request: HttpRequest) -> HttpResponse:
    """How the last runs ended, of one work with `?work=SLUG`. Recorded results are not among them: nothing ended."""
    found = Run.objects.filter(job__status__in=Job.FINAL, record="").select_related("job", "reproduction__work")
    if slug := request.GET.get("work", ""):
        found = found.filter(reproduction__work__slug=slug)
    feed = Feed(
        title=clean(f"Runs of {slug}" if slug else "Runs"),
        link=request.build_absolute_uri(reverse("runs")),
        description=None,
        feed_url=request.build_absolute_uri(),
        feed_guid=named(f"runs feed {slug}"),
        author_name="Claimcheck",
        language="en",
    )
    for run in found.defer("rows").prefetch_related("verdicts").order_by("-job__ended_at", "-pk")[:MANY]:
        _add(feed, request, run)
    return HttpResponse(feed.writeString("utf-8"), content_type=Feed.content_type)


def _add(feed: Feed, request: HttpRequest, run: Run) -> None:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in run.outcome_counts)
    how = f"{run.job.status}: {counts}" if counts else " ".join(filter(None, [run.job.status, run.job.code]))
    where = f"Size {run.size} on {run.device_name}. {run.job.reason}".strip()
    told = [f"{v.claim}{f' ({v.label})' if v.label else ''}: {v.outcome}" for v in run.verdicts.all()]
    feed.add_item(
        title=clean(f"Run {run.pk} of {run.reproduction.work.title} {how}"),
        link=request.build_absolute_uri(reverse("run", args=[run.pk])),
        description=plain("\n".join([where, *told])),
        unique_id=run.uid.urn,
        pubdate=run.job.queued_at,
        updateddate=run.job.ended_at,
        categories=[run.reproduction.work.slug, run.size, run.device],
    )
