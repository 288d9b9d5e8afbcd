"""A paper's pages in another document: its layers, links and outline go with them, what acts or is a file does not.

Knows no Django: the check of a copy (`exports.examine`) binds it alone, by this very code, in a process of its own.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, OutlineItem, Pdf

from exports import actions, layers, places, structures

Entries = list[tuple[int, str, Object | None]]


@dataclass
class Added:
    """What goes with the pages, as it is in the document that took them; and what a reader should know."""

    outline: list[OutlineItem]
    named: dict[str, Object]
    layers: Object | None
    notes: list[str]


def add(pdf: Pdf, file: Path) -> Added:
    """Append a paper's pages.

    The source is let go, not closed: its streams are read once more when `pdf` is saved, and only they are kept.
    """
    source = Pdf.open(file, suppress_warnings=True)
    left = actions.Left()
    notes = [*_state(source), *structures.look(source, left)]
    _flatten(source)
    found = places.Places(source)
    entries, cut = places.outline(source, found)
    layered = layers.read(source, left)
    actions.clean_pages(source, found, left)
    actions.clean_drawings(source, left)
    added = _copy(pdf, source, found.named, entries, layered)
    notes += [cut, structures.told(left), *_repaired(source)]
    added.notes = [note for note in notes if note]
    return added


def _copy(pdf: Pdf, source: Pdf, named: dict[str, Object], entries: Entries, layered: Dictionary | None) -> Added:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pikepdf.PageCopyWarning)  # of what is done here for it
        pdf.pages.extend(source.pages)
    carried = Dictionary(
        Names=Array(list(named.values())), Outline=Array([place for _, _, place in entries if place is not None])
    )
    if layered is not None:
        carried.Layers = layered
    copied = pdf.copy_foreign(source.make_indirect(carried))
    taken = iter(copied.Outline)
    tree = _tree([(depth, title, None if place is None else next(taken)) for depth, title, place in entries])
    return Added(tree, dict(zip(named, copied.Names, strict=True)), copied.get("/Layers"), [])


def _state(source: Pdf) -> list[str]:
    """What had to be done to open it."""
    return ["its file is encrypted and opens without a password; it is bound in plain"] if source.is_encrypted else []


def _repaired(source: Pdf) -> list[str]:
    """What was mended in reading it; whether something was lost with it, nobody can tell but by the pages."""
    if not (troubles := source.get_warnings()):
        return []
    said = [structures.trouble(one) for one in troubles]
    first = next((one for one in said if one != "file is damaged"), said[0])
    notes = [f"its file was damaged and has been repaired ({first}); something may be missing"]
    if empty := [str(i + 1) for i, page in enumerate(source.pages) if page.obj.get("/Contents") is None]:
        notes.append(f"these of its pages are empty: {', '.join(empty[:20])}")
    return notes


def _flatten(source: Pdf) -> None:
    """What the fields of a form show becomes part of their pages."""
    if not isinstance(form := source.Root.get("/AcroForm"), Dictionary):
        return
    layers.keep_on_appearances(source)
    annotations = [one for page in source.pages for one in page.obj.get("/Annots", [])]
    if any(one.get("/Subtype") == Name.Widget and "/AP" not in one for one in annotations):
        form.NeedAppearances = True
        source.generate_appearance_streams()
    source.flatten_annotations("all")


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
