"""Lists into the catalogue: which works are meant, what is written and what is not, and out again as Markdown."""

import json
import random
import re
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import imports, load
from catalog.markdown_list import parse
from catalog.models import Author, Category, Entry, Link, SearchVersion, Work
from catalog.search import find
from exports import markdown

LIST = Path(__file__).resolve().parents[3] / "shared" / "list" / "Awesome-LLM-Inference.md"
HEAD = "## {}\n\n|Date|Title|Paper|Code|Recommend|\n|-|-|-|-|-|\n"
NEW = (
    f"{HEAD.format('Routing')}|2024.01|🔥[**Router**] A Router of Tokens|[[pdf]](https://arxiv.org/pdf/2401.09999v2)|"
    "[[r]](https://github.com/a/r)|⭐️⭐️|\n"
)
ORCA = "https://www.usenix.org/system/files/osdi22-yu.pdf"
GPTQ_TITLE = "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
SINKS_TITLE = "Efficient streaming language models with attention sinks."
FLASH_TITLE = "FlashAttention: Fast and memory-efficient exact attention with IO awareness"
MISSPELT = "FlashAtention: Fast and Memory-Eficient Exact Attention with IO-Awareness"
TABLES = (Category, Work, Author, Entry, Link)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every import meets the bundled catalogue."""


def counts() -> list[int]:
    return [model.objects.count() for model in TABLES]


def run(text: str) -> imports.Plan:
    plan = imports.plan(text)
    imports.apply(plan)
    return plan


def command(tmp_path: Path, text: str, *options: str) -> dict:
    path, out = tmp_path / "list.md", StringIO()
    path.write_text(text, encoding="utf-8")
    call_command("import_list", str(path), "--json", *options, stdout=out)
    return json.loads(out.getvalue())


def listing() -> list[tuple]:
    """The whole list as its curators see it."""
    return [
        (e.category.name, e.work.slug, e.position, e.month, " ".join(e.tag.split()), e.bold, " ".join(e.title.split()),
         e.highlights, e.stars, [(link.role, link.label, link.url) for link in e.links.all()])
        for e in Entry.objects.select_related("category", "work").prefetch_related("links")
    ]  # fmt: skip


class TestCuratedList:
    """The list that the catalogue was taken from."""

    def test_it_changes_nothing(self, tmp_path):
        if not LIST.exists():
            pytest.skip("the curated list does not lie beside the project")
        before, number = counts(), SearchVersion.objects.get().number
        told = command(tmp_path, LIST.read_text(encoding="utf-8"))
        assert (told["rows_read"], told["created"], told["updated"], told["not_understood"]) == (84, [], [], [])
        assert len(told["unchanged"]) == 76 and told["questions"] == []
        assert (counts(), SearchVersion.objects.get().number) == (before, number)

    def test_out_and_in_again_changes_nothing(self):
        before = listing()
        plan = run(markdown.whole())
        assert plan.counts | {"rows_read": 84, "unchanged": 76} == plan.counts and not plan.writes and not plan.missed
        assert listing() == before

    def test_out_and_into_an_empty_catalogue_is_the_same_list(self):
        before, text = listing(), markdown.whole()
        Work.objects.all().delete()
        Category.objects.all().delete()
        run(text)
        assert [row[:1] + row[2:] for row in listing()] == [row[:1] + row[2:] for row in before]
        assert run(markdown.whole()).writes is False


class TestMatching:
    """By arXiv id, DOI, address, then title; a near title is a question."""

    @pytest.mark.parametrize(
        ("item", "slug"),
        [
            ("[Anything](https://browse.arxiv.org/pdf/2309.17453v9.pdf)", "streaming-llm"),
            ("[Anything](https://huggingface.co/papers/2309.17453)", "streaming-llm"),
            ("[Continuous Batching](http://www.usenix.org/system/files/osdi22-yu.pdf#page=3)", "orca"),
            ("[BERxiT](https://www.aclweb.org/anthology/2021.eacl-main.8/)", "berxit"),
            (f"[{SINKS_TITLE}](https://openreview.net/forum?id=NG7sS51zVF)", "streaming-llm"),
            (f"[{FLASH_TITLE}](https://a.b/c)", "flashattention"),
        ],
    )  # fmt: skip
    def test_what_is_the_same_work(self, item, slug):
        (found,) = imports.plan(f"## X\n- {item}\n").items
        assert (found.slug, found.kind) == (slug, "change")

    @pytest.mark.parametrize(
        ("item", "slug", "why"),
        [
            (f"[{MISSPELT}](https://a.b/c)", "flashattention", "much like"),
            (f"[{GPTQ_TITLE}](https://arxiv.org/abs/2401.00001)", "gptq", "another identifier"),
            ("[FlexGen](https://github.com/FMInference/FlexGen)", "flexgen", "goes by this name"),
            ("[Something else](https://www.usenix.org/system/files/osdi22-yu.pdf)", "orca", "same address"),
        ],
    )  # fmt: skip
    def test_what_is_only_a_question(self, item, slug, why):
        text, before = f"## X\n- {item}\n", counts()
        plan = run(text)
        (question,) = plan.questions
        assert slug in [found for found, _ in question.candidates] and why in question.note
        assert counts() == before
        assert [i.slug for i in imports.plan(text, {2: slug}).items] == [slug]
        assert imports.plan(text, {2: "new"}).counts["created"] == 1
        assert imports.plan(text, {2: "vllm"}).questions

    def test_another_id_makes_a_near_title_another_work(self):
        text = f"## X\n- [{GPTQ_TITLE.replace(' for ', ' of ')}](https://arxiv.org/abs/2401.00001)\n"
        assert imports.plan(text).counts["created"] == 1

    def test_a_new_work_never_takes_the_id_of_another(self):
        text = "## X\n- [Two in one](https://arxiv.org/abs/2309.17453) [pdf](https://arxiv.org/abs/2210.17323)\n"
        plan = imports.plan(text, {2: "new"})
        assert imports.plan(text).questions[0].note == "its links belong to several works"
        imports.apply(plan)
        assert Work.objects.get(title="Two in one").arxiv_id is None

    def test_categories_that_differ_by_signs_are_two(self):
        run("## C\n- [First thing](https://a.b/c)\n## C++\n- [Second thing](https://a.b/d)\n")
        assert {"C", "C++"} <= set(Category.objects.values_list("name", flat=True))

    def test_rows_of_one_new_work_meet(self):
        text = NEW + f"\n{HEAD.format('Other')}|2024.01|A Router of Tokens|[a](https://arxiv.org/abs/2401.09999)|⚠️||\n"
        plan = run(text)
        assert plan.slugs("create") == ["router"]
        assert [e.category.name for e in Work.objects.get(slug="router").entries.all()] == ["Routing", "Other"]

    def test_a_work_twice_in_a_category_stands_once(self):
        plan = run(NEW + "|2024.02|A Router of Tokens|[x](https://a.b/c)|⚠️||\n")
        assert "the same work as in line 5, which stands; not taken: x https://a.b/c" in plan.items[1].note
        assert Entry.objects.get(work__slug="router").month == "2024-01"


class TestWritten:
    """What a row makes of the catalogue."""

    def test_a_new_work_knows_what_the_row_knows(self):
        plan = run("# L\n" + NEW)
        work = Work.objects.get(slug="router")
        assert plan.slugs("create") == ["router"] and find("router of tokens").mask.sum() >= 1
        assert (work.title, work.kind, work.arxiv_id) == ("A Router of Tokens", "paper", "2401.09999")
        assert (work.published_text, work.url) == ("2024-01", "https://arxiv.org/abs/2401.09999")
        assert not work.metadata_verified and not work.authors_complete
        entry = work.entries.get()
        assert (entry.tag, entry.bold, entry.stars, entry.highlights, entry.month) == ("Router", True, 2, 1, "2024-01")
        assert entry.category.position == 12
        assert [(link.role, link.label) for link in entry.links.all()] == [("code", "r"), ("paper", "pdf")]

    @pytest.mark.parametrize(
        ("item", "published"),
        [
            ("[A Fine Title](https://arxiv.org/abs/2107.01234)", "2021-07"),
            ("[A Fine Title](https://arxiv.org/abs/cs/9901001)", "1999-01"),
            ("[A Fine Title](https://a.b/c) (OSDI'22)", "2022"),
            ("[A Fine Title](https://a.b/c)", ""),
        ],
    )
    def test_a_date_is_told_as_far_as_it_is_known(self, client, item, published):
        run(f"## X\n- {item}\n")
        work = Work.objects.get(title="A Fine Title")
        assert work.published_text == published
        assert client.get(f"/papers/{work.slug}/").status_code == 200 == client.get("/").status_code

    def test_what_a_row_says_otherwise_is_changed_and_the_rest_stays(self):
        entry = Entry.objects.get(work__slug="orca")
        title, links = entry.title, entry.links.count()
        row = f"|2022.07|[Batch] {title}|[p]({ORCA})|[o](https://github.com/o/rca)|⭐️|\n"
        text = HEAD.format(entry.category.name) + row
        (item,) = run(text).items
        entry.refresh_from_db()
        assert (entry.tag, entry.bold, entry.stars, entry.title) == ("Batch", False, 1, title)
        assert entry.links.count() == links + 1
        assert item.changes[0] == "tag: Continuous Batching → Batch" and "stars: 2 → 1" in item.changes
        assert entry.highlights == 1, "a list without flames says nothing of them"

    def test_people_are_kept(self):
        run("## X\n- [A Fine Title](https://a.b/c), Tri Dao, New Person\n")
        work = Work.objects.get(title="A Fine Title")
        assert [a.author.name for a in work.authorships.all()] == ["Tri Dao", "New Person"]

    def test_slugs_are_never_shared(self):
        run(
            "## X\n- [深度学习推理加速](https://a.b/2)\n- [量化方法综述研究](https://a.b/3)\n- [AWQ notes](https://a.b/4)\n"
        )
        run(
            "## X\n- [AWQ notes](https://a.b/5), more on it\n- [AWQ: notes of a reader](https://arxiv.org/abs/2401.00002)\n"
        )
        made = Work.objects.filter(metadata_source="", metadata_verified=False).values_list("slug", flat=True)
        assert {"work", "work-2", "awq-notes", "awq-2"} <= set(made)

    def test_too_long_for_the_catalogue_is_told(self):
        text = f"## X\n- [{'long ' * 100}](https://a.b/c)\n- [A Fine Title](https://a.b/{'c' * 400})\n"
        assert [missed.reason for missed in imports.plan(text).missed] == [
            "the title has 499 characters; 400 at most",
            "a link has 412 characters; 400 at most",
        ]

    def test_a_failure_in_the_middle_writes_nothing(self, monkeypatch):
        before, plan = counts(), imports.plan(NEW)

        def fail(pks):
            raise RuntimeError("the disk is full")

        monkeypatch.setattr(imports.index, "refresh", fail)
        with pytest.raises(RuntimeError):
            imports.apply(plan)
        assert counts() == before

    def test_what_was_imported_outlives_a_load_of_the_bundled_files(self):
        orca = Entry.objects.get(work__slug="orca")
        run(NEW + f"\n{HEAD.format(orca.category.name)}|2022.07|Orca|[p]({ORCA})|[o](https://github.com/o/rca)|⭐️|\n")
        before = listing()
        told = load.load()
        assert (told["created"], told["updated"], told["removed"]) == (0, 0, 0)
        assert listing() == before and Work.objects.filter(slug="router").exists()


class TestCommand:
    """manage.py import_list and export."""

    def test_a_dry_run_tells_the_same_and_writes_nothing(self, tmp_path):
        before = counts()
        dry = command(tmp_path, NEW + "- [A](./a.pdf)\n", "--dry-run")
        assert counts() == before
        assert dry == command(tmp_path, NEW + "- [A](./a.pdf)\n")
        assert dry["created"] == ["router"] and dry["not_understood"][0]["line"] == 6
        assert counts() != before

    def test_it_tells_people_too(self, tmp_path):
        path, out = tmp_path / "list.md", StringIO()
        path.write_text(NEW + "\n## X\n- [FlexGen](https://github.com/FMInference/FlexGen)\n- [A](./a.pdf)\n")
        call_command("import_list", str(path), "--dry-run", stdout=out)
        lines = out.getvalue().splitlines()
        assert lines[0].startswith(
            "2 rows read; works: 1 created, 0 updated, 0 unchanged; 1 rows in question, 1 not understood"
        )
        assert "line 8: left out" in lines[1] and "line 9: not understood" in lines[2]

    @pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe|", "folder"])
    def test_bad_input_is_one_line_and_code_2(self, tmp_path, content):
        path, before = tmp_path / "list.md", counts()
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(CommandError) as caught:
            call_command("import_list", str(path))
        assert caught.value.returncode == 2 and "\n" not in str(caught.value) and "list.md" in str(caught.value)
        assert counts() == before

    def test_export_to_a_file_and_to_the_output(self, tmp_path):
        out = StringIO()
        call_command("export", "markdown", stdout=out)
        call_command("export", "markdown", "-o", str(tmp_path / "out.md"))
        assert (tmp_path / "out.md").read_text(encoding="utf-8") == out.getvalue()
        assert len(parse(out.getvalue()).rows) == 84
        out = StringIO()
        call_command("export", "bibtex", stdout=out)
        assert len(re.findall(r"^@\w+\{", out.getvalue(), re.M)) == 76
        with pytest.raises(CommandError, match="cannot be written") as caught:
            call_command("export", "bibtex", "-o", str(tmp_path))
        assert caught.value.returncode == 2


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "So", "Sk", "Zs", "Zl", "Zp", "Co"]), min_size=1, max_size=8
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(WORDS, min_size=1, max_size=4),
    st.sampled_from(["", "GPTQ", "LLM.int8()", "FLOP, I/O", "a_b*c", "x|y"]),
    st.booleans(),
)
def test_whatever_a_title_holds_comes_back(pieces, tag, bold):
    written = Entry(month="2023-10", tag=tag, bold=bold and bool(tag), title=f"Alpha {' '.join(pieces)} omega", stars=1)
    text = f"{HEAD.format('C')}|2023.10|{_title(written)}|[[pdf]](https://arxiv.org/abs/2210.17323)|⚠️|⭐️|\n"
    parsed = parse(text)
    assert not parsed.missed
    (row,) = parsed.rows
    assert (row.tag, row.bold, row.title) == (tag, written.bold, " ".join(written.title.split()))


def _title(entry: Entry) -> str:
    tag = markdown.escape(entry.tag)
    tag = f"**{tag}**" if entry.bold else tag
    return f"{f'[{tag}] ' if entry.tag else ''}{markdown.escape(entry.title)}"


def test_the_cost_of_an_import_grows_with_its_rows_and_no_faster():
    """Eight times the rows cost about eight times as much: 64 would be each row compared with each."""
    rng = random.Random(1)
    words = sorted({w for work in Work.objects.all() for w in work.title.split() if w.isalpha() and len(w) > 3})

    def cost(first: int, count: int) -> float:
        titles = [" ".join(rng.choice(words) for _ in range(9)) for _ in range(count)]
        rows = [f"|2023.10|[**T{i}**] {t}|[[pdf]](https://x.y/{i}.pdf)|⚠️|⭐️|\n" for i, t in enumerate(titles, first)]
        begun = time.process_time()
        plan = run(HEAD.format("Many") + "".join(rows))
        assert plan.counts["rows_read"] == count and plan.counts["created"] > 0.95 * count
        return time.process_time() - begun

    cost(0, 50)  # what is read once
    small, large = cost(100, 200), cost(1000, 1600)
    assert large < 24 * small, f"{small:.1f} s, then {large:.1f} s"
