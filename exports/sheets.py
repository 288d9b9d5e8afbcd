"""Our own pages of a bundle: cover, contents, a sheet a work, index. Drawn once, in the order that numbers them.

The sheets come first, so that contents and index know their pages; `exports.binding` puts them in their places.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

import segno
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import simpleSplit
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Frame, KeepInFrame, Paragraph, Spacer, Table, TableStyle

from exports import typeface
from exports.bundle_plan import PRIVATE, REPORT, TITLES, Claim, Item, Plan, Verdict
from exports.typeface import markup

WIDTH, HEIGHT = A4
MARGIN, FOOT = 54, 46
INNER, PAGE = WIDTH - 2 * MARGIN, HEIGHT - MARGIN - FOOT - 14  # what a page takes
INK, SOFT, RULE, ACCENT = (HexColor(code) for code in ("#1b1f24", "#555f6b", "#d9dde2", "#1f5fa8"))
MARKS = {
    "replicated": ("✔", "#2f7d4f"),
    "contradicted": ("✘", "#b3261e"),
    "inconclusive": ("≈", "#8a6d1b"),
    "no result": ("?", "#8a4fa3"),
    "computed": ("=", "#555f6b"),
    "not testable here": ("–", "#555f6b"),
}
SCALES = {"reduced": "reduced scale", "paper": "the paper's scale", "any": "at any scale"}
ROMAN = ((100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
AUTHORS = 24  # named on a sheet; more are counted
SMALLER = (1.0, 0.88, 0.78)  # sizes that are tried until a work's sheet has two pages at most


@dataclass
class PlotPlace:
    """Where a plot goes: page of our own pages, lower left corner and size in points."""

    page: int
    x: float
    y: float
    width: float
    height: float
    drawing: dict


@dataclass
class Sheets:
    """Our pages as a PDF, and which are which: `first` and `count` per work, all of them counted from 0."""

    data: bytes = b""
    first: list[int] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    index: tuple[int, int] = (0, 0)
    front: tuple[int, int] = (0, 0)
    plots: list[PlotPlace] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


def style(size: float, *, bold: bool = False, color=INK, after: float = 0, leading: float = 1.25) -> ParagraphStyle:
    """A paragraph's style; sizes in points."""
    name = typeface.STYLES[(int(bold), 0)]
    return ParagraphStyle(
        f"{size}{bold}", fontName=name, fontSize=size, leading=size * leading, textColor=color, spaceAfter=after,
        splitLongWords=1,
    )  # fmt: skip


class _Plot(Flowable):
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


class _Code(Flowable):
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


def draw(plan: Plan) -> Sheets:
    """All our pages. The bytes are the same for the same plan."""
    typeface.register()
    return _Drawing(plan).whole()


class _Drawing:
    """One canvas, page after page."""

    def __init__(self, plan: Plan):
        self.plan, self.sheets, self.pages = plan, Sheets(), 0
        self.buffer = io.BytesIO()
        self.canvas = Canvas(self.buffer, pagesize=A4, invariant=1, pageCompression=1, lang="en-GB")
        self.canvas.setTitle(title(plan))
        self.canvas.setAuthor("Claimcheck")
        self.canvas.setSubject(plan.selection)

    def whole(self) -> Sheets:
        """Sheets, index, front."""
        number, sheets = 1, self.sheets
        for i, item in enumerate(self.plan.items):
            sheets.numbers.append(number)
            sheets.first.append(self.pages)
            used = self.work(i, item, number)
            sheets.count.append(used)
            number += used + (item.paper.pages if item.paper else 0)
        begin = self.pages
        self.flow(index(self.plan, sheets.numbers), number, "index", "Index", columns=3)
        sheets.index = (begin, self.pages - begin)
        begin = self.pages
        self.flow(cover(self.plan), -1, "cover")
        self.flow(contents(self.plan, sheets.numbers, number), -2, "contents", "Contents")
        sheets.front = (begin, self.pages - begin)
        self.canvas.save()
        sheets.data = self.buffer.getvalue()
        return sheets

    def work(self, i: int, item: Item, number: int) -> int:
        """A work's sheet, in the largest size that needs two pages at most; how many it has."""
        for size in SMALLER:
            story = sheet(self.plan, item, size, self.sheets.plots, lambda: self.pages)
            if sum(part.wrapOn(self.canvas, INNER, PAGE)[1] for part in story) < 1.85 * PAGE:
                break  # the tenth is for what does not fit at the foot of the first page
        return self.flow(story, number, f"work-{i}", item.title)

    def flow(self, story: list[Flowable], number: int, name: str, footer: str = "", columns: int = 1) -> int:
        """Lay a story out over as many pages as it takes. Negative numbers are roman; returns the pages used."""
        used, gap = 0, 12
        width = (INNER - (columns - 1) * gap) / columns
        while story:
            if used == 0 and name:
                self.canvas.bookmarkPage(name, fit="Fit")
            for column in range(columns):
                left = MARGIN + column * (width + gap)
                self._fill(Frame(left, FOOT + 14, width, PAGE, 0, 0, 0, 0), story)
            self._foot(number + used if number > 0 else number - used, footer)
            self.canvas.showPage()
            self.pages, used = self.pages + 1, used + 1
        return used

    def _fill(self, frame: Frame, story: list[Flowable]) -> None:
        """As much of the story as the frame takes; at least something, made smaller if it must be."""
        began = True
        while story:
            if frame.add(story[0], self.canvas, trySplit=True):
                story.pop(0)
            elif parts := frame.split(story[0], self.canvas):
                story[:1] = parts
                frame.add(story.pop(0), self.canvas)
                return
            elif began:
                room = KeepInFrame(frame._width, frame._height - 1, [story.pop(0)], mode="shrink")
                frame.add(room, self.canvas)
                return
            else:
                return
            began = False

    def _foot(self, number: int, footer: str) -> None:
        text = str(number) if number > 0 else roman(-number)
        self.canvas.setFont(typeface.NAME, 8)
        self.canvas.setFillColor(SOFT)
        shown = "".join(c if ord(c) in typeface.register() else " " for c in footer)
        if lines := simpleSplit(shown, typeface.NAME, 8, INNER - 60):
            self.canvas.drawString(MARGIN, FOOT - 12, lines[0] + ("…" if len(lines) > 1 else ""))
        self.canvas.drawRightString(WIDTH - MARGIN, FOOT - 12, text)


