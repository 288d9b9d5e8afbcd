"""The job kind "arxiv": a sync in the control process, started by a curator's button."""

from pathlib import Path
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.urls import reverse

from catalog import curation
from catalog.models import Work

OWN_CODE = True  # it writes the database and asks arXiv, so it has the whole environment
TIME_LIMIT_S = 6 * 3600  # a first sync of some thousand works; what has come is kept


def command(job: Any, folder: Path) -> list[str]:
    """Arguments for Python: what a person would type, with a folder for progress and the reason of a failure."""
    return ["manage.py", "sync_arxiv", f"--folder={folder}", "--", *job.arguments]


def store(job: Any, folder: Path, *, finished: bool) -> None:
    """Nothing: the command itself writes work by work."""


def stored(job: Any) -> None:
    """Nothing follows."""


def about(job: Any, *, mine: bool) -> tuple[str, str]:
    """What the job's page tells."""
    work = Work.objects.filter(arxiv_id=job.arguments[0]).first() if len(job.arguments) == 1 else None
    if work:
        return f"Sync with arXiv: {work.title}", reverse("paper", args=[work.slug])
    return "Sync of all works with arXiv", reverse("arxiv")


def asked(user: Any, form: Any) -> list[str]:
    """The arXiv id of the form's `work`, or none for all works. For curators; Http404 for a work without an id."""
    if not curation.is_curator(user):
        raise PermissionDenied("this is for curators only")
    slug = form.get("work", "")
    if not slug:
        return []
    work = Work.objects.filter(slug=slug).exclude(arxiv_id=None).first()
    if work is None:
        raise Http404(f"no work with an arXiv id is called {slug}")
    return [str(work.arxiv_id)]
