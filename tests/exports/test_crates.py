"""A run as a Process Run Crate: the profile's rules, read from its page, and the command that repeats the run."""

import io
import json
import os
import shlex
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from jobs.models import Job
from jobs.states import change
from reproductions import runs
from reproductions.models import Reproduction, Run
from tests.site import measured
from tests.waiting import allowed

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
PROFILE = "https://w3id.org/ro/wfrun/process/"
ENDED = {f"http://schema.org/{word}ActionStatus" for word in ("Completed", "Failed")}


@pytest.fixture
def made(catalogue):
    return measured.reproduction()


def download(client, run: Run) -> zipfile.ZipFile:
    response = client.get(f"/runs/{run.pk}/crate.zip")
    assert response.status_code == 200 and "attachment" in response["Content-Disposition"]
    return zipfile.ZipFile(io.BytesIO(b"".join(response.streaming_content)))


def listed(value) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]


def validate(crate: zipfile.ZipFile) -> list[str]:
    """What breaks a MUST or a SHOULD of RO-Crate 1.1's root and of Process Run Crate 0.5, one line each."""
    metadata = json.loads(crate.read("ro-crate-metadata.json"))
    entities = {entity["@id"]: entity for entity in metadata["@graph"]}
    problems = [] if len(entities) == len(metadata["@graph"]) else ["an @id is used twice"]

    def expect(held, what: str) -> None:
        if not held:
            problems.append(what)

    def types(entity) -> list:
        return listed(entity.get("@type"))

    contexts = listed(metadata["@context"])
    expect("https://w3id.org/ro/crate/1.1/context" in contexts, "context of RO-Crate 1.1")
    expect("https://w3id.org/ro/terms/workflow-run/context" in contexts, "context of workflow-run")
    descriptor = entities["ro-crate-metadata.json"]
    expect(descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}, "the descriptor's conformsTo")
    root = entities[descriptor["about"]["@id"]]
    for name in ("name", "description", "datePublished", "license"):
        expect(root.get(name), f"root: {name}")
    profiles = [entities.get(one["@id"]) for one in listed(root.get("conformsTo"))]
    ours = [one for one in profiles if one and one["@id"].startswith(PROFILE) and "CreativeWork" in types(one)]
    expect(ours, "root: conformsTo the profile, which is a CreativeWork of the crate")
    for entity in entities.values():
        for name, value in entity.items():
            for one in listed(value):
                if isinstance(one, dict) and name != "conformsTo":
                    expect(one.get("@id") in entities, f"{entity['@id']}: {name}: {one} leads nowhere")
    files = {one["@id"] for one in listed(root.get("hasPart"))}
    expect(files == set(crate.namelist()) - {"ro-crate-metadata.json"}, "hasPart is what the zip holds")
    actions = [
        entity for entity in entities.values() if {"CreateAction", "ActivateAction", "UpdateAction"} & {*types(entity)}
    ]
    expect(actions, "an action")
    for action in actions:
        expect({"@id": action["@id"]} in listed(root.get("mentions")), "action: mentioned by the root")
        for name in ("name", "description", "endTime", "agent", "result", "instrument"):
            expect(action.get(name), f"action: {name}")
        for name in ("startTime", "endTime"):
            expect(name not in action or datetime.fromisoformat(action[name]).tzinfo, f"action: {name} is a DateTime")
        for agent in listed(action.get("agent")):
            expect({"Person", "Organization"} & {*types(entities[agent["@id"]])}, "agent: a Person or Organization")
        for tool in (entities[one["@id"]] for one in listed(action.get("instrument"))):
            kinds = {"SoftwareApplication", "SoftwareSourceCode", "ComputationalWorkflow"}
            expect(kinds & {*types(tool)}, "instrument: a SoftwareApplication")
            expect(tool.get("name") and tool.get("url"), "instrument: name and url")
            expect(bool(tool.get("version")) != bool(tool.get("softwareVersion")), "instrument: one version")
        for one in listed(action.get("object")) + listed(action.get("result")):
            kinds = {"File", "Dataset", "Collection", "CreativeWork", "PropertyValue"}
            expect(kinds & {*types(entities[one["@id"]])}, f"{one}: expected a File or a PropertyValue")
        expect(action.get("actionStatus") in ENDED, "actionStatus")
        expect("error" not in action or "Failed" in action["actionStatus"], "error: only of a failed action")
    return problems


def action_of(crate: zipfile.ZipFile) -> dict:
    graph = json.loads(crate.read("ro-crate-metadata.json"))["@graph"]
    return next(entity for entity in graph if entity["@type"] == "CreateAction")


