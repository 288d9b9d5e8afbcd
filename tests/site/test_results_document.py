"""docs/results.md and the readings: what ships says what was measured, and each verdict that did not hold is read."""

import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from reproductions import identity, readings, results, spec
from reproductions.models import Reproduction, Run
from reproductions.syntax import Reference
from tests.site import measured

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made():
    call_command("load_catalog", verbosity=0)
    return measured.reproduction()


def test_each_claim_stands_beside_what_was_measured(made, monkeypatch):
    reading = {"claim": "exactness", "device": "cpu", "outcome": "contradicted", "reading": "It is\n a break."}
    monkeypatch.setattr(readings, "load", lambda: {"flashattention": [reading]})
    measured.run(made, 3.0)
    text = results.document()
    assert "1 works run; of their 6 claims: 1 contradicted, 1 replicated." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count(" | ") for line in rows}) == 1
    wrong = next(line for line in rows if "**contradicted**" in line)
    assert "| 3 | Test CPU, cpu, " in wrong and wrong.endswith("| It is a break. |")
    assert any("needs hardware counters" in line and "not tested" in line for line in rows)
    assert any("not measured | needs a CUDA GPU" in line for line in rows)


def test_a_reading_goes_when_the_outcome_does(made, monkeypatch, client):
    reading = {"claim": "exactness", "device": "cpu", "outcome": "contradicted", "reading": "It is a break."}
    monkeypatch.setattr(readings, "load", lambda: {"flashattention": [reading]})
    measured.run(made, 3.0)
    assert "It is a break." in client.get("/papers/flashattention/").content.decode()
    measured.run(made, 1.0)
    assert "It is a break." not in client.get("/papers/flashattention/").content.decode()


def test_the_command_writes_where_it_is_told(made, tmp_path):
    out = StringIO()
    call_command("results", stdout=out)
    call_command("results", "-o", str(tmp_path / "results.md"))
    assert (tmp_path / "results.md").read_text() == out.getvalue()
    with pytest.raises(CommandError, match="No such file"):
        call_command("results", "-o", str(tmp_path / "none" / "results.md"))


def test_nothing_stored_is_one_line(installation):
    """Before the tables are there, and before anything is in them."""
    for said in ("the database cannot be read: no such table", "expected works that run, got none"):
        done = installation.manage("results")
        assert done.returncode == 2 and not done.stdout
        assert said in done.stderr and done.stderr.count("\n") == 1
        assert installation.manage("migrate", "-v0").returncode == 0


def python_of_texts() -> str:
    """Return the version, such as 3.11, by which the works that read the standard library were measured."""
    own = Reference("reproductions.data_files", "standard_library")
    works = [s for s in spec.slugs() if own in identity.reached([Reference(spec.module_of(s), "run")])]
    found = Run.objects.exclude(record="").filter(reproduction__work__slug__in=works)
    (version,) = {run.environment["python"].rpartition(".")[0] for run in found}
    return version


def test_what_ships_is_current_and_read():
    """The shipped records, judged by the specs as they are: none stale, the document is theirs, all is read."""
    call_command("load_catalog", verbosity=0)
    call_command("sync_reproductions", verbosity=0)
    call_command("load_records", verbosity=0)
    if (other := python_of_texts()) != f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip(f"the works whose data are Python's own texts were measured with Python {other}")
    found = list(Reproduction.objects.select_related("work"))
    assert {one.work.slug for one in found} == set(spec.slugs())
    stale = [one.work.slug for one in found if not one.headlines]
    assert not stale, "run them anew and record them"
    standing = [(one.work.slug, headline) for one in found for headline in one.headlines]
    unread = [
        (slug, headline["claim"], headline["label"], headline["outcome"])
        for slug, headline in standing
        if headline["outcome"] in (spec.CONTRADICTED, spec.INCONCLUSIVE, spec.NO_RESULT)
        and not readings.of(slug, headline)
    ]
    assert not unread, "each needs a line in readings.yaml"
    written = sum(len(each) for each in readings.load().values())
    assert written == sum(bool(readings.of(slug, headline)) for slug, headline in standing), "a reading of nothing"
    assert (ROOT / "docs" / "results.md").read_text() == results.document(), "make results"
