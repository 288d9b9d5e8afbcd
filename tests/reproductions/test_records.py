"""Results that ship: written, held to the schema, loaded, judged anew."""

import json
import uuid
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Job
from reproductions import records, services, spec
from reproductions.models import Run
from tests.site import measured

pytestmark = pytest.mark.django_db


@pytest.fixture
def made(catalogue):
    return measured.reproduction()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty folder of records."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def recorded(made, shelf):
    """The file of a run that is no longer here."""
    run = measured.run(made, 1.5)
    path = records.write(records.of_run(run))
    run.job.delete()
    return path


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_record_comes_back_as_it_was(made, shelf):
    run = measured.run(made, 1.5)
    out = StringIO()
    call_command("record", str(run.pk), stdout=out)
    path = shelf / f"flashattention-cpu-test-cpu-{run.job.ended_at:%Y-%m-%d}.json"
    assert out.getvalue().strip() == str(path)
    assert "verdict" not in path.read_text() and "secret" not in path.read_text(), "no figure of ours, no host"
    before = [(v.claim, v.outcome, v.value, v.low, v.high, v.bound) for v in run.verdicts.all()]
    assert records.load()["skipped"] == 1, "the run itself is here"
    run.job.delete()
    assert records.load() == {"created": 1, "updated": 0, "unchanged": 0, "removed": 0, "skipped": 0}
    loaded = Run.objects.get()
    assert [(v.claim, v.outcome, v.value, v.low, v.high, v.bound) for v in loaded.verdicts.all()] == before
    assert (loaded.uid, loaded.record, loaded.rows) == (run.uid, path.name, run.rows)
    assert loaded.job.ended_at == run.job.ended_at and loaded.job.status == Job.Status.FINISHED
    made.refresh_from_db()
    assert made.headlines[0]["recorded"] and made.headlines[0]["run"] == loaded.pk


def test_loading_twice_changes_nothing_and_a_removed_file_goes(made, recorded, client):
    assert records.load()["created"] == 1
    pk = Run.objects.get().pk
    assert records.load()["unchanged"] == 1
    rows = json.loads(recorded.read_text())["rows"]
    change(recorded, rows=[row | {"error": 9.0} for row in rows])
    assert records.load()["updated"] == 1
    run = Run.objects.get()
    assert run.pk == pk and run.verdicts.first().outcome == "contradicted", "judged by its rows"
    page = " ".join(client.get("/papers/flashattention/").content.decode().split())
    assert f"recorded {run.job.ended_at:%Y-%m-%d}" in page and "Test CPU" in page
    assert "recorded on" in client.get(f"/runs/{run.pk}/").content.decode()
    recorded.unlink()
    assert records.load()["removed"] == 1 and not Job.objects.exists()
    made.refresh_from_db()
    assert made.headlines == []


def test_a_record_is_not_offered_in_place_of_a_run(made, recorded):
    records.load()
    asked = {"size": "cpu", "device": "cpu", "changes": {}}
    assert services.identical(made, **asked) is None
    run = measured.run(made, 1.0)
    assert services.identical(made, **asked) == run


def test_a_mended_judge_judges_anew(made, recorded, monkeypatch):
    records.load()
    monkeypatch.setattr(records, "_digest", lambda path: "another")
    assert records.load()["updated"] == 1


def test_a_record_cannot_choose_its_bound(made, recorded):
    checks = json.loads(recorded.read_text())["checks"]
    change(recorded, checks=[checks[0] | {"at_most": 0.1}, *checks[1:]])
    records.load()
    assert Run.objects.get().verdicts.first().bound == "at most 2", "the spec's, since it is the spec's own hash"


