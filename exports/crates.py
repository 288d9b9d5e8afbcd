"""A run as a Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5): all that it left, and how to repeat it."""

import io
import json
import tempfile
import tomllib
from pathlib import Path

from django.conf import settings
from django.urls import reverse
from rocrate.model import ContextEntity, Person
from rocrate.rocrate import ROCrate

from config.text import clean_link, cleaned
from jobs.models import Job
from reproductions import drawing, spec
from reproductions.models import Run

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
KINDS = {".json": "application/json", ".jsonl": "application/jsonl", ".svg": "image/svg+xml", ".txt": "text/plain",
         ".md": "text/markdown", ".py": "text/x-python"}  # fmt: skip


def make(run: Run, site: str) -> io.BytesIO:
    """The zip of a run that has ended. `site`: the address of this installation, for links back to its pages."""
    given, left = inputs(run), outputs(run)
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)
    _describe_root(crate, run)
    files = {
        path: crate.add_file(io.BytesIO(data), path, properties=_file(path, what, data))
        for path, (what, data) in (given | left | _readme(run, given | left)).items()
    }
    action = crate.add_action(
        _software(crate, run, site),
        identifier=run.uid.urn,
        object=[files[path] for path in given] + _values(crate, run),
        result=[files[path] for path in left],
        properties=_execution(run),
    )
    action["agent"] = _agent(crate, run)
    crate.root_dataset["mentions"] = [action]
    with tempfile.TemporaryDirectory() as folder:
        crate.write_zip(path := Path(folder) / "crate.zip")
        return io.BytesIO(path.read_bytes())


def inputs(run: Run) -> dict[str, tuple[str, bytes]]:
    """Path -> (what it is, content) of what the run was given. The source, if it still is what the run ran."""
    found = {
        "parameters.json": ("Parameters of the run", _json(run.parameters)),
        "checks.json": (
            "The checks, with their bounds, that the run is judged by",
            _json(run.checks),
        ),
    }
    slug = run.reproduction.work.slug
    if slug in spec.slugs() and spec.measurement_of(slug) == run.measurement:
        path = spec.path_of(slug)
        found[f"spec/{path.name}"] = ("Source of the reproduction", path.read_bytes())
    return found


def outputs(run: Run) -> dict[str, tuple[str, bytes]]:
    """Path -> (what it is, content) of what the run left, and of what the server made of its rows."""
    found = {"environment.json": ("On what it ran: devices and versions", _json(run.environment))}
    if run.rows:
        lines = "".join(f"{json.dumps(row)}\n" for row in run.rows)
        found["rows.jsonl"] = ("All that was measured, a row a line", lines.encode())
    if log := run.job.log:
        found["log.txt"] = ("What it printed", log.encode())
    verdicts = [_verdict(verdict) for verdict in run.verdicts.all()]
    if verdicts:
        found["verdicts.json"] = ("Verdicts, computed by the server from the rows and the checks", _json(verdicts))
    for i, plot in run.drawings:
        found[f"plots/{i}.svg"] = (plot["title"], drawing.svg(plot, run.rows, "light").encode())
    return found


def _verdict(verdict) -> dict:
    return {name: getattr(verdict, name) for name in spec.Verdict.__dataclass_fields__}


def _describe_root(crate: ROCrate, run: Run) -> None:
    work = run.reproduction.work
    crate.name = f"Run {run.pk} of {work.title}"
    crate.description = f"{run.reproduction.question} Size {run.size} on {run.device_name}, by Claimcheck."
    crate.datePublished = _moment(run.job.ended_at)
    crate.license = crate.add(ContextEntity(crate, LICENCE, {"@type": "CreativeWork", "name": "Apache-2.0"}))
    profile = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    crate.root_dataset["conformsTo"] = crate.add(ContextEntity(crate, PROFILE, profile))
    address = clean_link(work.url)
    paper = {"@type": "ScholarlyArticle", "name": cleaned(work.title), "url": address}
    crate.root_dataset["isBasedOn"] = crate.add(ContextEntity(crate, address, paper))


def _software(crate: ROCrate, run: Run, site: str) -> ContextEntity:
    """The tool, with the commit as PEP 440 writes it."""
    project = tomllib.loads((Path(settings.BASE_DIR) / "pyproject.toml").read_text())["project"]
    commit = run.environment.get("commit")
    told = {
        "@type": "SoftwareApplication",
        "name": "Claimcheck",
        "description": project["description"],
        "url": site.rstrip("/") + reverse("paper", args=[run.reproduction.work.slug]),
        "softwareVersion": project["version"] + (f"+g{commit[:12]}" if commit else ""),
    }
    return crate.add(ContextEntity(crate, "#claimcheck", told))


def _agent(crate: ROCrate, run: Run) -> ContextEntity:
    """Whoever asked for it; for a recorded run, the project."""
    if user := run.job.user:
        return crate.add(Person(crate, f"#user-{user.pk}", {"name": user.get_username()}))
    told = {"@type": "Organization", "name": "The Claimcheck project"}
    return crate.add(ContextEntity(crate, "#project", told))


def _values(crate: ROCrate, run: Run) -> list[ContextEntity]:
    values = run.parameters | {"seed": run.seed, "size": run.size, "device": run.device}
    return [
        crate.add(ContextEntity(crate, f"#{name}", {"@type": "PropertyValue", "name": name, "value": value}))
        for name, value in values.items()
    ]


def _execution(run: Run) -> dict:
    """The action. Only a failed one has an error; a cancelled one failed to complete."""
    job = run.job
    completed = job.status == Job.Status.FINISHED
    told = {
        "@type": "CreateAction",
        "name": f"Run {run.pk} of {run.reproduction.work.slug}, size {run.size}",
        "description": run.command,
        "endTime": _moment(job.ended_at),
        "actionStatus": f"http://schema.org/{'Completed' if completed else 'Failed'}ActionStatus",
    }
    if job.started_at:
        told["startTime"] = _moment(job.started_at)
    if not completed:
        told["error"] = ": ".join(filter(None, [job.code or job.status, job.reason]))
    return told


def _readme(run: Run, files: dict) -> dict[str, tuple[str, bytes]]:
    lines = [f"# Run {run.pk} of {run.reproduction.work.title}", "", "The same again, in a checkout of Claimcheck:", ""]
    lines += [f"    {run.command}", "", *(f"- `{path}`: {what}" for path, (what, _) in files.items()), ""]
    return {"README.md": ("What is what, and how to repeat it", "\n".join(lines).encode())}


def _file(path: str, what: str, data: bytes) -> dict:
    return {"name": what, "encodingFormat": KINDS[Path(path).suffix], "contentSize": str(len(data))}


def _json(value) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _moment(moment) -> str:
    return moment.isoformat()
