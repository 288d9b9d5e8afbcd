"""Results that ship with the project: one JSON file a run in records/, judged anew when it is loaded."""

import datetime
import functools
import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

import jsonschema
from django.conf import settings
from django.db import transaction

from jobs.models import Job
from reproductions import headlines, runs, spec
from reproductions.models import Reproduction, Run

FOLDER = Path(settings.BASE_DIR) / "reproductions" / "records"
HERE = Path(__file__).resolve().parent
COPIED = ("uid", "size", "device", "seed", "parameters", "customised", "scale", "measurement", "declaration", "checks",
          "environment", "rows", "seconds", "peak_memory_mib")  # fmt: skip
PRIVATE = {"host"}  # a person's machine has no place in what ships


class BadRecord(ValueError):
    """A record that cannot be; the message is one line: which file, what was expected, what came."""


def of_run(run: Run) -> dict:
    """A finished run as a record; BadRecord for one that can be no evidence."""
    job = run.job
    if job.status != Job.Status.FINISHED or not (job.started_at and job.ended_at):
        raise BadRecord(f"run {run.pk}: expected a finished run, got one that is {job.status}")
    names = ("measurement", "declaration", "size", "scale", "device", "seed", "parameters", "customised")
    times = {"started": job.started_at.isoformat(), "ended": job.ended_at.isoformat()}
    return _checked(
        f"run {run.pk}",
        {"format": 1, "uid": str(run.uid), "slug": run.reproduction.work.slug}
        | {name: getattr(run, name) for name in names}
        | times
        | {"seconds": run.seconds, "peak_memory_mib": run.peak_memory_mib}
        | {"environment": _public(run.environment), "checks": run.checks, "rows": run.rows},
    )


