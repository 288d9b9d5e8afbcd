"""What the pages of a bundle are made of: measures, colours, styles, tables, plots to come, QR codes."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import segno
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Flowable, Paragraph, Table, TableStyle

from exports import typeface
from exports.actions import web
from exports.typeface import markup

WIDTH, HEIGHT = A4
MARGIN, FOOT = 54, 46
INNER, PAGE = WIDTH - 2 * MARGIN, HEIGHT - MARGIN - FOOT - 14  # what a page takes
INK, SOFT, RULE, ACCENT = (HexColor(code) for code in ("#1b1f24", "#555f6b", "#d9dde2", "#1f5fa8"))


@dataclass
class PlotPlace:
    """Where a plot goes: page of our own pages, lower left corner and size in points."""

    page: int
    x: float
    y: float
    width: float
    height: float
    drawing: dict


def style(size: float, *, bold: bool = False, color=INK, after: float = 0, leading: float = 1.25) -> ParagraphStyle:
    """A paragraph's style; sizes in points."""
    name = typeface.STYLES[(int(bold), 0)]
    return ParagraphStyle(
        f"{size}{bold}", fontName=name, fontSize=size, leading=size * leading, textColor=color, spaceAfter=after,
        splitLongWords=1,
    )  # fmt: skip


class Plot(Flowable):
    """Room for a plot, which is put in later: it is a PDF of its own."""

    def __init__(self, drawing: dict, width: float, places: list[PlotPlace], page: Callable[[], int]):
        super().__init__()
        self.drawing, self.places, self.page = drawing, places, page
        self.width, self.height = width, width * 0.6

    def wrap(self, *available: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        x, y = self.canv.absolutePosition(0, 0)
        self.places.append(PlotPlace(self.page(), x, y, self.width, self.height, self.drawing))


class Code(Flowable):
    """A QR code of an address, drawn as bars."""

    def __init__(self, address: str, side: float):
        super().__init__()
        self.address, self.side = address, side

    def wrap(self, *available: float) -> tuple[float, float]:
        return self.side, self.side

    def draw(self) -> None:
        matrix = segno.make(self.address, error="m", boost_error=False, mask=2).matrix
        module = self.side / len(matrix)
        path = self.canv.beginPath()
        for i, row in enumerate(matrix):
            for dark, bar in groupby(range(len(row)), key=lambda j: row[j]):
                if dark:
                    cells = list(bar)
                    path.rect(cells[0] * module, self.side - (i + 1) * module, len(cells) * module, module)
        self.canv.setFillColor(INK)
        self.canv.drawPath(path, stroke=0, fill=1)


def table(rows: list[list], widths: list[float], *, rules: bool = True, pad: float = 2) -> Table:
    """Rows without a frame; `rules` draws a line below each. Widths and `pad` in points."""
    look: list[tuple] = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4), ("TOPPADDING", (0, 0), (-1, -1), pad),
            ("BOTTOMPADDING", (0, 0), (-1, -1), pad)]  # fmt: skip
    if rules:
        look.append(("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE))
    return Table(rows, widths, style=TableStyle(look), hAlign="LEFT")


def address(text: str, url: str, look: ParagraphStyle) -> Paragraph:
    """A link out of the document, to the web; anything else is only told."""
    if not web(url):
        return Paragraph(markup(text), look)
    quoted = url.replace("&", "&amp;").replace('"', "%22").replace("<", "%3C")
    return Paragraph(f'<a href="{quoted}" color="#1f5fa8">{markup(text)}</a>', look)
