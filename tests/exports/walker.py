"""Looks at every object of a PDF file for what may act or open something: written from the standard, not from ours."""

import re
from collections.abc import Iterator
from typing import Any

from pikepdf import Array, Dictionary, Name, Pdf, Stream, String

ROOT = {"/Type", "/Pages", "/Outlines", "/Names", "/Dests", "/PageLabels", "/Lang", "/ViewerPreferences", "/PageMode",
        "/Metadata", "/AF", "/OCProperties"}  # fmt: skip
PAGE = {"/Type", "/Parent", "/MediaBox", "/CropBox", "/BleedBox", "/TrimBox", "/ArtBox", "/Rotate", "/UserUnit",
        "/Resources", "/Contents", "/Group", "/Annots", "/Trans"}  # fmt: skip
NEVER = {"/AA", "/PA", "/OpenAction", "/JS", "/JavaScript", "/XFA", "/AcroForm", "/Collection", "/Threads", "/URLS",
         "/Ref", "/OPI", "/PieceInfo", "/RichMediaContent", "/3DD", "/Movie", "/StructTreeRoot", "/Renditions",
         "/Win", "/Mac", "/Unix", "/Next", "/IsMap", "/Perms", "/FFilter", "/Launch", "/Thread"}  # fmt: skip
ANNOTATIONS = {"/Link", "/Text", "/FreeText", "/Line", "/Square", "/Circle", "/Polygon", "/PolyLine", "/Highlight",
               "/Underline", "/Squiggly", "/StrikeOut", "/Caret", "/Stamp", "/Ink", "/Popup", "/Watermark"}  # fmt: skip
WEB = re.compile(r"https?://[A-Za-z0-9._-]+(:[0-9]+)?([/?#][!-~]*)?")
DRAWN = {"/Alpha", "/Luminosity", "/Transparency", "/D", "/r"}  # masks, groups, page labels
CANARY = "PLANTED"


def found(pdf: Pdf) -> list[str]:
    """What should not be there, a line each."""
    return list(_found(pdf))


def _found(pdf: Pdf) -> Iterator[str]:
    pages = {page.obj.objgen for page in pdf.pages}
    names = _names(pdf)
    files = 0
    yield from (f"catalogue: {key}" for key in set(pdf.Root.keys()) - ROOT)
    if "/Names" in pdf.Root:
        yield from (f"names: {key}" for key in set(pdf.Root.Names.keys()) - {"/Dests", "/EmbeddedFiles"})
    for page in pdf.pages:
        yield from (f"page: {key}" for key in set(page.obj.keys()) - PAGE)
    for one in [*pdf.objects, pdf.trailer]:
        for value in _inside(one):
            yield from _canary(value)
            if isinstance(value, Dictionary | Stream):
                yield from _dictionary(value, pages, names)
                files += "/EF" in value
    if files != 1 or list(pdf.attachments) != ["manifest.json"]:
        yield f"{files} files: {list(pdf.attachments)}"


def _inside(value: Any) -> Iterator[Any]:
    """A value and all that is in it without a reference."""
    yield value
    inner: list[Any] = []
    if isinstance(value, Dictionary | Stream):
        inner = [value.get(key) for key in value.keys()]  # noqa: SIM118
        yield from (Name(key) for key in value.keys())  # noqa: SIM118
    elif isinstance(value, Array):
        inner = list(value)
    for one in inner:
        if isinstance(one, String | Name) or (isinstance(one, Dictionary | Array) and not one.is_indirect):
            yield from _inside(one)


def _canary(value: Any) -> Iterator[str]:
    if isinstance(value, String | Name) and CANARY in str(value):
        yield f"left behind: {value}"
    elif isinstance(value, Stream) and value.get("/Type") not in ("/EmbeddedFile", "/ObjStm"):
        try:
            data = value.read_bytes()
        except Exception:
            data = value.read_raw_bytes()
        if CANARY.encode() in data:
            yield f"left behind in a stream: {data[:80]!r}"


def _dictionary(one: Any, pages: set, names: set[str]) -> Iterator[str]:
    entry = "/Title" in one and "/Parent" in one  # of the outline: its /Next is another
    yield from (f"{key} in {_short(one)}" for key in NEVER & set(one.keys()) if not (entry and key == "/Next"))
    if isinstance(one, Stream):
        if "/F" in one:
            yield f"a stream of another file: {_short(one)}"
        if "/PS" in (one.get("/Subtype"), one.get("/Subtype2")):
            yield "PostScript"
    kind = one.get("/S")
    if isinstance(kind, Name) and str(kind) not in DRAWN and not _is_web(one):
        yield f"action {_short(one)}"
    if "/Rect" in one and "/Subtype" in one and str(one.Subtype) not in ANNOTATIONS:
        yield f"annotation {_short(one)}"
    if isinstance(action := one.get("/A"), Dictionary) and (entry or "/Rect" in one) and action.get("/S") != "/URI":
        yield f"acts: {_short(action)}"
    if "/Dest" in one and not _is_here(one.Dest, pages, names):
        yield f"leads away: {_short(one)}"


def _is_web(action: Any) -> bool:
    return action.S == "/URI" and set(action.keys()) <= {"/S", "/URI", "/Type"} and bool(WEB.fullmatch(str(action.URI)))


def _is_here(target: Any, pages: set, names: set[str]) -> bool:
    if isinstance(target, Name | String):
        return str(target).removeprefix("/") in names
    return isinstance(target, Array) and isinstance(target[0], Dictionary) and target[0].objgen in pages


def _names(pdf: Pdf) -> set[str]:
    old = pdf.Root.get("/Dests", {})
    return {str(key).removeprefix("/") for key in old.keys()}  # noqa: SIM118


def _short(value: Any) -> str:
    return repr(value)[:200]
