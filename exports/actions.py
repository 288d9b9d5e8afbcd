"""What a bound page may hold and its links may open: only what is listed here stays.

A link leads to a place in its own paper or to a page of the web; it is written anew, so nothing hangs on it.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from pikepdf import Array, Dictionary, Name, Object, Pdf, Stream, String

from exports.places import Places

PAGE = {"/Type", "/Parent", "/MediaBox", "/CropBox", "/BleedBox", "/TrimBox", "/ArtBox", "/Rotate", "/UserUnit",
        "/Resources", "/Contents", "/Group", "/Annots"}  # fmt: skip
SHOWN = {"/Link", "/Text", "/FreeText", "/Line", "/Square", "/Circle", "/Polygon", "/PolyLine", "/Highlight",
         "/Underline", "/Squiggly", "/StrikeOut", "/Caret", "/Stamp", "/Ink", "/Popup", "/Watermark"}  # fmt: skip
ANNOTATION = {"/Type", "/Subtype", "/Rect", "/Contents", "/NM", "/M", "/F", "/AP", "/AS", "/Border", "/C", "/OC", "/H",
              "/QuadPoints", "/BS", "/BE", "/T", "/CA", "/ca", "/BM", "/Lang", "/CreationDate", "/Subj", "/Open",
              "/Name", "/DA", "/Q", "/RD", "/L", "/LE", "/LL", "/LLE", "/LLO", "/IC", "/CL", "/Cap", "/CP", "/CO",
              "/IT", "/Vertices", "/InkList", "/Sy", "/Popup", "/Parent", "/IRT", "/RT"}  # fmt: skip
OTHERS = ("/Popup", "/Parent", "/IRT")  # other annotations of the page
FILMS = {"/Movie", "/Screen", "/RichMedia", "/3D", "/Sound"}
# What an /S may say below a page: masks, groups, borders, and a colour space that is called so. Any other is an action.
STYLES = {"/Alpha", "/Luminosity", "/Transparency", "/S", "/D", "/B", "/I", "/U", "/C", "/DeviceGray", "/DeviceRGB",
          "/DeviceCMYK", "/Pattern"}  # fmt: skip
# What a drawing may point to outside of the page, or carry along that no viewer draws.
ASIDE = ("/F", "/FFilter", "/FDecodeParms", "/Ref", "/OPI", "/PieceInfo", "/Metadata", "/AF", "/StructParent",
         "/StructParents", "/Measure", "/PtData")  # fmt: skip


class Left:
    """What a paper loses: counts by kind, and names where there are any."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.files: list[str] = []

    def add(self, kind: str, count: int = 1) -> None:
        """Count more of a kind, which is named in the plural; 0 only names it."""
        self.counts[kind] = self.counts.get(kind, 0) + count


def web(text: str, base: str = "") -> str:
    """The address of a link if it is one of the web, whole, without a name and password; empty if not."""
    text = text.strip(" ")
    if re.search(r"[\x00-\x1f\x7f-\x9f\\]", text):
        return ""
    try:
        text = urljoin(base, text) if base else text
        parts = urlsplit(text)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        return ""
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        return ""
    return quote(parts.geturl(), safe="%/:?#[]@!$&'()*+,;=~-._", errors="replace")


def _text(value: Any) -> str:
    return str(value) if isinstance(value, String) else ""


def is_action(value: Any) -> bool:
    """Whether a dictionary is an action, of any kind: known or not."""
    if not isinstance(value, Dictionary):
        return False
    kind, script = value.get("/S"), value.get("/JS")
    known = value.get("/Type") == Name.Action or (isinstance(kind, Name) and str(kind) not in STYLES)
    return known or isinstance(script, String) or (isinstance(script, Stream) and "/Subtype" not in script)


def clean_pages(source: Pdf, places: Places, left: Left) -> None:
    """Take off each page what is not listed here; count what its reader will miss."""
    catalogue = source.Root.get("/URI")
    base = web(_text(catalogue.get("/Base"))) if isinstance(catalogue, Dictionary) else ""
    for page in source.pages:
        if isinstance(page.obj.get("/AA"), Dictionary):
            left.add("scripts or other actions")
        for key in set(page.obj.keys()) - PAGE:
            del page.obj[key]
        listed = page.obj.get("/Annots")
        if listed is None:
            continue
        kept = list(_cleaned(list(listed) if isinstance(listed, Array) else [], places, base, left))
        _unlink(kept)
        page.obj.Annots = Array(kept)


