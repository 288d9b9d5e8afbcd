"""The job kind "bundle": the control process binds a PDF. Who may ask for which kind is told here."""

import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.urls import reverse

from config.audit import record
from exports import bundle_plan, bundle_store
from exports.bundle_plan import PRIVATE, REPORT
from exports.bundle_store import Made
from jobs import services
from jobs.models import Job

OWN_CODE = True  # it reads the database and may ask arXiv
TIME_LIMIT_S = 2 * 3600
NAME_KEPT = 1000  # jobs whose bundle is remembered


def command(job: Any, folder: Path) -> list[str]:
    """Arguments for Python: what a person would type, with a folder for progress and what came of it.

    Each value is one word with its option: a query that begins with "-" is no option of its own.
    """
    kind, query, rest = job.arguments[1], job.arguments[3], job.arguments[4:]
    return ["manage.py", "bundle", f"--kind={kind}", f"--query={query}", *rest, f"--folder={folder}"]


def store(job: Any, folder: Path, *, finished: bool) -> None:
    """Which bundle it made; the bundle itself is where bundles lie."""
    if finished:
        _jobs().mkdir(exist_ok=True)
        os.replace(folder / "bundle.json", _jobs() / f"{job.pk}.json")
        for old in sorted(_jobs().glob("*.json"), key=lambda path: path.stat().st_mtime)[:-NAME_KEPT]:
            old.unlink(missing_ok=True)


def stored(job: Any) -> None:
    """Nothing follows."""


def about(job: Any, *, mine: bool) -> tuple[str, str]:
    """Return the title of the job's page and where it leads: to the bundle, once it is there.

    The title holds the query only if the job is the visitor's own (`mine`).
    """
    kind, query = job.arguments[1], job.arguments[3]
    address = reverse("bundles")
    if name := made_by(job.pk):
        address += f"#{name}"
    return f"PDF bundle, {kind}" + (f": {query or 'the whole list'}" if mine else ""), address


def made_by(pk: int) -> str:
    """The name of the bundle that a job made; empty if it is not known."""
    try:
        return json.loads((_jobs() / f"{pk}.json").read_text())["name"]
    except (OSError, ValueError, KeyError):
        return ""


def ask(kind: str, query: str, user: Any, *, fetch: bool = False) -> Made | Job:
    """The bundle if it is there already, else the job that makes it.

    PermissionDenied, or bundle_plan.NotUnderstood, with one line for people.
    """
    if not user.is_authenticated:
        raise PermissionDenied("sign in to make a bundle")
    if (kind == PRIVATE or fetch) and not user.is_staff:
        raise PermissionDenied("private bundles and fetching papers are for operators only")
    made = bundle_plan.plan(kind, query, user)
    if kind == REPORT and (found := bundle_store.made(made.name)):
        bundle_store.note_asked(found, user, query)
        return found
    arguments = ["--kind", kind, "--query", query]
    arguments += [f"--user={user.pk}"]  # so that each has a job of his own, whose query nobody else is told
    arguments += ["--fetch"] if fetch else []
    return services.enqueue_once(
        kind="bundle", device="control", time_limit_s=TIME_LIMIT_S, user=user, arguments=arguments
    )


def note_asked(request: HttpRequest, kind: str, query: str, *, fetch: bool) -> None:
    """Into the audit log, what only operators may ask for."""
    if kind == PRIVATE or fetch:
        record(request, "ask for bundle", f"{kind}{', fetching papers' if fetch else ''}: {query or 'the whole list'}")


def _jobs() -> Path:
    return settings.DATA_DIR / "bundles" / "jobs"