def title(plan: Plan) -> str:
    """The document's title."""
    return f"Papers on LLM inference: {TITLES[plan.kind].lower()}"


def cover(plan: Plan) -> list[Flowable]:
    """Title, selection, and counts that the pages behind must agree with."""
    papers, stubs = [i for i in plan.items if i.paper], [i for i in plan.items if i.stub]
    counts = [("works", len(plan.items)), ("claims of the papers", plan.claims)]
    counts += [(f"checks {outcome}", n) for outcome, n in plan.outcomes.items()]
    if plan.kind != REPORT:
        counts += [
            ("papers bound in", len(papers)),
            ("pages of papers", sum(item.paper.pages for item in papers if item.paper)),
            ("works without their paper, each with the reason on its sheet", len(stubs)),
        ]
    rows = [[Paragraph(f"<b>{n:,}</b>", style(13)), Paragraph(markup(name), style(11))] for name, n in counts]
    about = {
        REPORT: "Our own summary sheets: what each paper claims, what was measured here, and how to cite it.",
        PRIVATE: "A private copy for the operator of this installation: not to be passed on.",
    }.get(plan.kind, "Papers whose licence permits redistribution, with our summary sheets before each.")
    newest = f"The newest result is of {plan.newest}." if plan.newest else "Nothing has been measured yet."
    return [
        Spacer(1, 150),
        Paragraph("Papers on LLM inference", style(28, bold=True, after=8)),
        Paragraph(markup(f"{TITLES[plan.kind]}: {plan.selection}"), style(14, color=SOFT, after=30)),
        Paragraph(markup(about), style(11, after=18)),
        _table(rows, [60, INNER - 60], rules=False),
        Spacer(1, 24),
        Paragraph(
            markup(f"{newest} Verdicts are of our own re-implementations, on the hardware named beside them."),
            style(10, color=SOFT, after=6),
        ),
        Paragraph(
            "The list and its ratings: "
            '<a href="https://github.com/DefTruth/Awesome-LLM-Inference" color="#1f5fa8">Awesome-LLM-Inference</a>'
            " and its curators.",
            style(10, color=SOFT),
        ),
    ]


def contents(plan: Plan, numbers: list[int], index_number: int) -> list[Flowable]:
    """Every work under its category, with its page; a work of two categories stands in both."""
    story: list[Flowable] = [Paragraph("Contents", style(20, bold=True, after=10))]
    for group in plan.groups:
        rows: list[list] = [[_link(plan.items[i].title, f"work-{i}"), _number(numbers[i], f"work-{i}")]
                            for i in group.items]  # fmt: skip
        if group.name:
            rows.insert(0, [Paragraph(markup(group.name), style(11, bold=True)), ""])
        table = _table(rows, [INNER - 40, 40], pad=1.2)
        table.setStyle(TableStyle([("NOSPLIT", (0, 0), (-1, min(2, len(rows) - 1)))]))
        story += [table, Spacer(1, 8)]
    story.append(_table([[_link("Index", "index"), _number(index_number, "index")]], [INNER - 40, 40], pad=1.2))
    return story


