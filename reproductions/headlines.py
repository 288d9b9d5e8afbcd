"""Which verdict stands for a claim on a device: the largest scale, then the newest, of the current spec."""

import datetime
from collections.abc import Iterable

from catalog import index
from reproductions.models import Reproduction, Run
from reproductions.spec import NOT_TESTABLE, Untested


def refresh(reproduction: Reproduction) -> None:
    """Choose anew and store, so that the list needs no query a row."""
    found = list(choose(reproduction))
    Reproduction.objects.filter(pk=reproduction.pk).update(headlines=found)
    reproduction.headlines = found
    verdicts = sorted({(verdict["device"], verdict["outcome"]) for verdict in reproduction.claim_verdicts})
    newest = max((h["ended_at"] for h in found if h["ended_at"]), default="")
    index.note_standing(
        reproduction.work,
        runnable=not reproduction.retired,
        verdicts=[list(pair) for pair in verdicts],
        newest=datetime.datetime.fromisoformat(newest) if newest else None,
    )


def choose(reproduction: Reproduction) -> Iterable[dict]:
    """One entry a check and device, in the order of the checks; claims no run can test are not among them."""
    best: dict[str, Run] = {}
    runs = reproduction.runs.evidence().filter(measurement__in=reproduction.present)
    for run in runs.prefetch_related("verdicts").select_related("job").order_by("job__ended_at", "pk"):
        held = best.get(run.device_name)
        if held is None or run.rank >= held.rank:
            best[run.device_name] = run
    for i, check in enumerate(reproduction.checks):
        if isinstance(check, Untested):
            continue
        for device_name, run in sorted(best.items()):
            for verdict in run.verdicts.all():
                if verdict.position == i and not _lacked_device(verdict, run):
                    yield _headline(verdict, run, device_name)


def _lacked_device(verdict, run: Run) -> bool:
    """A CPU's "needs a GPU" says nothing once a claim has been tested elsewhere; the page says it from the spec."""
    return verdict.outcome == NOT_TESTABLE


def _headline(verdict, run: Run, device_name: str) -> dict:
    copied = (
        "claim",
        "label",
        "measure",
        "outcome",
        "scale",
        "value",
        "low",
        "high",
        "method",
        "n",
        "bound",
        "because",
        "reason",
    )
    return {name: getattr(verdict, name) for name in copied} | {
        "position": verdict.position,
        "run": run.pk,
        "size": run.size,
        "device": run.device,
        "device_name": device_name,
        "recorded": bool(run.record),
        "ended_at": run.job.ended_at.isoformat() if run.job.ended_at else "",
    }
