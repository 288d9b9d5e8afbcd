"""A run as something to cite: what was measured, when, on what, by which commit."""

from django.utils import timezone

from exports import bibtex as tex
from exports.names import Name
from exports.reference import Reference
from reproductions.models import Run


def of_run(run: Run, page: str) -> Reference:
    """A finished run as a dataset at its page's address."""
    ended = timezone.localtime(run.job.ended_at) if run.job.ended_at else None
    commit = (run.environment.get("commit") or "")[:12]
    asked = f"size {run.size}, seed {run.seed}, measurement {run.measurement}"
    details = [asked, f"commit {commit}" if commit else ""]
    return Reference(
        key=f"claimcheck-run-{run.pk}",
        kind="dataset",
        title=f"Replication of “{run.reproduction.work.title}” on {run.device_name}: run {run.pk}",
        authors=[Name(literal="Claimcheck")],
        url=page,
        container="Claimcheck",
        year=ended.year if ended else None,
        month=ended.month if ended else None,
        day=ended.day if ended else None,
        note="; ".join(part for part in details if part),
    )


def bibtex(run: Run, page: str = "") -> str:
    """BibTeX of a run; `page` is its full address."""
    return tex.bibtex(of_run(run, page))
