"""Layers of bound papers: each page looks as it does in its own file, and what was hidden is not shown."""

import json

import pypdfium2
import pytest
from django.core.management import call_command
from pikepdf import Dictionary, String

from exports import papers
from tests.exports import layered_papers as layered
from tests.exports import made_papers as made
from tests.exports.layered_papers import BLACK, BLUE, GREEN, RED
from tests.exports.pdfs import Book

WHITE = (255, 255, 255)
PURE = {RED: (255, 0, 0), GREEN: (0, 255, 0), BLUE: (0, 0, 255), BLACK: (0, 0, 0)}


def _state(name: str, colour: str, listed: str = "", **more: str) -> dict:
    return {"name": name, "colour": colour, "listed": listed, **more}


# slug: how it is made, and the colours of its squares from the left, WHITE for those that are hidden
PAPERS = {
    "flashattention": (lambda: layered.layered("One", [_state("figure", RED, "OFF"), _state("notes", GREEN)]),
                       [WHITE, PURE[GREEN]]),
    "flashattention-2": (lambda: layered.layered("Two", [_state("figure", RED), _state("notes", GREEN, "OFF")]),
                         [PURE[RED], WHITE]),
    "mamba": (lambda: layered.layered("Three", [_state("a", RED), _state("b", BLUE, "ON")], base="OFF"),
              [WHITE, PURE[BLUE]]),
    "rwkv": (lambda: layered.layered("Four", [_state("a", RED, usage="OFF"), _state("b", BLUE, "OFF", usage="ON")],
                                     automatic=True), [WHITE, PURE[BLUE]]),
    "gptq": (lambda: layered.layered("Five", [_state("a", RED, "OFF", intent="Design"), _state("b", BLUE, "OFF")]),
             [PURE[RED], WHITE]),
    "awq": (lambda: layered.with_membership("Six"), [WHITE, PURE[GREEN], PURE[BLUE], WHITE]),
    "gqa": (lambda: layered.with_hidden_field("Seven"), [WHITE, WHITE, PURE[BLUE], WHITE]),
    "h2o": (lambda: layered.layered("Eight", [_state("a", RED, "OFF")], more=True), [WHITE]),
}  # fmt: skip
FORM = "gqa"  # a form is drawn by another part of pdfium, which is not asked here


@pytest.fixture
def book(settings, tmp_path, catalogue):
    settings.DATA_DIR = tmp_path
    for slug, (make, _) in PAPERS.items():
        (papers.folder() / f"{slug}.pdf").write_bytes(made.data(make()))
    call_command("bundle", "--kind", "private", "-o", str(tmp_path / "bound.pdf"))
    return Book(tmp_path / "bound.pdf")


def _drawn(document: pypdfium2.PdfDocument, page: int):
    return document[page].render(scale=1).to_pil().convert("RGB")


def _squares(image, count: int) -> list[tuple]:
    return [image.getpixel((60 + 100 * i, image.height - 340)) for i in range(count)]


def test_every_page_looks_as_in_its_own_file(book, settings):
    for slug, (_, expected) in PAPERS.items():
        source = pypdfium2.PdfDocument(papers.folder() / f"{slug}.pdf")
        title = source[0].get_textpage().get_text_range().split(",")[0]
        page = next(i for i in range(len(book.pdf.pages)) if book.text(i).startswith(f"{title}, page 1"))
        image = _drawn(book.shown, page)
        assert _squares(image, len(expected)) == expected, slug
        if slug != FORM:
            assert image.tobytes() == _drawn(source, 0).tobytes(), slug


def test_the_outline_of_layers_names_the_papers(book, tmp_path):
    told = book.pdf.Root.OCProperties
    works = {work["work"]: work for work in json.loads((tmp_path / "bound.json").read_text())["works"]}
    headings = [str(entry[0]) for entry in told.D.Order]
    assert sorted(headings) == sorted(works[slug]["title"] for slug in PAPERS)
    of = {str(entry[0]): entry for entry in told.D.Order}[works["flashattention"]["title"]]
    assert str(of[1].Name) == "figure" and [str(of[2][0]), str(of[2][1].Name)] == ["the rest", "notes"]
    assert len({group.objgen for group in told.OCGs}) == len(told.OCGs) == 14
    listed = {group.objgen for group in told.OCGs}
    used = [one.objgen for one in book.pdf.objects if isinstance(one, Dictionary) and one.get("/Type") == "/OCG"]
    assert set(used) == listed, "each layer of a page is one of the document"
    assert all(isinstance(group.Name, String) for group in told.OCGs)
    assert "left out: other arrangements of its layers (1)" in works["h2o"]["paper"]["notes"]
    assert book.pdf.check_pdf_syntax() == []
