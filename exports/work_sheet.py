"""The sheet of a work in a bundle: facts, claims beside what was measured, plots, citation."""

from collections.abc import Callable

from reportlab.platypus import Flowable, Paragraph, Spacer, Table, TableStyle

from exports.bundle_plan import Claim, Item, Plan, Verdict
from exports.flowables import ACCENT, INNER, RULE, SOFT, Code, Plot, PlotPlace, address, style, table
from exports.typeface import markup

MARKS = {
    "replicated": ("✔", "#2f7d4f"),
    "contradicted": ("✘", "#b3261e"),
    "inconclusive": ("≈", "#8a6d1b"),
    "no result": ("?", "#8a4fa3"),
    "computed": ("=", "#555f6b"),
    "not testable here": ("–", "#555f6b"),
}
SCALES = {"reduced": "reduced scale", "paper": "the paper's scale", "any": "at any scale"}
AUTHORS = 24  # named on a sheet; more are counted


def sheet(
    plan: Plan, item: Item, size: float, places: list[PlotPlace], page: Callable[[], int]
) -> list[Flowable]:  # fmt: skip
    """One work: facts, claims beside what was measured, plots, citation."""
    small = style(8 * size)
    named = item.authors[:AUTHORS]
    more = f" and {len(item.authors) - AUTHORS} more" if len(item.authors) > AUTHORS else ""
    facts = [[Paragraph(markup(k), style(8 * size, color=SOFT)), Paragraph(markup(v), small)] for k, v in item.facts]
    links = [(item.url, item.url), *((f"{label}: {url}", url) for label, url in item.links)]
    facts += [[Paragraph("Links" if i == 0 else "", style(8 * size, color=SOFT)), address(text, url, small)]
              for i, (text, url) in enumerate(links)]  # fmt: skip
    if item.topics:
        facts.append(
            [Paragraph("Topics", style(8 * size, color=SOFT)), Paragraph(markup(", ".join(item.topics)), small)]
        )
    code = Code(item.url, 62)
    head = Table(
        [[table(facts, [62, INNER - 62 - 84], rules=False, pad=0.8), code]], [INNER - 80, 80],
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
    more: list[Flowable] = []
    if item.paper:
        version = f", version {item.paper.version}" if item.paper.version else ""
        said = f"The paper follows on the next {item.paper.pages} pages{version}."
        if item.paper.notes:
            more = [Paragraph(markup(f"Of its file: {'; '.join(item.paper.notes)}."), style(8 * size))]
    elif item.stub:
        said = f"The paper is not in this bundle: {item.stub}"
    else:
        return []
    box = Table([[[Paragraph(markup(said), style(9 * size, bold=True)), *more]]], [INNER],
                style=TableStyle([("BOX", (0, 0), (-1, -1), 0.8, ACCENT)]))  # fmt: skip
    return [box, Spacer(1, 6)]


def _claims(item: Item, size: float) -> list[Flowable]:
    """A row a claim: the paper's words on the left, ours on the right."""
    if not item.claims:
        return [Paragraph("No claim of this work is recorded.", style(9 * size, color=SOFT))]
    head = [Paragraph(text, style(8.5 * size, bold=True)) for text in ("What the paper says", "What was measured")]
    rows = [[_says(claim, size), _measured(claim, size)] for claim in item.claims]
    both = Table([head, *rows], [INNER * 0.5, INNER * 0.5], repeatRows=1, splitInRow=1)
    both.setStyle(
        TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LINEABOVE", (0, 1), (-1, -1), 0.4, RULE),
                    ("LEFTPADDING", (0, 0), (0, -1), 0), ("RIGHTPADDING", (1, 0), (1, -1), 0),
                    ("TOPPADDING", (0, 0), (-1, -1), 3), ("BOTTOMPADDING", (0, 0), (-1, -1), 3)])
    )  # fmt: skip
    return [both]


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
    drawn = [Plot(drawing, width, places, page) for drawing in item.plots]
    rows = [[*drawn[i : i + 2], ""][:2] for i in range(0, len(drawn), 2)]
    return [Spacer(1, 6), Table(rows, [INNER / 2] * 2, style=TableStyle([("LEFTPADDING", (0, 0), (-1, -1), 0)]))]
