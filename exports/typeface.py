"""The typeface of our sheets, DejaVu Sans Condensed from a pip package, and text that it can show."""

import importlib.util
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

from reportlab.lib.fonts import addMapping
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

PACKAGE = "rinoh_typeface_dejavusans"
NAME = "DejaVuSansCondensed"
STYLES = {(0, 0): NAME, (1, 0): f"{NAME}-Bold"}  # (bold, italic); each takes 10 MB of memory
CHINESE = "STSong-Light"  # named, not embedded: viewers bring one
POINTS = str.maketrans(
    {"、": ", ", "，": ", ", "。": ". ", "：": ": ", "；": "; ", "（": " (", "）": ") ", "\u3000": " "}
)


def folder() -> Path:
    """Where the font files are. The package is found, not imported: its code is for another typesetter."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("the fonts are missing: pip install --no-deps rinoh-typeface-dejavusans")
    return Path(next(iter(found.submodule_search_locations)))


@cache
def register() -> frozenset[int]:
    """Tell reportlab of the fonts; the characters that the plain one has."""
    for (bold, italic), name in STYLES.items():
        pdfmetrics.registerFont(TTFont(name, folder() / f"{name}.ttf"))
        addMapping(NAME, bold, italic, name)
    pdfmetrics.registerFont(UnicodeCIDFont(CHINESE))
    return frozenset(pdfmetrics.getFont(NAME).face.charToGlyph)


def markup(text: str) -> str:
    """Text for a paragraph: escaped, CJK in a font that has it, what no font has as the replacement character."""
    known, pieces = register(), []
    for character in " ".join(text.translate(POINTS).split()):
        code = ord(character)
        if code in known:
            pieces.append(escape(character))
        elif 0x2E80 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0xFFEF:
            pieces.append(f'<font name="{CHINESE}">{character}</font>')
        else:
            pieces.append("\N{REPLACEMENT CHARACTER}")
    return "".join(pieces)
