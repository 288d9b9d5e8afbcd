"""What people ask for: a run, its end, and the sync of specs into rows."""

import json
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from catalog.models import Standing, Work
from config import quota
from jobs import services as jobs
from jobs.models import Job, Node
from reproductions import headlines, parameters, runs, spec
from reproductions.models import Reproduction, Run

DEVICES = ("cpu", "cuda")


class Refused(ValueError):
    """A run that cannot be; the message says what was expected and what came."""


class TooMany(Refused):
    """A run that its user may ask for again once others have ended."""


def start_run(
    reproduction: Reproduction,
    *,
    size: str,
    device: str,
    changes: dict[str, str],
    user: User | None,
    seed: int = 0,
) -> Run:
    """Queue one run. Refused if the size, the device or a parameter is not allowed, if no connected node could take
    it, or if its user has too many that wait already.
    """
    resolved = _checked(reproduction, size, device, changes)
    sizes = reproduction.spec["sizes"]
    own = sizes[size]["parameters"]
    with quota.held(user) if user else transaction.atomic():  # two at once do not exceed
        _check_quota(user)
        job = jobs.enqueue(
            kind="run",
            device=device,
            requires=reproduction.requires,
            time_limit_s=sizes[size]["limit_s"],
            user=user,
            needs=sizes[size].get("needs"),
        )
        return Run.objects.create(
            job=job,
            reproduction=reproduction,
            size=size,
            device=device,
            seed=seed,
            parameters=resolved,
            customised=resolved != own,
            scale=sizes[size]["scale"],
            measurement=reproduction.measurement,
            declaration=reproduction.declaration,
            checks=reproduction.spec["checks"],
        )


def _check_quota(user: User | None) -> None:
    waiting = Job.objects.filter(user=user, status=Job.Status.QUEUED).count() if user else 0
    if waiting >= settings.WAITING_RUNS_PER_USER:
        raise TooMany(f"you have {waiting} runs waiting, as many as one may have: cancel some, or wait")
    if user and (today := jobs.charged(user)) >= settings.RUNS_PER_USER_A_DAY:
        raise TooMany(f"you have asked for {today} runs within 24 hours, as many as one may: wait for tomorrow")


def rerun(run: Run, user: User | None) -> Run:
    """Queue it once more: the same size, device and seed, and its own parameters where they were changed. Of a size's
    own, the present ones count. Refused as above.
    """
    changes = {name: parameters.text(value) for name, value in run.parameters.items()} if run.customised else {}
    asked: dict[str, Any] = {"size": run.size, "device": run.device, "seed": run.seed, "changes": changes}
    return start_run(run.reproduction, **asked, user=user)


def identical(
    reproduction: Reproduction, *, size: str, device: str, changes: dict[str, str], seed: int = 0
) -> Run | None:
    """The newest finished run that had the same reproduction, size, parameters, seed and kind of device; Refused as
    above. A record is none of them: it tells of another machine.
    """
    resolved = _checked(reproduction, size, device, changes)
    same = reproduction.runs.filter(
        size=size, device=device, measurement=reproduction.measurement, parameters=resolved, seed=seed, record=""
    )
    return same.filter(job__status=Job.Status.FINISHED).order_by("-pk").first()


def _checked(reproduction: Reproduction, size: str, device: str, changes: dict[str, str]) -> dict:
    """The parameters of a run that could be, or Refused."""
    sizes = reproduction.spec["sizes"]
    if reproduction.retired:
        raise Refused("this reproduction has been retired: it cannot be run any more")
    if size not in sizes:
        raise Refused(f"size: expected one of {', '.join(sizes)}, got {size!r}")
    if device not in DEVICES:
        raise Refused(f"device: expected one of {', '.join(DEVICES)}, got {device!r}")
    if device not in offered_devices():
        raise Refused(f"device: no connected node has {device}; start one with: manage.py worker --device {device}")
    job = Job(device=device, requires=reproduction.requires, **sizes[size].get("needs", {}))
    if reason := jobs.why_no_node(job):
        raise Refused(f"no connected {device} node can run it: {reason}")
    try:
        return parameters.resolve(sizes[size]["parameters"], reproduction.spec["limits"], changes)
    except parameters.ParameterError as error:
        raise Refused(str(error)) from None


def sizes_offered(reproduction: Reproduction) -> list[dict[str, Any]]:
    """Each size with its scale and the time limit that a node which could take it now would give it, from the least
    to the most; where there is none, that of the reference.
    """
    nodes = list(Node.objects.live().filter(device__in=DEVICES, draining=False, trouble=""))
    found = []
    for name, size in reproduction.spec["sizes"].items():
        needs = {"requires": reproduction.requires} | (size.get("needs") or {})
        able = [node.time_factor for node in nodes if node.can_run(Job(device=node.device, **needs))] or [1.0]
        limits = {"low": size["limit_s"] * min(able), "high": size["limit_s"] * max(able)}
        found.append({"name": name, "scale": size["scale"]} | limits)
    return found


def offered_devices() -> list[str]:
    """Device kinds a run may ask for: the CPU always (its worker may just be starting), others while a node lives."""
    others = Node.objects.live().filter(device__in=DEVICES).exclude(device="cpu")
    return ["cpu", *others.values_list("device", flat=True).distinct().order_by()]


def sync() -> dict[str, int]:
    """Bring the rows in line with the files of papers/; unchanged ones are not loaded. Results that are not outdated
    are judged by the present checks.
    """
    hashes = {slug: (spec.measurement_of(slug), spec.source_of(slug)) for slug in spec.slugs()}
    known = {r.work.slug: r for r in Reproduction.objects.select_related("work")}
    standing = set(Standing.objects.values_list("work__slug", flat=True))
    stored = {s: (r.measurement, r.spec.get("source")) for s, r in known.items() if not r.retired and s in standing}
    kept = {s for s, found in stored.items() if found == hashes.get(s)}
    changed = [s for s in hashes if s not in kept]
    counts = {"created": 0, "updated": 0, "unchanged": len(hashes) - len(changed), "retired": 0}
    described = _ask_child() if changed else []
    with transaction.atomic():
        for data in described:
            if data["slug"] in changed:
                counts["created" if data["slug"] not in known else "updated"] += 1
                _upsert(data)
        for gone in Reproduction.objects.filter(retired=False).exclude(work__slug__in=hashes):
            counts["retired"] += 1
            gone.retired = True
            gone.save(update_fields=["retired"])
            headlines.refresh(gone)
    for reproduction in Reproduction.objects.filter(retired=False).select_related("work"):
        if runs.judge_anew(reproduction):
            headlines.refresh(reproduction)
    return counts


def _upsert(data: dict) -> None:
    work = Work.objects.get(slug=data["slug"])
    fields = {name: data[name] for name in ("question", "measurement", "declaration")}
    fields |= {"spec": data, "retired": False}
    reproduction, _ = Reproduction.objects.update_or_create(work=work, defaults=fields)
    headlines.refresh(reproduction)


def _ask_child() -> list[dict]:
    """Every spec as JSON, printed by a child: this process never imports torch."""
    command = [sys.executable, "-m", "reproductions", "list", "--json"]
    asked = subprocess.run(command, capture_output=True, text=True, cwd=settings.BASE_DIR)
    if asked.returncode:
        raise Refused(f"reading the specs failed: {(asked.stderr.strip() or '?').splitlines()[-1]}")
    return json.loads(asked.stdout)