def test_a_finished_run(client, made, django_user_model, tmp_path):
    run = measured.run(made, 1.0, user=django_user_model.objects.create_user("ann"), seed=3)
    crate = download(client, run)
    assert crate.testzip() is None and validate(crate) == []
    action = action_of(crate)
    assert (action["@id"], action["description"]) == (f"urn:uuid:{run.uid}", run.command)
    assert action["actionStatus"].endswith("CompletedActionStatus")
    assert [json.loads(line) for line in crate.read("rows.jsonl").splitlines()] == run.rows
    assert [v["outcome"] for v in json.loads(crate.read("verdicts.json"))] == [v.outcome for v in run.verdicts.all()]
    assert json.loads(crate.read("parameters.json")) == run.parameters and b"<svg" in crate.read("plots/0.svg")
    assert run.command in crate.read("README.md").decode()
    assert not any(name.startswith("spec/") for name in crate.namelist()), "the source now is not what the run ran"
    crate.extractall(tmp_path)
    read = ROCrate(tmp_path)
    assert read.name == f"Run {run.pk} of {made.work.title}"
    assert {e.id for e in read.data_entities} == set(crate.namelist()) - {"ro-crate-metadata.json"}
    assert f"/runs/{run.pk}/crate.zip" in client.get(f"/runs/{run.pk}/").content.decode()


def test_a_failed_run(client, made):
    job = Job.objects.create(kind="run", device="cpu", time_limit_s=10)
    run = Run.objects.create(job=job, reproduction=made, size="cpu", device="cpu", parameters={"lengths": [1]},
                             scale="reduced", measurement="0" * 16, checks=measured.CHECKS)  # fmt: skip
    assert client.get(f"/runs/{run.pk}/crate.zip").status_code == 409
    change(job.pk, 0, [Job.Status.QUEUED], Job.Status.STARTING)
    change(job.pk, 1, [Job.Status.STARTING], Job.Status.FAILED, code="timeout", reason="stopped after 10 s")
    crate = download(client, run)
    assert validate(crate) == [] and action_of(crate)["error"] == "timeout: stopped after 10 s"
    assert "verdicts.json" not in crate.namelist()
    assert client.get("/runs/999999/crate.zip").status_code == 404


@pytest.mark.parametrize("name", ["endTime", "instrument", "agent", "result", "actionStatus"])
def test_the_validator_sees_what_is_missing(client, made, name):
    crate = download(client, measured.run(made, 1.0))
    broken = zipfile.ZipFile(io.BytesIO(), "w")
    for path in crate.namelist():
        data = crate.read(path)
        if path == "ro-crate-metadata.json":
            metadata = json.loads(data)
            for entity in metadata["@graph"]:
                if entity["@type"] == "CreateAction":
                    del entity[name]
            data = json.dumps(metadata).encode()
        broken.writestr(path, data)
    assert validate(broken)


TIMED = {"ms", "topk_ms", "gain", "gain_at_longest", "roof_tflops", "roof_gb_per_s"}


def reproductions(*words: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=allowed(300)
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_command_in_the_crate_repeats_the_run(client, catalogue, tmp_path):
    """The worker's own steps, then the printed line as a person would type it, in a checkout."""
    from catalog.models import Work

    shown = reproductions("-m", "reproductions", "show", "online-softmax", "--json")
    data = json.loads(shown.stdout)
    made = Reproduction.objects.create(
        work=Work.objects.get(slug="online-softmax"),
        question=data["question"],
        spec=data,
        measurement=data["measurement"],
    )
    job = Job.objects.create(kind="run", device="cpu", time_limit_s=60)
    run = Run.objects.create(job=job, reproduction=made, size="smoke", device="cpu", seed=5, customised=True,
                             parameters=data["sizes"]["smoke"]["parameters"] | {"columns": [500, 1000]},
                             scale="reduced", measurement=data["measurement"], checks=data["checks"])  # fmt: skip
    reproductions(*runs.command(job, tmp_path))
    change(job.pk, 0, [Job.Status.QUEUED], Job.Status.STARTING)
    change(job.pk, 1, [Job.Status.STARTING], Job.Status.RUNNING)
    runs.store(job, tmp_path, finished=True)
    change(job.pk, 1, [Job.Status.RUNNING], Job.Status.FINISHED)
    crate = download(client, run)
    assert validate(crate) == [] and b"def run(" in crate.read("spec/online_softmax.py")

    python, *words = shlex.split(action_of(crate)["description"])
    assert python == "python"
    reproductions(*words, "--out", str(tmp_path / "again.json"))
    again = json.loads((tmp_path / "again.json").read_text())
    first = [json.loads(line) for line in crate.read("rows.jsonl").splitlines()]
    assert [row.keys() for row in again["rows"]] == [row.keys() for row in first]
    exact = [[{k: v for k, v in row.items() if k not in TIMED} for row in rows] for rows in (first, again["rows"])]
    assert exact[0] == exact[1], "what is no time is the same to the last digit"
    verdicts = json.loads(crate.read("verdicts.json"))
    assert [v["outcome"] for v in verdicts] == [v["outcome"] for v in again["verdicts"]]
    for before, after in zip(verdicts, again["verdicts"], strict=True):
        assert before["value"] is None or before["low"] <= after["value"] <= before["high"], before["claim"]