def _cleaned(listed: list[Object], places: Places, base: str, left: Left) -> Iterator[Object]:
    for one in listed:
        if not isinstance(one, Dictionary):
            continue
        kind = str(one.get("/Subtype"))
        if kind not in SHOWN:
            if kind != "/FileAttachment":  # told by name
                left.add(
                    "films, sounds or 3D views" if kind in FILMS else "fields or marks that the bundle cannot show"
                )
            continue
        where, address, missed = _target(one, places, base)
        if missed:
            left.add("links that are not to a page of the web or of the paper")
        if "/AA" in one:
            left.add("scripts or other actions")
        for key in set(one.keys()) - ANNOTATION:
            del one[key]
        if kind == "/Link" and where is not None:
            one.Dest = where
        elif kind == "/Link" and address:
            one.A = Dictionary(S=Name.URI, URI=String(address))
        yield one


def _target(annotation: Object, places: Places, base: str) -> tuple[Object | None, str, bool]:
    """The place or the address that an annotation leads to, and whether it led somewhere else or did more."""
    action = annotation.get("/A")
    if action is None:
        target = annotation.get("/Dest")
        return places.of(target), "", False
    if not isinstance(action, Dictionary):
        return None, "", True
    more = "/Next" in action
    if action.get("/S") == Name.GoTo:
        return places.of(action.get("/D")), "", more
    address = web(_text(action.get("/URI")), base) if action.get("/S") == Name.URI else ""
    return None, address, more or not address


def _unlink(kept: list[Object]) -> None:
    """References between annotations stay only if both do."""
    here = {one.objgen for one in kept if one.is_indirect}
    for one in kept:
        for key in OTHERS:
            other = one.get(key)
            if other is not None and not (isinstance(other, Dictionary) and other.objgen in here and other.is_indirect):
                del one[key]


def clean_drawings(source: Pdf, left: Left) -> None:
    """Take out of every object what points outside, runs, or is a file; pages and links have been cleaned before."""
    for one in source.objects:
        if isinstance(one, Stream):
            _clean_stream(one, left)
        _strip(one)


def _clean_stream(one: Stream, left: Left) -> None:
    if Name.PS in (one.get("/Subtype"), one.get("/Subtype2")):
        one.write(b"")
        for key in set(one.keys()) - {"/Length"}:
            del one[key]
        one.Type, one.Subtype, one.BBox = Name.XObject, Name.Form, Array([0, 0, 0, 0])
        left.add("drawings in PostScript")
    if "/F" in one or "/Ref" in one:
        left.add("drawings that lie in another file")
    if "/AF" in one:
        left.add("files of drawings", len(one.AF) if isinstance(one.AF, Array) else 1)
    for key in ASIDE:
        if key in one:
            del one[key]


def _strip(value: Any) -> None:
    """Look through one object; what it refers to has its own turn. qpdf reads none that is nested 500 deep."""
    if isinstance(value, Dictionary | Stream):
        for key in list(value.keys()):
            inner = value.get(key)
            if _runs(inner):
                del value[key]
            elif _is_inside(inner):
                _strip(inner)
    elif isinstance(value, Array):
        for i, inner in enumerate(value):
            if _runs(inner):
                value[i] = None
            elif _is_inside(inner):
                _strip(inner)


def _is_inside(value: Any) -> bool:
    return isinstance(value, Dictionary | Array) and not value.is_indirect


def _runs(value: Any) -> bool:
    """Whether a dictionary acts or is a file; our own links, as `clean_pages` writes them, may stay."""
    if not isinstance(value, Dictionary):
        return False
    if is_action(value):
        address = _text(value.get("/URI"))
        return set(value.keys()) != {"/S", "/URI"} or value.S != Name.URI or not address or address != web(address)
    files = value.get("/EF")  # a font may be called so, too
    return value.get("/Type") in (Name.Filespec, Name.F) or (isinstance(files, Dictionary) and "/Subtype" not in files)
