"""Bundles with papers: whose licence permits it, whatever the files are; every link stays in its own paper."""

import json
import os
import subprocess
import sys

import pytest
from django.core.management import call_command
from pikepdf import Name

from catalog.models import Work
from exports import binding, bundle_plan, papers
from tests.exports import made_papers as made
from tests.exports.pdfs import Book

BY, NOT = "http://creativecommons.org/licenses/by/4.0/", "http://arxiv.org/licenses/nonexclusive-distrib/1.0/"
QUIET = lambda *told: None  # noqa: E731


@pytest.fixture
def shelf(settings, tmp_path, catalogue):
    settings.DATA_DIR = tmp_path
    return papers.folder()


def put(shelf, slug: str, content: bytes) -> None:
    (shelf / f"{slug}.pdf").write_bytes(content)


def bound(tmp_path, kind: str = "private", query: str = ""):
    plan = bundle_plan.plan(kind, query)
    papers.put_in(plan, None, QUIET)
    told = binding.bind(plan, tmp_path / "bound.pdf", QUIET)
    return plan, told, Book(tmp_path / "bound.pdf")


GENERATE = made.pikepdf.ObjectStreamMode.generate
HOSTILE = {
    "flashattention": (lambda: made.data(made.paper("First")), ""),
    "flashattention-2": (lambda: made.data(made.paper("Second", tree=False)), ""),
    "mamba": (lambda: made.data(made.paper("Third", rotate=90)), ""),
    "rwkv": (lambda: made.data(made.with_form_and_scripts("Fourth")), ""),
    "gptq": (lambda: made.data(made.with_deep_outline("Fifth")), ""),
    "awq": (lambda: made.data(made.paper("Sixth", links=0), object_stream_mode=GENERATE), ""),
    "cachegen": (lambda: made.data(made.paper("First")), "the very same as that of"),
    "fastgen": (lambda: made.data(made.with_circular_outline("Seventh")), ""),
    "gqa": (made.encrypted, "encrypted"),
    "smoothquant": (made.owner_locked, ""),
    "h2o": (lambda: made.data(made.paper("x"))[:1500], "broken"),
    "flexgen": (made.no_page, "no page"),
    "orca": (lambda: made.HTML, "web page"),
    "spqr": (lambda: b"", "empty"),
    "zeroquant": (lambda: b"plain words", "not a PDF"),
    "sparsegpt": (made.damaged, "damaged"),
}  # fmt: skip


@pytest.fixture
def hostile(shelf, tmp_path):
    slugs = set(Work.objects.values_list("slug", flat=True))
    assert set(HOSTILE) < slugs, set(HOSTILE) - slugs
    for slug, (make, _) in HOSTILE.items():
        put(shelf, slug, make())
    with (shelf / "llm-int8.pdf").open("wb") as large:  # 300 MB that take no room on the disk
        large.write(b"%PDF-1.5\n")
        large.truncate(300 * 2**20)
    return bound(tmp_path)


def test_each_file_is_bound_or_its_sheet_says_why(hostile):
    plan, told, book = hostile
    by_slug = {work["work"]: work for work in told["works"]}
    for slug, (_, reason) in HOSTILE.items():
        work = by_slug[slug]
        assert bool(work["stub"]) is bool(reason) and bool(work["paper"]) is not bool(reason), work
        assert reason in (work["stub"] or ""), work
    assert "300 MiB, more than the 100" in by_slug["llm-int8"]["stub"]
    assert by_slug["vllm"]["stub"] == "this installation has no copy of it."
    assert told["counts"]["papers"] == 8 and told["counts"]["stubs"] == 68 and told["counts"]["works"] == 76
    assert "8 papers bound in" in book.text(0) and "68 works without their paper" in book.text(0)
    pages = {title: page for depth, title, page in book.outline() if depth == 1}
    for item in plan.items:
        text = book.text(pages[item.title])
        assert ("The paper is not in this bundle: " + item.stub[:40] in text) is bool(item.stub), text[:200]
        assert ("The paper follows on the next 4 pages" in text) is bool(item.paper)
    notes = {"gptq": "too deep", "fastgen": "circular", "smoothquant": "opens without a password", "rwkv": "its form"}
    for slug, note in notes.items():
        work = by_slug[slug]
        assert note in told["notes"][slug] and note in "; ".join(work["paper"]["notes"])
        assert note in book.text(pages[work["title"]])


def test_the_book_is_sound_and_counts_right(hostile):
    plan, told, book = hostile
    assert book.pdf.check_pdf_syntax() == []
    assert told["pages"] == len(book.pdf.pages)
    assert json.loads(book.pdf.attachments["manifest.json"].get_file().read_bytes())["counts"] == told["counts"]
    for i in range(1, 6):
        for rectangle, page in book.links(i):
            text = book.text_at(i, rectangle)
            assert not text.isdigit() or book.label(page) == text


def test_links_and_outlines_stay_in_their_paper(hostile):
    plan, told, book = hostile
    for title in ("First", "Second", "Third", "Fourth", "Fifth"):
        own = [i for i in range(len(book.pdf.pages)) if f"{title}, page " in book.text(i)]
        assert len(own) == 4
        for i in own:
            landed = [page for _, page in book.links(i)]
            assert landed == own[:3], (title, i)
        entries = [(t, page) for _, t, page in book.outline() if t.endswith(f" of {title}")]
        expected = 4 if title == "Fifth" else 8
        assert len(entries) >= expected
        for text, page in entries:
            assert page == own[int(text.split()[0].split(".")[0]) - 1], (text, page)


