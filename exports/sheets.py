"""Our own pages of a bundle: cover, contents, a sheet a work, index. Drawn once, in the order that numbers them.

The sheets come first, so that contents and index know their pages; `exports.binding` puts them in their places.
"""

import io
from dataclasses import dataclass, field

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import simpleSplit
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Frame, KeepInFrame, Paragraph, Spacer, TableStyle

from exports import typeface
from exports.bundle_plan import PRIVATE, REPORT, TITLES, Item, Plan
from exports.flowables import FOOT, INNER, MARGIN, PAGE, SOFT, WIDTH, PlotPlace, style, table
from exports.typeface import markup
from exports.work_sheet import sheet

ROMAN = ((100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
SMALLER = (1.0, 0.88, 0.78)  # sizes that are tried until a work's sheet has two pages at most


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
        table(rows, [60, INNER - 60], rules=False),
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
        works = table(rows, [INNER - 40, 40], pad=1.2)
        works.setStyle(TableStyle([("NOSPLIT", (0, 0), (-1, min(2, len(rows) - 1)))]))
        story += [works, Spacer(1, 8)]
    story.append(table([[_link("Index", "index"), _number(index_number, "index")]], [INNER - 40, 40], pad=1.2))
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


def _link(text: str, target: str) -> Paragraph:
    return Paragraph(f'<a href="#{target}">{markup(text)}</a>', style(9))


def _number(number: int, target: str) -> Paragraph:
    right = style(9)
    right.alignment = 2
    return Paragraph(f'<a href="#{target}">{number}</a>', right)


def roman(number: int) -> str:
    """i, ii, iii, iv …"""
    text = ""
    for value, letters in ROMAN:
        while number >= value:
            text, number = text + letters, number - value
    return text
