"""Nothing in a bundle acts or opens anything but pages of the web and places in it, wherever a paper had planted it."""

import json
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from hypothesis import given
from hypothesis import strategies as some
from pikepdf import Dictionary, Name, String

from catalog.models import Work
from exports import papers
from exports.actions import web
from tests.exports import made_papers as made
from tests.exports import planted, walker
from tests.exports.pdfs import Book

FILES = "files"


@pytest.fixture
def bound(settings, tmp_path, catalogue):
    """A bundle with a paper a place, as the command makes it: place -> work, manifest, book."""
    settings.DATA_DIR = tmp_path
    slugs = iter(Work.objects.order_by("slug").values_list("slug", flat=True))
    of = {}
    for place in (*planted.PLACES, FILES):
        of[place] = next(slugs)
        pdf = planted.with_files(FILES) if place == FILES else planted.with_actions(place)
        pdf.Root.URI = Dictionary(Base=String("javascript:PLANTED/"))
        (papers.folder() / f"{of[place]}.pdf").write_bytes(made.data(pdf))
    Work.objects.filter(slug=of["link"]).update(url="javascript:alert(1)")
    call_command("bundle", "--kind=private", f"--query=works={','.join(of.values())}", "-o", str(tmp_path / "b.pdf"))
    told = json.loads((tmp_path / "b.json").read_text())
    return {place: next(w for w in told["works"] if w["work"] == slug) for place, slug in of.items()}, Book(
        tmp_path / "b.pdf"
    )


def test_no_object_of_the_bundle_acts_or_leads_away(bound):
    works, book = bound
    assert {place: work["stub"] for place, work in works.items() if work["stub"]} == {}
    assert walker.found(book.pdf) == []
    assert book.pdf.check_pdf_syntax() == []


def test_what_a_link_may_do_stays(bound):
    _, book = bound
    page = next(i for i in range(len(book.pdf.pages)) if book.text(i).startswith("link, page 1"))
    web_pages = [str(one.A.URI) for one in book.pdf.pages[page].Annots if "/A" in one]
    assert web_pages == ["https://example.org/kept"] * 2
    assert [landed for _, landed in book.links(page)] == [page, page + 1, page + 2, page, page]


def test_the_sheet_and_the_manifest_say_what_is_left_out(bound):
    works, book = bound
    notes = {place: "; ".join(work["paper"]["notes"]) for place, work in works.items()}
    expected = {
        "link": "links that are not to a page of the web or of the paper (",
        "catalogue": "scripts or other actions (",
        "names": "scripts or other actions (",
        "page": "scripts or other actions (4)",
        "screen": "films, sounds or 3D views (",
        "field": "its form is bound as it was filled in",
        FILES: "left out: 9 attachments (data 0.csv, data 1.csv, data 2.csv, data 3.csv, data 4.csv, …)",
    }
    pages = {title: page for _, title, page in book.outline()}
    for place, words in expected.items():
        assert words in notes[place], place
        assert words in book.text(pages[works[place]["title"]]), place
    for words in ("drawings that lie in another file (3)", "drawings in PostScript (2)", "files of drawings (1)"):
        assert words in notes[FILES]


def test_the_walker_sees_what_is_planted():
    """Each place and each file is found in the paper itself, so an empty answer means something."""
    for place in planted.PLACES:
        assert [line for line in walker.found(planted.with_actions(place)) if "left behind" in line or "acts" in line]
    assert len(walker.found(planted.with_files(FILES))) > 20


@given(some.text(max_size=40) | some.builds(lambda a, b: a + b, some.sampled_from(planted.URIS), some.text(max_size=9)))
def test_an_address_is_of_the_web_or_none(text):
    address = web(text)
    assert address == "" or (walker.WEB.fullmatch(address) and urlsplit(address).hostname and web(address) == address)


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        ("https://example.org/a?b=c&d=%20#e", "", "https://example.org/a?b=c&d=%20#e"),
        (" HTTP://Example.org/a b ", "", "http://Example.org/a%20b"),
        ("https://doi.org/10.1000/x<y>", "", "https://doi.org/10.1000/x%3Cy%3E"),
        ("https://example.org/é", "", "https://example.org/%C3%A9"),
        ("b.html", "https://example.org/a/", "https://example.org/a/b.html"),
        ("//other.example/b", "https://example.org/a/", "https://other.example/b"),
        ("javascript:alert(1)", "https://example.org/", ""),
        ("b.html", "", ""),
    ],
)
def test_an_address_is_written_whole(text, base, expected):
    assert web(text, base) == expected


def test_relative_links_are_made_whole_with_the_papers_base(settings, tmp_path, catalogue):
    settings.DATA_DIR = tmp_path
    pdf = made.paper("Based", links=0)
    pdf.Root.URI = Dictionary(Base=String("https://example.org/a/"))
    action = Dictionary(S=Name.URI, URI=String("b.html"))
    pdf.pages[0].Annots.append(
        Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=planted.Array([9, 9, 99, 99]), A=action)
    )
    (papers.folder() / "mamba.pdf").write_bytes(made.data(pdf))
    call_command("bundle", "--kind=private", "--query=works=mamba", "-o", str(tmp_path / "b.pdf"))
    book = Book(tmp_path / "b.pdf")
    page = next(i for i in range(len(book.pdf.pages)) if book.text(i).startswith("Based, page 1"))
    assert str(book.pdf.pages[page].Annots[0].A.URI) == "https://example.org/a/b.html"
