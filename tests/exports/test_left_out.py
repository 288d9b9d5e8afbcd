"""What of a paper's file is not in the bundle is told on its sheet and in the manifest; what was mended too."""

import json

import pytest
from django.core.management import call_command
from pikepdf import Array, Dictionary, Encryption, Name

from exports import papers, structures
from tests.exports import made_papers as made
from tests.exports.pdfs import Book

# ISO 32000-2: table 29, the catalogue, and table 32, its names
CATALOGUE = """Type Version Extensions Pages PageLabels Names Dests ViewerPreferences PageLayout PageMode Outlines
 Threads OpenAction AA URI AcroForm Metadata StructTreeRoot MarkInfo Lang SpiderInfo OutputIntents PieceInfo
 OCProperties Perms Legal Requirements Collection NeedsRendering DSS AF DPartRoot"""
NAMES = "Dests AP JavaScript Pages Templates IDS URLS EmbeddedFiles AlternatePresentations Renditions"


def _portfolio() -> bytes:
    pdf = made.paper("Portfolio", pages=1)
    for name in ("paper.pdf", "data\u202e\n.csv"):
        pdf.attachments[name] = b"some data"
    pdf.Root.Collection = Dictionary(Type=Name.Collection, View=Name.T)
    return made.data(pdf)


def _xfa(**more: object) -> bytes:
    pdf = made.paper("Form", pages=1)
    pdf.Root.AcroForm = Dictionary(Fields=Array([]), XFA=pdf.make_stream(b"<xdp/>"), **more)
    return made.data(pdf)


def _signed() -> bytes:
    pdf = made.paper("Signed", pages=1)
    pdf.Root.AcroForm, pdf.Root.Perms = Dictionary(Fields=Array([]), SigFlags=3), Dictionary(DocMDP=Dictionary())
    return made.data(pdf)


def _rich() -> bytes:
    pdf = made.paper("Rich")
    for key in ("/StructTreeRoot", "/MarkInfo", "/PieceInfo", "/ViewerPreferences", "/Unheard"):
        pdf.Root[key] = Dictionary(Marked=True)
    pdf.Root.Threads = pdf.Root.OutputIntents = Array([])
    return made.data(pdf)


def _moved() -> bytes:
    """Its table of references is wrong everywhere."""
    return (
        made.data(made.paper("Moved"))
        .replace(b"%PDF-1", b"% added\n%PDF-1", 1)
        .replace(b"startxref", b"startxref\n9\n")
    )


def _cut() -> bytes:
    """Written by hand; its end is missing, and with it the third page, and what the second shows."""
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents %d 0 R >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R 4 0 R 7 0 R] /Count 3 >>",
               page % 5, page % 6, b"<< /Length 4 >>\nstream\nq Q\n\nendstream"]  # fmt: skip
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (n + 1, one) for n, one in enumerate(objects))
    return b"%PDF-1.4\n" + body + b"6 0 obj\n<< /Length 9"


def _empty_password() -> bytes:
    return made.data(made.paper("Locked"), encryption=Encryption(owner="o", user="", R=4))


FILES = {
    "awq": (_portfolio, ["it is a portfolio: its pages are only the cover of the files in it",
                         "left out: 2 attachments (data .csv, paper.pdf)"]),
    "gptq": (_xfa, ["it is an XFA form: what only that shows is left out"]),
    "gqa": (_signed, ["its signatures do not hold for a bound copy", "signed permissions"]),
    "h2o": (_rich, ["left out: Unheard of its catalogue, article threads, colour profile for printing, tags for"]),
    "mamba": (_moved, ["its file was damaged and has been repaired (", "; something may be missing"]),
    "rwkv": (_empty_password, ["its file is encrypted and opens without a password; it is bound in plain"]),
    "orca": (lambda: made.data(made.paper("Plain")), []),
}  # fmt: skip


@pytest.fixture
def bundle(settings, tmp_path, catalogue):
    settings.DATA_DIR = tmp_path
    for slug, (make, _) in FILES.items():
        (papers.folder() / f"{slug}.pdf").write_bytes(make())

    def bound(name: str):
        call_command("bundle", "--kind=private", f"--query=works={','.join(FILES)}", "-o", str(tmp_path / name))
        return json.loads((tmp_path / name).with_suffix(".json").read_text()), Book(tmp_path / name)

    return bound


def test_what_is_left_out_or_mended_is_told(bundle, tmp_path, settings):
    told, book = bundle("b.pdf")
    pages = {title: page for _, title, page in book.outline()}
    for work in told["works"]:
        expected = FILES[work["work"]][1]
        notes = "; ".join(work["paper"]["notes"])
        sheet = book.text(pages[work["title"]])
        for words in expected:
            assert words in notes and words in sheet, work
        assert bool(expected) is bool(notes) is ("Of its file:" in sheet)
        assert told["notes"].get(work["work"], "") == notes
    assert any("Locked, page 1" in book.text(i) for i in range(len(book.pdf.pages))) and not book.pdf.is_encrypted
    assert [i for i in range(4) if any(f"Moved, page {i + 1}" in book.text(n) for n in range(len(book.pdf.pages)))] == [
        0,
        1,
        2,
        3,
    ]
    first = (tmp_path / "b.pdf").read_bytes()
    for path in (tmp_path / "bundles").glob("claimcheck-*"):
        path.unlink()
    bundle("again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == first, "the same input gives the same bytes"


def test_a_file_that_lost_its_end_says_what_is_missing(tmp_path):
    path = tmp_path / "cut.pdf"
    path.write_bytes(_cut())
    told = papers.look(path)
    notes = "; ".join(told["notes"])
    assert (told["pages"], told["reason"]) == (2, "")
    for words in ("damaged and has been repaired (", "these of its pages are empty: 2"):
        assert words in notes, told


def test_what_an_earlier_version_found_is_looked_at_again(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    path = papers.folder() / "x.pdf"
    path.write_bytes(made.owner_locked())
    stat = path.stat()
    old = {
        "pages": 0,
        "sha256": "",
        "reason": "its file is encrypted.",
        "size": stat.st_size,
        "changed": stat.st_mtime_ns,
    }
    path.with_suffix(".json").write_text(json.dumps(old | {"fetched": "https://example.org/x.pdf"}))
    known = papers.checked(path)
    assert known["pages"] == 4 and known["reason"] == "" and known["fetched"] == "https://example.org/x.pdf"


def test_each_structure_of_the_standard_has_its_fate():
    assert {f"/{key}" for key in CATALOGUE.split()} == set(structures.SETTLED) | set(structures.TOLD)
    assert {f"/{key}" for key in NAMES.split()} == set(structures.NAMES)