def test_named_destinations_are_kept_under_the_works_name(hostile):
    _, _, book = hostile
    for slug, title in (("flashattention", "First"), ("flashattention-2", "Second"), ("mamba", "Third")):
        for n in range(1, 5):
            page = book.lands(made.String(f"{slug}/section.{n}"))
            assert book.text(page).startswith(f"{title}, page {n}")


def test_pages_keep_their_rotation_and_lose_what_acts(hostile):
    _, _, book = hostile
    pages = {book.text(i)[:14]: page for i, page in enumerate(book.pdf.pages)}
    assert pages["Third, page 1 "[:14].strip()].Rotate == 90
    first = next(i for i in range(len(book.pdf.pages)) if "Fourth, page 1" in book.text(i))
    assert "filled in" in book.text(first), "what a form said is still shown"
    assert not any("app.alert" in repr(one) for one in book.pdf.objects if isinstance(one, made.Dictionary))
    assert "/OpenAction" not in book.pdf.Root and "/AcroForm" not in book.pdf.Root
    for page in book.pdf.pages:
        assert "/AA" not in page
        for one in page.get("/Annots", []):
            assert one.get("/A", {}).get("/S") in (None, Name.URI, Name.GoTo)
    links = [one for one in book.pdf.pages[first + 1].Annots if one.get("/A", {}).get("/S") == Name.URI]
    assert str(links[0].A.URI) == "https://example.org/"


def test_only_licensed_versions_are_in_a_public_bundle(shelf, tmp_path):
    given = {  # slug: licence, its version, the newest version, withdrawn
        "mamba": (BY, 2, 2, False), "rwkv": (NOT, 1, 1, False), "flashattention": ("", None, None, False),
        "gptq": (BY, 1, 2, False), "awq": (BY, 1, 1, True), "medusa": (BY, 3, 3, False),
    }  # fmt: skip
    for slug, (licence, of, newest, withdrawn) in given.items():
        Work.objects.filter(slug=slug).update(
            licence=licence, licence_version=of, arxiv_version=newest, withdrawn=withdrawn
        )
        number = Work.objects.get(slug=slug).arxiv_id
        put(shelf, f"{number}v{newest}" if newest and slug != "medusa" else number, made.data(made.paper(slug)))
    plan, told, book = bound(tmp_path, "public")
    stubs = {item.slug: item.stub for item in plan.items}
    assert [item.slug for item in plan.items if item.paper] == ["mamba"]
    assert "arXiv's non-exclusive licence 1.0, does not permit" in stubs["rwkv"]
    assert "not known here" in stubs["flashattention"] and "version 1 only, and the newest is 2" in stubs["gptq"]
    assert "withdrawn" in stubs["awq"] and "no copy" in stubs["medusa"], "version 3 is not the file that is there"
    text = book.text(next(page for _, title, page in book.outline() if title.startswith("Mamba")))
    assert "CC BY 4.0" in text and "version 2" in text
    assert len([item for item in bound(tmp_path, "private")[0].items if item.paper]) == 6


def test_a_copy_is_looked_at_again_only_when_it_changes(shelf, monkeypatch):
    put(shelf, "mamba", made.data(made.paper("One")))
    path = shelf / "mamba.pdf"
    assert papers.checked(path)["pages"] == 4
    with monkeypatch.context() as patch:
        patch.setattr(papers, "look", lambda path: pytest.fail("looked at twice"))
        assert papers.checked(path)["reason"] == ""
    put(shelf, "mamba", made.data(made.paper("Two", pages=6)))
    os.utime(path, ns=(1, 1))
    assert papers.checked(path)["pages"] == 6


def test_another_copy_is_another_bundle(shelf, tmp_path):
    put(shelf, "mamba", made.data(made.paper("One")))
    first = bound(tmp_path, query="?q=mamba")[0].digest
    assert bound(tmp_path, query="?q=mamba")[0].digest == first
    put(shelf, "mamba", made.data(made.paper("Two")))
    os.utime(shelf / "mamba.pdf", ns=(1, 1))
    assert bound(tmp_path, query="?q=mamba")[0].digest != first


def test_many_papers_with_the_same_names_take_little_memory(shelf, tmp_path):
    """76 papers, 1,216 pages, 9,728 links by names that are the same in each."""
    for slug in Work.objects.values_list("slug", flat=True):
        put(shelf, slug, made.data(made.paper(slug, pages=16, links=8)))
    plan = bundle_plan.plan("private", "")
    papers.put_in(plan, None, QUIET)
    script = "import sys, pickle; from exports import binding; from pathlib import Path\n" \
             "plan = pickle.load(open(sys.argv[1], 'rb')); binding.bind(plan, Path(sys.argv[2]))\n" \
             "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0])"  # fmt: skip
    import pickle

    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    start = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'; django.setup()\n"
    command = [sys.executable, "-c", start + script, str(tmp_path / "plan"), str(tmp_path / "b.pdf")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"DATA_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300 * 1024
    book = Book(tmp_path / "b.pdf")
    wrong = 0
    for item, number in zip(plan.items, binding.sheets.draw(plan).numbers, strict=True):
        title = next(page for _, title, page in book.outline() if title == item.title) if number < 60 else None
        wrong += title is None and number < 60
    assert not wrong
    count = 0
    for i in range(len(book.pdf.pages)):
        for _, page in book.links(i):
            assert page is not None
            count += 1
    assert count > 9_728


def test_the_command_tells_each_paper_that_is_missing(shelf, capsys):
    put(shelf, "mamba", made.data(made.paper("One")))
    call_command("bundle", "--kind", "private", "--query", "category=non-transformer-architecture")
    out = capsys.readouterr().out
    assert "1 papers, 1 without their paper" in out and "rwkv: this installation has no copy of it." in out