def index(plan: Plan, numbers: list[int]) -> list[Flowable]:
    """Authors, then topics, each with the pages of their works."""
    story: list[Flowable] = [Paragraph("Index", style(20, bold=True, after=10))]
    for heading, of in (("Authors", "authors"), ("Topics", "topics")):
        found: dict[str, list[int]] = {}
        for i, item in enumerate(plan.items):
            for name in getattr(item, of):
                if name != "…":
                    found.setdefault(name, []).append(i)
        if not found:
            continue
        story.append(Paragraph(heading, style(12, bold=True, after=4)))
        names = sorted(found, key=lambda name: (_last(name) if of == "authors" else name, name))
        story += [Paragraph(_indexed(name, found[name], numbers), style(8)) for name in names]
        story.append(Spacer(1, 10))
    return story


def _last(name: str) -> str:
    return name.split()[-1].casefold()


def _indexed(name: str, places: list[int], numbers: list[int]) -> str:
    pages = ", ".join(f'<a href="#work-{i}" color="#1f5fa8">{numbers[i]}</a>' for i in places)
    return f"{markup(name)}&nbsp; {pages}"


def sheet(
    plan: Plan, item: Item, size: float, places: list[PlotPlace], page: Callable[[], int]
) -> list[Flowable]:  # fmt: skip
    """One work: facts, claims beside what was measured, plots, citation."""
    small = style(8 * size)
    named = item.authors[:AUTHORS]
    more = f" and {len(item.authors) - AUTHORS} more" if len(item.authors) > AUTHORS else ""
    facts = [[Paragraph(markup(k), style(8 * size, color=SOFT)), Paragraph(markup(v), small)] for k, v in item.facts]
    links = [(item.url, item.url), *((f"{label}: {url}", url) for label, url in item.links)]
    facts += [[Paragraph("Links" if i == 0 else "", style(8 * size, color=SOFT)), _address(text, url, small)]
              for i, (text, url) in enumerate(links)]  # fmt: skip
    if item.topics:
        facts.append(
            [Paragraph("Topics", style(8 * size, color=SOFT)), Paragraph(markup(", ".join(item.topics)), small)]
        )
    code = _Code(item.url, 62)
    head = Table(
        [[_table(facts, [62, INNER - 62 - 84], rules=False, pad=0.8), code]], [INNER - 80, 80],
        style=TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("ALIGN", (1, 0), (1, 0), "RIGHT"),
                          ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0)]),
    )  # fmt: skip
    story: list[Flowable] = [
        Paragraph(markup(item.title), style(17 * size, bold=True, after=4)),
        Paragraph(markup(", ".join(named) + more), style(9 * size, color=SOFT, after=6)),
        *_fate(plan, item, size),
        head,
        Spacer(1, 6),
    ]
    if item.question:
        story.append(Paragraph(markup(item.question), style(10 * size, bold=True, after=4)))
    story += _claims(item, size) + _plots(item, places, page)
    lines = "<br/>".join("&nbsp; " * line.startswith(" ") + markup(line) for line in item.citation.strip().splitlines())
    story += [Spacer(1, 6), Paragraph(lines, style(7 * size, color=SOFT))]
    return story


def _fate(plan: Plan, item: Item, size: float) -> list[Flowable]:
    """Whether the paper follows, and if not, why."""
    if item.paper:
        version = f", version {item.paper.version}" if item.paper.version else ""
        said = f"The paper follows on the next {item.paper.pages} pages{version}."
    elif item.stub:
        said = f"The paper is not in this bundle: {item.stub}"
    else:
        return []
    box = Table([[Paragraph(markup(said), style(9 * size, bold=True))]], [INNER],
                style=TableStyle([("BOX", (0, 0), (-1, -1), 0.8, ACCENT)]))  # fmt: skip
    return [box, Spacer(1, 6)]


