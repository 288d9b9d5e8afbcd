"""The bundled facts: complete, consistent, loaded the same way twice, and true to the list they came from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog import load
from catalog.models import Author, Category, Claim, Entry, Link, Work

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT.parent / "shared" / "list" / "Awesome-LLM-Inference.md"


@pytest.fixture
def copy(tmp_path):
    """A copy of the data, to be spoilt."""
    return Path(shutil.copytree(load.DATA, tmp_path / "data"))


def edit(path: Path, change) -> None:
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False))


@pytest.mark.django_db
class TestLoaded:
    """After load_catalog."""

    @pytest.fixture(autouse=True)
    def listed(self, catalogue):
        """The catalogue is there."""

    def test_everything_is_there(self):
        counts = [model.objects.count() for model in (Category, Entry, Work, Claim)]
        assert counts == [12, 84, 76, 369]
        assert not Work.objects.filter(authors__isnull=True).exists()
        assert not Work.objects.filter(entries__isnull=True).exists()
        assert not Work.objects.filter(claims__isnull=True).exists()
        assert Claim.objects.filter(verified=False).count() == 20
        assert Link.objects.filter(role="code").exists() and Author.objects.count() > 300

    def test_authors_keep_their_order(self):
        work = Work.objects.get(slug="flashattention")
        assert [a.author.name for a in work.authorships.all()][::4] == ["Tri Dao", "Christopher Ré"]

    def test_dates_are_told_as_far_as_they_are_known(self):
        texts = {slug: Work.objects.get(slug=slug).published_text for slug in ("flashattention", "orca")}
        assert texts == {"flashattention": "2022-05-27", "orca": "2022-07"}

    def test_the_listed_month_and_the_date_are_both_kept(self):
        entry = Entry.objects.get(work__slug="megatron-lm")
        assert (entry.month, entry.work.published_text) == ("2020-05", "2019-09-17")

    def test_a_second_load_writes_nothing(self):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            counts = load.load()
        assert (counts["created"], counts["updated"], counts["removed"]) == (0, 0, 0)
        writes = [q["sql"] for q in queries if q["sql"].split()[0] in ("INSERT", "UPDATE")]
        assert writes == []

    def test_a_changed_file_changes_its_rows(self, copy):
        edit(copy / "papers" / "vllm.yaml", lambda d: d["claims"].pop())
        edit(copy / "papers" / "vllm.yaml", lambda d: d.update(venue="Elsewhere", authors=["A", "B"]))
        counts = load.load(copy)
        work = Work.objects.get(slug="vllm")
        assert (work.venue, [a.author.name for a in work.authorships.all()]) == ("Elsewhere", ["A", "B"])
        assert counts["removed"] == 1 and counts["updated"] == 2

    @pytest.mark.parametrize(
        ("name", "change", "words"),
        [
            ("papers/vllm.yaml", lambda d: d.pop("title"), "vllm.yaml: expected the field title"),
            ("papers/vllm.yaml", lambda d: d.update(published="soon"), "published: expected YYYY"),
            ("papers/vllm.yaml", lambda d: d.update(kind="poem"), "kind: expected one of paper"),
            ("papers/vllm.yaml", lambda d: d["claims"][0].update(direction="up"), "direction: expected one of"),
            ("papers/vllm.yaml", lambda d: d.update(slug="other"), "slug: expected 'vllm', got 'other'"),
            ("list.yaml", lambda d: d["categories"][0]["entries"][0].update(work="x"), "expected a work of papers/"),
        ],
    )
    def test_bad_data_is_one_line_and_nothing_is_written(self, copy, name, change, words):
        edit(copy / name, change)
        edit(copy / "papers" / "awq.yaml", lambda d: d.update(venue="Elsewhere"))
        with pytest.raises(load.BadData) as caught:
            load.load(copy)
        assert words in str(caught.value) and "\n" not in str(caught.value)
        assert Work.objects.get(slug="awq").venue != "Elsewhere"

    def test_a_file_that_is_no_yaml_is_told_by_name(self, copy):
        (copy / "papers" / "vllm.yaml").write_text("a: [")
        with pytest.raises(load.BadData, match=r"vllm.yaml: cannot be read"):
            load.load(copy)

    def test_the_command_ends_with_code_2(self, copy, monkeypatch):
        (copy / "list.yaml").write_text("- 1")
        monkeypatch.setattr(load.load, "__defaults__", (copy,))
        with pytest.raises(CommandError, match="list.yaml: expected a mapping, got list") as caught:
            call_command("load_catalog")
        assert caught.value.returncode == 2


def check_list(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / "check_list.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_row_of_the_list_is_there_once():
    if not LIST.exists():
        pytest.skip("the curated list does not lie beside the project")
    done = check_list(LIST)
    assert done.returncode == 0 and "84 rows in 12 categories" in done.stdout, done.stdout


@pytest.mark.parametrize("field", ["month", "tag", "title", "stars", "highlights", "links", "code", "work"])
def test_a_row_that_differs_is_found(copy, field):
    if not LIST.exists():
        pytest.skip("the curated list does not lie beside the project")

    def spoil(data):
        entry = data["categories"][4]["entries"][2]
        if field == "work":
            data["categories"][4]["entries"].append(entry)
        else:
            entry[field] = {"stars": 1, "highlights": 3, "links": [], "code": []}.get(field, "other")

    edit(copy / "list.yaml", spoil)
    done = check_list(LIST, copy / "list.yaml")
    assert done.returncode == 1 and "FlashAttention" in done.stdout


def test_without_the_list_there_is_nothing_to_check():
    assert check_list("/nowhere/list.md").returncode == 0
