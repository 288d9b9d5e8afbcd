"""Binding: our sheets and the papers' own pages as one PDF, with outline, page labels and links that land.

A named destination such as `section.1` means another place in each paper, so those of a paper get its slug before
them, and links that used them go straight to the page (`exports.paper_pages`).
"""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pikepdf
from django.conf import settings
from pikepdf import Array, Dictionary, Name, Object, OutlineItem, Pdf, String

from exports import fetching, layers, paper_pages, plot_files, sheets
from exports.bundle_plan import Plan, manifest
from exports.flowables import PlotPlace
from exports.places import DEPTH
from exports.sheets import Sheets

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
    layered: list[tuple[str, Object]] = []
    for i, item in enumerate(plan.items):
        progress("binding", i, len(plan.items))
        pdf.pages.extend(own[drawn.first[i] : drawn.first[i] + drawn.count[i]])
        outline: list[OutlineItem] = []
        if item.paper:
            added = paper_pages.add(pdf, fetching.folder() / item.paper.file)
            outline = added.outline
            names |= {f"{item.slug}/{name}": place for name, place in added.named.items()}
            layered += [(item.title, added.layers)] if added.layers is not None else []
        outlines.append(outline)
    begin, count = drawn.index
    pdf.pages.extend(own[begin : begin + count])
    _name(pdf, names)
    layers.merge(pdf, layered)
    _outline(pdf, plan, drawn, own, outlines)
    _label(pdf, drawn.front[1])
    noted = {item.slug: "; ".join(item.paper.notes) for item in plan.items if item.paper and item.paper.notes}
    told = manifest(plan, pages=len(pdf.pages), notes=noted)
    _describe(pdf, plan, told)
    return told


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
