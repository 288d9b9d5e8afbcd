"""Binding: our sheets and the papers' own pages as one PDF, with outline, page labels and links that land.

A named destination such as `section.1` means another place in each paper, so those of a paper get its slug before
them, and links that used them go straight to the page. What a paper's catalogue would do on opening stays behind.
"""

import io
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pikepdf
from django.conf import settings
from pikepdf import Array, Dictionary, Name, Object, OutlineItem, Pdf, String

from exports import fetching, plot_files, sheets
from exports.bundle_plan import Plan, manifest
from exports.flowables import PlotPlace
from exports.sheets import Sheets

DEPTH, MANY = 12, 5000  # of a paper's outline: levels, entries
SAFE = ("/GoTo", "/URI", "/Named", "/GoToR")  # actions of links that stay
Progress = Callable[[str, int, int], None]


def bind(plan: Plan, file: Path, progress: Progress = lambda *told: None) -> dict[str, Any]:
    """Write the bundle to `file`, as a whole or not at all; returns its manifest."""
    progress("drawing the sheets", 0, len(plan.items))
    drawn = sheets.draw(plan)
    part = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with Pdf.open(io.BytesIO(drawn.data)) as pdf:
            told = _bind(pdf, plan, drawn, progress)
            progress("writing the file", len(plan.items), len(plan.items))
            pdf.save(part, object_stream_mode=pikepdf.ObjectStreamMode.generate, deterministic_id=True)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return told


def _bind(pdf: Pdf, plan: Plan, drawn: Sheets, progress: Progress) -> dict[str, Any]:
    own = list(pdf.pages)
    progress("drawing the plots", 0, len(drawn.plots))
    files = plot_files.draw((place.drawing for place in drawn.plots), settings.DATA_DIR / "bundles" / "plots")
    forms: dict[Path, Object] = {}
    for place, file in zip(drawn.plots, files, strict=True):
        _put(pdf, own[place.page], place, file, forms)
    del pdf.pages[:]
    front, count = drawn.front
    pdf.pages.extend(own[front : front + count])
    outlines: list[list[OutlineItem]] = []
    names: dict[str, Object] = {}
    notes: dict[str, str] = {}
    for i, item in enumerate(plan.items):
        progress("binding", i, len(plan.items))
        pdf.pages.extend(own[drawn.first[i] : drawn.first[i] + drawn.count[i]])
        outline: list[OutlineItem] = []
        if item.paper:
            outline, named, note = add_paper(pdf, fetching.folder() / item.paper.file, item.slug)
            names |= named
            if note:
                notes[item.slug] = note
        outlines.append(outline)
    begin, count = drawn.index
    pdf.pages.extend(own[begin : begin + count])
    _name(pdf, names)
    _outline(pdf, plan, drawn, own, outlines)
    _label(pdf, drawn.front[1])
    told = manifest(plan, pages=len(pdf.pages), notes=notes)
    _describe(pdf, plan, told)
    return told


def add_paper(pdf: Pdf, file: Path, slug: str) -> tuple[list[OutlineItem], dict[str, Object], str]:
    """Append a paper's pages; its outline and its named destinations as they are in `pdf`, and what was left out.

    The source is let go, not closed: its streams are read once more when `pdf` is saved, and only they are kept.
    """
    source = Pdf.open(file)
    _flatten(source)
    named = _destinations(source)
    entries, note = _read_outline(source, named)
    for page in source.pages:
        _clean(page, named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pikepdf.PageCopyWarning)  # of what is done here for it
        pdf.pages.extend(source.pages)
    kept = {f"{slug}/{name}": place for name, place in named.items() if _is_place(place)}
    carried = source.make_indirect(
        Dictionary(Names=Array(list(kept.values())), Outline=Array([place for _, _, place in entries if place]))
    )
    copied = pdf.copy_foreign(carried)
    taken = iter(copied.Outline)
    tree = _tree([(depth, title, next(taken) if place else None) for depth, title, place in entries])
    return tree, dict(zip(kept, copied.Names, strict=True)), note


def _flatten(source: Pdf) -> None:
    """What the fields of a form show becomes part of their pages."""
    if not isinstance(form := source.Root.get("/AcroForm"), Dictionary):
        return
    annotations = [one for page in source.pages for one in page.obj.get("/Annots", [])]
    if any(one.get("/Subtype") == Name.Widget and "/AP" not in one for one in annotations):
        form.NeedAppearances = True
        source.generate_appearance_streams()
    source.flatten_annotations("all")