def _claims(item: Item, size: float) -> list[Flowable]:
    """A row a claim: the paper's words on the left, ours on the right."""
    if not item.claims:
        return [Paragraph("No claim of this work is recorded.", style(9 * size, color=SOFT))]
    head = [Paragraph(text, style(8.5 * size, bold=True)) for text in ("What the paper says", "What was measured")]
    rows = [[_says(claim, size), _measured(claim, size)] for claim in item.claims]
    table = Table([head, *rows], [INNER * 0.5, INNER * 0.5], repeatRows=1, splitInRow=1)
    table.setStyle(
        TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LINEABOVE", (0, 1), (-1, -1), 0.4, RULE),
                    ("LEFTPADDING", (0, 0), (0, -1), 0), ("RIGHTPADDING", (1, 0), (1, -1), 0),
                    ("TOPPADDING", (0, 0), (-1, -1), 3), ("BOTTOMPADDING", (0, 0), (-1, -1), 3)])
    )  # fmt: skip
    return [table]


def _says(claim: Claim, size: float) -> list[Flowable]:
    parts = [Paragraph(markup(claim.statement), style(8.5 * size, bold=True, after=1))]
    verified = "" if claim.verified else " (figure not verified)"
    parts.append(Paragraph(markup(claim.says + verified), style(8 * size)))
    for text in filter(None, (claim.conditions, claim.place)):
        parts.append(Paragraph(markup(text), style(7.5 * size, color=SOFT)))
    return parts


def _measured(claim: Claim, size: float) -> list[Flowable]:
    if claim.untested:
        return [Paragraph(markup(f"Not tested: {claim.untested}"), style(8 * size, color=SOFT))]
    if not claim.verdicts:
        return [Paragraph("No reproduction here yet.", style(8 * size, color=SOFT))]
    return [part for verdict in claim.verdicts for part in _verdict(verdict, size)]


def _verdict(verdict: Verdict, size: float) -> list[Flowable]:
    asked = f"{markup(verdict.measure)} <b>{markup(verdict.bound)}</b>"
    if not verdict.outcome:
        return [Paragraph(f"{asked}: {markup(verdict.reason)}", style(8 * size, color=SOFT, after=2))]
    mark, color = MARKS.get(verdict.outcome, ("?", "#555f6b"))
    scale = f", {SCALES[verdict.scale]}" if verdict.scale in SCALES else ""
    told = f'<font color="{color}"><b>{mark} {markup(verdict.outcome)}</b></font>{markup(scale)}: '
    told += f"<b>{figure(verdict)}</b>" if verdict.value is not None else ""
    on = f"on {verdict.device}, size {verdict.size}, {verdict.measured_at}"
    parts = [Paragraph(told, style(8 * size)), Paragraph(asked, style(8 * size))]
    grey = "; ".join(filter(None, (f"because {verdict.because}" if verdict.because else "", verdict.reason, on)))
    return [*parts, Paragraph(markup(grey), style(7.5 * size, color=SOFT, after=2))]


def figure(verdict: Verdict) -> str:
    """The value with its 95 % interval, where it has one."""
    text = f"{verdict.value:.4g}"
    if verdict.low is None or verdict.high is None or verdict.low == verdict.high:
        return text
    return f"{text} ({verdict.low:.4g} to {verdict.high:.4g})"


def _plots(item: Item, places: list[PlotPlace], page: Callable[[], int]) -> list[Flowable]:
    """Two beside each other."""
    if not item.plots:
        return []
    width = INNER / 2 - 6
    drawn = [_Plot(drawing, width, places, page) for drawing in item.plots]
    rows = [[*drawn[i : i + 2], ""][:2] for i in range(0, len(drawn), 2)]
    return [Spacer(1, 6), Table(rows, [INNER / 2] * 2, style=TableStyle([("LEFTPADDING", (0, 0), (-1, -1), 0)]))]


def _table(rows: list[list], widths: list[float], *, rules: bool = True, pad: float = 2) -> Table:
    look: list[tuple] = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4), ("TOPPADDING", (0, 0), (-1, -1), pad),
            ("BOTTOMPADDING", (0, 0), (-1, -1), pad)]  # fmt: skip
    if rules:
        look.append(("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE))
    return Table(rows, widths, style=TableStyle(look), hAlign="LEFT")


def _link(text: str, target: str) -> Paragraph:
    return Paragraph(f'<a href="#{target}">{markup(text)}</a>', style(9))


def _number(number: int, target: str) -> Paragraph:
    right = style(9)
    right.alignment = 2
    return Paragraph(f'<a href="#{target}">{number}</a>', right)


def _address(text: str, url: str, look: ParagraphStyle) -> Paragraph:
    quoted = url.replace("&", "&amp;").replace('"', "%22").replace("<", "%3C")
    return Paragraph(f'<a href="{quoted}" color="#1f5fa8">{markup(text)}</a>', look)


def roman(number: int) -> str:
    """i, ii, iii, iv …"""
    text = ""
    for value, letters in ROMAN:
        while number >= value:
            text, number = text + letters, number - value
    return text