def test_a_record_of_another_version_is_stale(made, recorded, client):
    change(recorded, measurement="f" * 16)
    records.load()
    made.refresh_from_db()
    assert Run.objects.get().is_stale and made.headlines == []
    assert 'id="stale"' in client.get("/papers/flashattention/").content.decode()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"verdicts": []}, "'verdicts' was unexpected"),
        ({"rows": []}, "rows: "),
        ({"rows": [{"x": [1]}]}, "rows.0.x: "),
        ({"uid": "x"}, "uid: "),
        ({"size": "smoke"}, "size: "),
        ({"started": "yesterday"}, "ValueError"),
        ({"ended": "2001-01-01T00:00:00+00:00"}, "expected a start before the end"),
        ({"started": "2001-01-01T00:00:00", "ended": "2001-01-01T00:00:00"}, "with its zone"),
        ({"checks": [{"claim": "x", "metric": {"metric": "Best", "column": "x"}, "at_most": 1}]}, "KeyError: 'Best'"),
        ({"environment": {"cpu": "x"}}, "environment: 'device_name' is a required property"),
    ],
)
def test_a_bad_record_changes_nothing(made, recorded, fields, words):
    other = recorded.with_name("good.json")
    other.write_text(recorded.read_text())
    change(other, uid=str(uuid.uuid4()))
    change(recorded, **fields)
    with pytest.raises(CommandError, match=words) as refused:
        call_command("load_records", verbosity=0)
    assert recorded.name in str(refused.value) and "\n" not in str(refused.value)
    assert not Run.objects.exists() and not Job.objects.exists()


def test_half_a_file(made, recorded):
    recorded.write_text(recorded.read_text()[:100])
    with pytest.raises(CommandError, match=f"{recorded.name}: cannot be read"):
        call_command("load_records", verbosity=0)


@pytest.mark.parametrize(
    ("run", "words"),
    [("77", "there is no run 77"), ("nothing.json", "expected the file of"), ("setup.cfg", "expected")],
)
def test_a_run_that_cannot_be_recorded(made, shelf, run, words):
    with pytest.raises(CommandError, match=words) as refused:
        call_command("record", run)
    assert refused.value.returncode == 2


def test_what_is_no_evidence_is_no_record(made, shelf):
    smoke = measured.run(made, 1.0, size="smoke")
    with pytest.raises(CommandError, match="size: 'smoke' is not one of"):
        call_command("record", str(smoke.pk))
    waiting = Run.objects.create(
        job=Job.objects.create(kind="run", device="cpu", time_limit_s=1), reproduction=made, size="cpu", device="cpu",
        parameters={}, scale="reduced", measurement="0" * 16, checks=[],
    )  # fmt: skip
    with pytest.raises(CommandError, match="expected a finished run, got one that is queued"):
        call_command("record", str(waiting.pk))
    assert not list(shelf.iterdir())


def test_what_the_command_line_measured_elsewhere(made, shelf, tmp_path):
    out = {"slug": "flashattention", "measurement": "0" * 16, "declaration": "d" * 16,
           "size": "cpu", "scale": "reduced", "device": "cpu",
           "seed": 0, "threads": 1, "parameters": {"lengths": [1, 2]}, "started": 1.7e9, "seconds": 2.5,
           "peak_memory_mib": 9,
           "environment": {"device_name": "A B (R)", "cpu": "c", "torch": "2", "python": "3", "host": "secret"},
           "rows": measured.rows(1.0), "verdicts": [{"claim": "exactness", "outcome": "replicated"}]}  # fmt: skip
    (tmp_path / "out.txt").write_text(json.dumps(out))
    call_command("record", str(tmp_path / "out.txt"), stdout=StringIO())
    call_command("record", str(tmp_path / "out.txt"), stdout=StringIO())  # the same file again
    assert [path.name for path in shelf.glob("*.json")] == ["flashattention-cpu-a-b-r-2023-11-14.json"]
    assert records.load()["created"] == 1 and Run.objects.get().verdicts.first().outcome == "replicated"
    (tmp_path / "out.txt").write_text(json.dumps(out | {"measurement": "f" * 16}))
    with pytest.raises(CommandError, match="run it anew"):
        call_command("record", str(tmp_path / "out.txt"))


SHIPPED = sorted(records.FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_is_valid(path):
    record = records.read(path)
    assert record["slug"] in spec.slugs() and not record["customised"]
    assert path.name.startswith(f"{record['slug']}-{record['size']}-") and record["ended"][:10] in path.name
    assert record["environment"]["dirty"] is False, "measured by what was committed"


def test_something_ships():
    assert {json.loads(path.read_text())["slug"] for path in SHIPPED} == set(spec.slugs())