def _destinations(source: Pdf) -> dict[str, Object]:
    """Every named destination of a file: name -> explicit place, of the old dictionary and of the name tree."""
    found: dict[str, Object] = {}
    if isinstance(old := source.Root.get("/Dests"), Dictionary):
        found |= {str(name)[1:]: value for name, value in old.items()}
    tree = source.Root.get("/Names")
    if isinstance(tree, Dictionary) and isinstance(tree.get("/Dests"), Dictionary):
        found |= {str(name): value for name, value in _leaves(tree.Dests)}
    places = {name: _place(value) for name, value in found.items()}
    # One object for each, which all its links share: a paper has many more links than places.
    return {name: source.make_indirect(place) for name, place in places.items() if place is not None}


def _leaves(root: Object) -> Iterator[tuple[Object, Object]]:
    """The pairs of a name tree; one that leads back into itself ends."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Dictionary) or (node.is_indirect and node.objgen in seen):
            continue
        seen.add(node.objgen)
        pairs = node.get("/Names")
        if isinstance(pairs, Array):
            yield from zip(list(pairs)[::2], list(pairs)[1::2], strict=False)
        kids = node.get("/Kids")
        waiting += list(kids)[::-1] if isinstance(kids, Array) else []


def _place(value: Any) -> Object | None:
    """The array [page, how …] of a destination; None if it is none."""
    if isinstance(value, Dictionary):
        value = value.get("/D")
    return value if isinstance(value, Array) and _is_place(value) else None


def _is_place(value: Any) -> bool:
    return isinstance(value, Array) and len(value) > 0 and isinstance(value[0], Dictionary) and "/Type" in value[0]


def _resolve(value: Any, named: dict[str, Object]) -> Object | None:
    """A destination by whatever it is given: explicit, or by name."""
    if isinstance(value, Name):
        return named.get(str(value)[1:])
    if isinstance(value, String):
        return named.get(str(value))
    return _place(value)


def _clean(page: pikepdf.Page, named: dict[str, Object]) -> None:
    """Links of a page to explicit places; scripts and what points to structures that stay behind are taken off."""
    for key in ("/AA", "/StructParents", "/B", "/Tabs"):
        if key in page.obj:
            del page.obj[key]
    annotations = page.obj.get("/Annots")
    if not isinstance(annotations, Array):
        return
    kept = []
    for one in annotations:
        if not isinstance(one, Dictionary) or not _keep(one):
            continue
        action = one.get("/A")
        by_action = isinstance(action, Dictionary) and action.get("/S") == Name.GoTo
        target = action.get("/D") if isinstance(action, Dictionary) and by_action else one.get("/Dest")
        if target is not None:
            place = _resolve(target, named)
            for key in ("/A", "/Dest"):
                if key in one:
                    del one[key]
            if place is not None:
                one.Dest = place
        kept.append(one)
    page.obj.Annots = Array(kept)


def _keep(annotation: Object) -> bool:
    for key in ("/AA", "/StructParent"):
        if key in annotation:
            del annotation[key]
    if annotation.get("/Subtype") in (Name.Widget, Name.Movie, Name.Screen, Name.RichMedia, Name("/3D"), Name.Sound):
        return False
    action = annotation.get("/A")
    if isinstance(action, Dictionary):
        if str(action.get("/S")) not in SAFE:
            del annotation["/A"]
        elif "/Next" in action:
            del action["/Next"]
    return True


def _read_outline(source: Pdf, named: dict[str, Object]) -> tuple[list[tuple[int, str, Object | None]], str]:
    """(depth, title, place) of each entry, top to bottom, and a note if some were left out."""
    root = source.Root.get("/Outlines")
    first = root.get("/First") if isinstance(root, Dictionary) else None
    found: list[tuple[int, str, Object | None]] = []
    waiting, seen = [(0, first)], set()
    while waiting:
        depth, node = waiting.pop()
        if not isinstance(node, Dictionary):
            continue
        if node.objgen in seen or depth >= DEPTH or len(found) >= MANY:
            return found, f"its outline is cut after {len(found)} entries: it is too long, too deep, or circular"
        seen.add(node.objgen)
        action = node.get("/A")
        target = node.get("/Dest", action.get("/D") if isinstance(action, Dictionary) else None)
        title = node.get("/Title")
        found.append((depth, str(title) if isinstance(title, String) else "…", _resolve(target, named)))
        waiting += [(depth, node.get("/Next")), (depth + 1, node.get("/First"))]
    return found, ""


def _tree(entries: list[tuple[int, str, Any]]) -> list[OutlineItem]:
    top: list[OutlineItem] = []
    path: list[OutlineItem] = []
    for depth, title, place in entries:
        entry = OutlineItem(title, destination=place)
        entry.is_closed = True
        del path[depth:]
        (path[-1].children if path else top).append(entry)
        path.append(entry)
    return top


def _outline(pdf: Pdf, plan: Plan, drawn: Sheets, own: list[pikepdf.Page], outlines: list[list[OutlineItem]]) -> None:
    """Cover, contents, category -> work -> the work's own, index."""
    with pdf.open_outline(max_depth=DEPTH + 4) as outline:
        outline.root.clear()
        outline.root.append(_entry("Cover", own[drawn.front[0]]))
        outline.root.append(_entry("Contents", own[drawn.front[0] + 1]))
        for group in plan.groups:
            works = []
            for i in group.items:
                entry = _entry(plan.items[i].title, own[drawn.first[i]])
                entry.children.extend(_again(one) for one in outlines[i])
                works.append(entry)
            if group.name:
                category = _entry(group.name, own[drawn.first[group.items[0]]])
                category.children.extend(works)
                works = [category]
            outline.root.extend(works)
        outline.root.append(_entry("Index", own[drawn.index[0]]))


