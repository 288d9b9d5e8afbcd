"""What the documents promise is there."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from jobs.failures import FAILURES
from reproductions import spec

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_what_there_is(page):
    text = page.read_text()
    targets = set(re.findall(r"^([\w.]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)(?:[A-Z_]+=\S+ )?make ([a-z]+)\b", text, re.M)) <= targets
    ours = {
        path.stem
        for app in ("catalog", "exports", "jobs", "readers", "reproductions")
        for path in (ROOT / app).glob("management/commands/*.py")
    }
    for command in re.findall(r"manage\.py (\w+)", text):
        assert command in ours | get_commands().keys(), command
    for slug in re.findall(r"reproductions (?:run|show) ([a-z][a-z-]+)", text):
        assert slug in spec.slugs(), slug


def test_adding_a_paper_fits_a_page():
    assert len((ROOT / "docs" / "add-a-paper.md").read_text().split()) < 700


def test_operations_names_every_failure_code():
    text = (ROOT / "docs" / "operations.md").read_text()
    told = dict(re.findall(r"^\| `([a-z-]+)` \|.*\| (\w+) \|$", text, re.M))
    assert told == {code: failure.fault for code, failure in FAILURES.items()}