def of_file(path: Path) -> dict:
    """What `python -m reproductions run … --out FILE` wrote, as a record. Its verdicts are left behind."""
    try:
        text = path.read_text()
        data = json.loads(text, parse_constant=str)
        ended = datetime.datetime.fromtimestamp(data["started"] + data["seconds"], datetime.UTC)
        started = datetime.datetime.fromtimestamp(data["started"], datetime.UTC)
        names = (
            "slug",
            "measurement",
            "declaration",
            "size",
            "scale",
            "device",
            "seed",
            "parameters",
            "seconds",
            "peak_memory_mib",
            "rows",
        )
        kept = {name: data[name] for name in names}
        environment = _public(data["environment"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRecord(f"{path}: expected the file of `run … --out`, got {type(error).__name__}: {error}") from None
    reproduction = Reproduction.objects.filter(work__slug=kept["slug"]).first()
    if reproduction is None or kept["measurement"] not in reproduction.present:
        here = reproduction.measurement if reproduction else "none"
        raise BadRecord(
            f"{path}: expected measurement {here} of {kept['slug']}, got {kept['measurement']}: run it anew"
        )
    own = reproduction.spec["sizes"].get(kept["size"], {}).get("parameters")
    more = {"format": 1, "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, text)), "customised": kept["parameters"] != own}
    times = {"started": started.isoformat(), "ended": ended.isoformat()}
    return _checked(
        str(path), kept | more | times | {"environment": environment, "checks": reproduction.spec["checks"]}
    )


def write(record: dict, folder: Path | None = None) -> Path:
    """To SLUG-SIZE-DEVICE-DATE.json, a row a line; the same run again is the same file, another run another."""
    folder = folder or FOLDER
    folder.mkdir(exist_ok=True)
    known = {json.loads(path.read_text())["uid"]: path for path in folder.glob("*.json")}
    device = re.sub(r"[^a-z0-9]+", "-", record["environment"]["device_name"].lower()).strip("-")
    stem = f"{record['slug']}-{record['size']}-{device}-{record['ended'][:10]}"
    names = (f"{stem}{f'-{i}' if i > 1 else ''}.json" for i in range(1, 1000))
    path = known.get(record["uid"]) or next(folder / name for name in names if not (folder / name).exists())
    rows = ",\n".join(f"  {json.dumps(row)}" for row in record["rows"])
    head = json.dumps({name: value for name, value in record.items() if name != "rows"}, indent=1)
    path.write_text(f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n')
    return path


def load(folder: Path | None = None) -> dict[str, int]:
    """Bring the recorded runs in line with the files. BadRecord, and nothing is changed, if one of them is bad.

    Every file is judged by the present checks, if all that runs is as it was; else by its own, and is outdated.
    """
    files = sorted((folder or FOLDER).glob("*.json"))
    found = {path.name: (read(path), _digest(path)) for path in files}
    counts = dict.fromkeys(("created", "updated", "unchanged", "removed", "skipped"), 0)
    known = {r.work.slug: r for r in Reproduction.objects.select_related("work")}
    touched = set()
    with transaction.atomic():
        for gone in Run.objects.exclude(record="").exclude(record__in=found).select_related("job"):
            touched.add(gone.reproduction_id)
            gone.job.delete()
            counts["removed"] += 1
        for name, (record, digest) in found.items():
            reproduction = known.get(record["slug"])
            what = _load_one(name, record, digest, reproduction) if reproduction else "skipped"
            counts[what] += 1
            if reproduction and what in ("created", "updated"):
                touched.add(reproduction.pk)
        for reproduction in known.values():
            if reproduction.pk in touched:
                headlines.refresh(reproduction)
    return counts


def read(path: Path) -> dict:
    """A record's file; BadRecord if it is not what the schema says."""
    try:
        return _checked(path.name, json.loads(path.read_text(), parse_constant=str))
    except (OSError, ValueError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord(f"{path.name}: cannot be read: {error}") from None


def _load_one(name: str, record: dict, digest: str, reproduction: Reproduction) -> str:
    """ "skipped" if the run itself is here: it is no record then."""
    same = Run.objects.select_related("job")
    held = same.filter(uid=record["uid"]).first() or same.filter(record=name).first()
    if held and not held.record:
        return "skipped"
    if held and (held.record, held.record_digest) == (name, digest):
        return "unchanged"
    current = record["measurement"] in reproduction.present
    size = reproduction.spec["sizes"].get(record["size"], {}) if current else {}
    run = held or Run(reproduction=reproduction)
    run.job = _ended_job(record, size.get("limit_s", 1), held.job if held else Job())
    run.record, run.record_digest = name, digest
    for field in COPIED:
        setattr(run, field, record[field])
    run.save()
    runs.judge(run)
    return "updated" if held else "created"


def _ended_job(record: dict, limit_s: int, job: Job) -> Job:
    """A job that ended before it was known here: no worker ever sees it."""
    job.started_at, job.ended_at = (datetime.datetime.fromisoformat(record[name]) for name in ("started", "ended"))
    job.kind, job.device, job.queued_at, job.time_limit_s = "record", record["device"], job.started_at, limit_s
    if job.pk is None:
        job = Job.objects.create(
            **{f: getattr(job, f) for f in ("kind", "device", "queued_at", "time_limit_s", "started_at", "ended_at")},
            status=Job.Status.FINISHED,
        )
    else:
        job.save(update_fields=["kind", "device", "queued_at", "time_limit_s", "started_at", "ended_at"])
    return job


def _public(environment: dict) -> dict:
    return {name: value for name, value in environment.items() if name not in PRIVATE}


def _checked(name: str, record: Any) -> dict:
    """The record itself; what a schema cannot say is looked at too: times, metrics."""
    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error:
        place = ".".join(map(str, error.absolute_path)) or "the whole"
        raise BadRecord(f"{name}: {place}: {error.message[:200]}")
    try:
        started, ended = (datetime.datetime.fromisoformat(record[field]) for field in ("started", "ended"))
        if started > ended or started.tzinfo is None:
            raise ValueError(f"expected a start before the end, with its zone, got {started} and {ended}")
        for check in record["checks"]:
            spec.check_from_json(check)
    except (ValueError, TypeError, KeyError) as problem:
        raise BadRecord(f"{name}: {type(problem).__name__}: {problem}") from None
    return record


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((HERE / "record.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker(["uuid"]))


def _digest(path: Path) -> str:
    """Of the file and of the judge: a mended judge judges anew."""
    judge = b"".join((HERE / name).read_bytes() for name in ("spec.py", "metrics.py"))
    return hashlib.sha256(path.read_bytes() + judge).hexdigest()