def _entry(title: str, page: pikepdf.Page) -> OutlineItem:
    entry = OutlineItem(title, destination=Array([page.obj, Name.Fit]))
    entry.is_closed = True
    return entry


def _again(entry: OutlineItem) -> OutlineItem:
    """A copy: a work of two categories is bookmarked twice, and an entry stands in one place."""
    copy = OutlineItem(entry.title, destination=entry.destination)
    copy.is_closed = True
    copy.children.extend(_again(child) for child in entry.children)
    return copy


def _name(pdf: Pdf, names: dict[str, Object]) -> None:
    """The papers' named destinations as one name tree, sorted as bytes, in leaves of 64."""
    if not names:
        return
    pairs = sorted(((String(name), place) for name, place in names.items()), key=lambda pair: bytes(pair[0]))
    leaves = []
    for i in range(0, len(pairs), 64):
        part = pairs[i : i + 64]
        flat = [value for pair in part for value in pair]
        leaf = Dictionary(Limits=Array([part[0][0], part[-1][0]]), Names=Array(flat))
        leaves.append(pdf.make_indirect(leaf))
    pdf.Root.Names = Dictionary(Dests=pdf.make_indirect(Dictionary(Kids=Array(leaves))))


def _label(pdf: Pdf, front: int) -> None:
    """Roman for the front, arabic behind it."""
    pdf.Root.PageLabels = Dictionary(
        Nums=Array([0, Dictionary(S=Name.r), front, Dictionary(S=Name.D, St=1)])
    )  # fmt: skip


def _describe(pdf: Pdf, plan: Plan, told: dict[str, Any]) -> None:
    """Metadata, language, what a viewer shows first, and the manifest as an attached file."""
    pdf.Root.Lang = String("en-GB")
    pdf.Root.ViewerPreferences = Dictionary(DisplayDocTitle=True)
    pdf.Root.PageMode = Name.UseOutlines
    with pdf.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as metadata:
        metadata["dc:title"] = sheets.title(plan)
        metadata["dc:creator"] = ["Claimcheck"]
        metadata["dc:language"] = ["en-GB"]
        metadata["dc:description"] = plan.selection
    data = text(told)
    stream = pdf.make_stream(data, Type=Name.EmbeddedFile, Subtype=Name("/application/json"))
    stream.Params = Dictionary(Size=len(data))
    spec = Dictionary(Type=Name.Filespec, F=String("manifest.json"), UF=String("manifest.json"),
                      Desc=String("What this bundle holds"), AFRelationship=Name.Data,
                      EF=Dictionary(F=stream, UF=stream))  # fmt: skip
    spec = pdf.make_indirect(spec)
    if "/Names" not in pdf.Root:
        pdf.Root.Names = Dictionary()
    pdf.Root.Names.EmbeddedFiles = Dictionary(Names=Array([String("manifest.json"), spec]))
    pdf.Root.AF = Array([spec])


def text(told: dict[str, Any]) -> bytes:
    """A manifest as its file has it."""
    return (json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _put(pdf: Pdf, page: pikepdf.Page, place: PlotPlace, file: Path, drawn: dict[Path, Object]) -> None:
    """A plot into its room, as vectors, as large as fits."""
    if file not in drawn:
        with Pdf.open(io.BytesIO(file.read_bytes())) as source:
            drawn[file] = pdf.copy_foreign(source.pages[0].as_form_xobject())
    room = pikepdf.Rectangle(place.x, place.y, place.x + place.width, place.y + place.height)
    name = page.add_resource(drawn[file], Name.XObject, Name(f"/Plot{list(drawn).index(file)}"))
    placed = page.calc_form_xobject_placement(drawn[file], name, room)
    page.contents_add(b"q\n" + placed + b"\nQ\n")
