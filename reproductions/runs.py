"""The job kind "run": the command line of a run, and what becomes of what it leaves behind."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from django.db import transaction

from jobs.models import Job, LogChunk
from jobs.supervise import BadResult
from reproductions import headlines, parameters, spec
from reproductions.models import Reproduction, Run, Verdict

NOT_YET = "not measured yet"
ROWS_LIMIT = 16 * 2**20  # bytes of rows kept a run


def command(job: Job, folder: Path) -> list[str]:
    """Arguments for Python: the same command a person would type, with a folder for its results."""
    return [*job.run.arguments, "--folder", str(folder)]


def store(job: Job, folder: Path, *, finished: bool) -> None:
    """Keep rows and environment; judge them if the process finished. BadResult if what it left cannot be read."""
    run = job.run
    run.rows = _read_rows(folder, strict=finished)
    if not finished:
        Run.objects.filter(pk=run.pk).update(rows=run.rows)
        return
    try:
        result = json.loads((folder / "result.json").read_text())
        run.environment, run.seconds = result["environment"], result["seconds"]
        run.peak_memory_mib = result["peak_memory_mib"]
        if result["measurement"] != run.measurement:
            raise BadResult(f"expected results of measurement {run.measurement}, got {result['measurement']}")
    except (OSError, ValueError, KeyError) as error:
        raise BadResult(f"result.json cannot be read: {type(error).__name__}: {error}") from None
    run.save(update_fields=["rows", "environment", "seconds", "peak_memory_mib"])
    judge(run)


def judge(run: Run) -> None:
    """Store the server's verdicts, from the stored rows; they replace any earlier ones. The present checks count, if
    all that runs is as it was; its own, if the result is outdated.
    """
    asked = {_key(check) for check in run.checks}
    late = {(v.claim, v.label, v.measure) for v in run.verdicts.all() if v.reason.startswith(NOT_YET)}
    _update(run)
    checks = [spec.check_from_json(data) for data in run.checks]
    verdicts = spec.judge(checks, run.rows, device=run.device, scale=run.scale)
    for i, (data, verdict) in enumerate(zip(run.checks, verdicts, strict=True)):
        newer = _key(data) not in asked or (verdict.claim, verdict.label, verdict.measure) in late
        if newer and verdict.outcome == spec.NO_RESULT:  # it asks for what the result was not made to hold
            verdicts[i] = replace(verdict, outcome=spec.NOT_TESTABLE, reason=f"{NOT_YET}: {verdict.reason}")
    run.verdicts.all().delete()
    Verdict.objects.bulk_create(Verdict(run=run, position=i, **asdict(verdict)) for i, verdict in enumerate(verdicts))


def _key(check: dict) -> str:
    """Tell apart what checks measure, whatever their bounds are."""
    return json.dumps([check["claim"], check.get("metric")], sort_keys=True)


def _update(run: Run) -> None:
    """Bring a result that is not outdated to the present declaration."""
    reproduction = run.reproduction
    size = reproduction.spec["sizes"].get(run.size)
    if run.is_stale or (run.declaration == reproduction.declaration and not run.record):
        return
    run.checks, run.declaration = reproduction.spec["checks"], reproduction.declaration  # no record chooses its bound
    run.customised = size is None or run.parameters != size["parameters"]
    run.scale = size["scale"] if size else run.scale
    run.save(update_fields=["checks", "declaration", "scale", "customised"])


def judge_anew(reproduction: Reproduction) -> int:
    """Judge every result that may stand, and was judged by an earlier declaration; returns how many."""
    older = reproduction.runs.evidence().filter(measurement__in=reproduction.present)
    found = list(older.exclude(declaration=reproduction.declaration))
    for run in found:
        run.reproduction = reproduction
        with transaction.atomic():
            judge(run)
    return len(found)


def follow(job: Job) -> str:
    """Bring a waiting run to the present version of its reproduction; why that cannot be, else nothing."""
    run = job.run
    reproduction = run.reproduction
    if reproduction.retired:
        return "its reproduction was retired while it waited"
    if job.requires == reproduction.requires and run.declaration == reproduction.declaration:
        return ""
    size = reproduction.spec["sizes"].get(run.size)
    if size is None:
        return f"its reproduction changed while it waited, and has no size {run.size} any more"
    changes = {name: parameters.text(value) for name, value in run.parameters.items()} if run.customised else {}
    try:
        resolved = parameters.resolve(size["parameters"], reproduction.spec["limits"], changes)
    except parameters.ParameterError as error:
        return f"its reproduction changed while it waited: {error}"
    waits = Job.objects.filter(pk=job.pk, attempt=job.attempt, status=Job.Status.QUEUED)
    with transaction.atomic():
        said = "its reproduction changed while it waited: the present version runs"
        fields = {"requires": reproduction.requires, "time_limit_s": size["limit_s"], "reason": said}
        if waits.update(**fields, **size.get("needs", {})):
            told = {"job": job, "attempt": job.attempt}  # the reason goes as the run starts, its log stays
            LogChunk.objects.create(**told, sequence=LogChunk.objects.filter(**told).count(), text=f"{said}\n")
            Run.objects.filter(pk=run.pk).update(
                parameters=resolved,
                customised=resolved != size["parameters"],
                scale=size["scale"],
                measurement=reproduction.measurement,
                declaration=reproduction.declaration,
                checks=reproduction.spec["checks"],
            )
    return ""


def stored(job: Job) -> None:
    """After the status is final: the paper's page shows the newest verdicts."""
    headlines.refresh(job.run.reproduction)


def _read_rows(folder: Path, *, strict: bool) -> list[dict]:
    """The rows written so far; a killed run may have left half a line, a finished one may not."""
    try:
        text = (folder / "rows.jsonl").read_text()
    except OSError:
        if strict:
            raise BadResult("it left no rows") from None
        return []
    if len(text) > ROWS_LIMIT:
        if strict:
            raise BadResult(f"expected at most {ROWS_LIMIT:,} bytes of rows, got {len(text):,}")
        text = text[:ROWS_LIMIT]
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line, parse_constant=str))  # a database refuses NaN; the judge calls it no result
        except ValueError:
            if strict:
                raise BadResult(f"a row is not JSON: {line[:120]}") from None
    return rows
