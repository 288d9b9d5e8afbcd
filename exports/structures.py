"""What becomes of each structure of a paper's catalogue in a bound document (ISO 32000-2, tables 29 and 32)."""

import re
from typing import Any

from pikepdf import Array, Dictionary, Name, Pdf, String

from exports.actions import Left, is_action
from exports.places import leaves

NAMED = 5  # attachments that are told by name
LENGTH = 60  # letters of a name
# Carried, or of no meaning here, and why. What is in none of these tables is told as left out, by its key.
SETTLED = {
    "/Type": "every catalogue has it",
    "/Version": "the bundle has its own",
    "/Extensions": "of the version; what they would allow is looked at page by page",
    "/Pages": "bound",
    "/PageLabels": "the bundle counts its pages through, as its contents and index do",
    "/Names": "table NAMES",
    "/Dests": "bound, under the work's name",
    "/ViewerPreferences": "how a window looks is the bundle's own",
    "/PageLayout": "as the viewer preferences",
    "/PageMode": "as the viewer preferences",
    "/Outlines": "bound, under the work's entry",
    "/OpenAction": "the bundle opens at its cover; a script is told",
    "/AA": "told by `_scripts`",
    "/URI": "relative links have been made whole with it",
    "/AcroForm": "told by `_forms`",
    "/Metadata": "title, authors and licence are on the sheet",
    "/MarkInfo": "goes with the tags",
    "/Lang": "goes with the tags; the bundle says its own",
    "/SpiderInfo": "how a page was captured from the web",
    "/PieceInfo": "private data of the program that wrote the file",
    "/OCProperties": "bound (exports.layers)",
    "/Legal": "counts what might change how a page looks; that is looked at here",
    "/Requirements": "of a viewer; what they are for is left out and told",
    "/NeedsRendering": "told with the form",
    "/DSS": "goes with the signatures",
    "/Collection": "told by `_attachments`",
    "/AF": "told by `_attachments`",
}
TOLD = {
    "/StructTreeRoot": "tags for screen readers",
    "/Threads": "article threads",
    "/OutputIntents": "colour profile for printing",
    "/Perms": "signed permissions",
    "/DPartRoot": "document parts",
}
NAMES = {
    "/Dests": "bound, under the work's name",
    "/JavaScript": "told by `_scripts`",
    "/EmbeddedFiles": "told by `_attachments`",
    "/Renditions": "told as films where a page shows them",
    "/AP": "appearances for scripts to use",
    "/Pages": "pages for scripts to use",
    "/Templates": "pages for scripts to use",
    "/IDS": "how a page was captured from the web",
    "/URLS": "how a page was captured from the web",
    "/AlternatePresentations": "slide shows, which no viewer plays any more",
}


def look(source: Pdf, left: Left) -> list[str]:
    """Count in `left` what the file has and the bundle will not; the notes are what needs a sentence of its own.

    To be asked before anything is taken off the pages.
    """
    root = source.Root
    notes = _forms(root)
    _scripts(root, left)
    notes += _attachments(source, left)
    others = [words for key, words in TOLD.items() if key in root]
    others += [
        f"{plain(str(key)[1:])} of its catalogue" for key in sorted(root) if key not in SETTLED and key not in TOLD
    ]
    names = root.get("/Names")
    if isinstance(names, Dictionary):
        others += [f"{plain(str(key)[1:])} of its names" for key in sorted(names) if key not in NAMES]
    for words in sorted(others):
        left.add(words, 0)
    return notes


def _forms(root: Any) -> list[str]:
    form = root.get("/AcroForm")
    if not isinstance(form, Dictionary):
        return []
    notes = ["its form is bound as it was filled in"]
    if "/XFA" in form:
        notes = ["it is an XFA form: what only that shows is left out"]
    signed = form.get("/SigFlags", 0)
    if "/DSS" in root or (isinstance(signed, int) and signed & 1):
        notes.append("its signatures do not hold for a bound copy")
    return notes


def _scripts(root: Any, left: Left) -> None:
    """Scripts by name, and what would be done on opening, closing, saving or printing."""
    names = root.get("/Names")
    scripts = list(leaves(names.get("/JavaScript"))) if isinstance(names, Dictionary) else []
    opening = root.get("/OpenAction")
    more = is_action(opening) and opening.get("/S") != Name.GoTo
    closing = root.get("/AA")
    count = len(scripts) + more + (len(closing) if isinstance(closing, Dictionary) else 0)
    if count:
        left.add("scripts or other actions", count)


def _attachments(source: Pdf, left: Left) -> list[str]:
    """Files of the name tree, of arrays AF, and of annotations, each once."""
    names = source.Root.get("/Names")
    listed = list(leaves(names.get("/EmbeddedFiles"))) if isinstance(names, Dictionary) else []
    specs: list[tuple[Any, Any]] = [(key, value) for key, value in listed]
    specs += [("", one) for one in _array(source.Root.get("/AF"))]
    for page in source.pages:
        specs += [("", one) for one in _array(page.obj.get("/AF"))]
        for one in _array(page.obj.get("/Annots")):
            if isinstance(one, Dictionary):
                attached = [one.get("/FS")] if one.get("/Subtype") == Name.FileAttachment else []
                specs += [("", spec) for spec in attached + _array(one.get("/AF"))]
    seen: set[Any] = set()
    for key, spec in specs:
        if isinstance(spec, Dictionary) and spec.is_indirect:
            if spec.objgen in seen:
                continue
            seen.add(spec.objgen)
        left.files.append(_name(key, spec))
    if not isinstance(source.Root.get("/Collection"), Dictionary):
        return []
    return ["it is a portfolio: its pages are only the cover of the files in it"]


def _array(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Array) else []


def _name(key: Any, spec: Any) -> str:
    for value in (spec.get("/UF"), spec.get("/F")) if isinstance(spec, Dictionary) else ():
        if isinstance(value, String) and plain(value):
            return plain(value)
    return plain(key) or "without a name"


def plain(value: Any, length: int = LENGTH) -> str:
    """Somebody else's words as one short line, without marks that turn its direction."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", " ", str(value))
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def told(left: Left) -> str:
    """What is left out, in one phrase; empty if nothing is."""
    parts = []
    if left.files:
        names = ", ".join(left.files[:NAMED]) + (", …" if len(left.files) > NAMED else "")
        parts.append(f"{len(left.files)} attachment{'s' * (len(left.files) > 1)} ({names})")
    parts += [f"{kind} ({count})" if count else kind for kind, count in left.counts.items()]
    return f"left out: {', '.join(parts)}" if parts else ""


def trouble(error: Any) -> str:
    """What qpdf says of a file, without where the file lies and without offsets."""
    text = " ".join(str(error).split()).removeprefix("WARNING:").strip()
    if text.startswith(("/", "stream <", "<")):
        text = re.sub(r"^.*?: ", "", text)
    return plain(text, 160).rstrip(" .")
