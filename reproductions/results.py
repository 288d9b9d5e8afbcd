"""What came out, as one Markdown document: every claim of every work that runs, beside what stored runs measured."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from catalog.models import Category, Claim, Work
from reproductions import evidence
from reproductions.models import Reproduction
from reproductions.spec import WORST_FIRST
from reproductions.templatetags.figures import figure

HEAD = """# Results

Written by `make results` from the runs that the database holds, the shipped records among them. A check's bound comes
from the claim and was fixed before the run; *reduced scale* means smaller than the paper's. A claim about a GPU's speed
is never judged by a CPU's time. How a verdict is made: [architecture.md](architecture.md).
"""
COLUMNS = ("Claim", "The paper", "Our check", "Measured (95 % interval)", "Device", "Verdict", "Reading")
SCALES = {"reduced": "reduced scale", "paper": "the paper's scale", "any": "any scale"}


def document() -> str:
    """The whole document, in the order of the list."""
    works = list(_works())
    counts: Counter[str] = Counter()
    for _, work in works:
        counts.update(dict(work.reproduction.headline_counts))
    claims = sum(work.claims.count() for _, work in works)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in WORST_FIRST if counts[outcome])
    parts = [HEAD, f"{len(works)} works run; of their {claims} claims: {told}.\n"]
    for category, listed in groupby(works, lambda pair: pair[0]):
        parts += [f"## {category}\n", *(_section(work) for _, work in listed)]
    return "\n".join(parts)


def _works() -> Iterator[tuple[str, Work]]:
    """(category, work) of all that can be run, each once, under its first category."""
    running = Reproduction.objects.filter(retired=False).values("work")
    seen = set()
    for category in Category.objects.all():
        entries = category.entries.filter(work__in=running).select_related("work__reproduction").order_by("position")
        for entry in entries:
            if entry.work_id not in seen:
                seen.add(entry.work_id)
                yield category.name, entry.work


def _section(work: Work) -> str:
    rows = [row for item in evidence.of_work(work, work.reproduction) for row in _rows(item)]
    head = [f"### {_cell(work.title)} (`{work.slug}`)\n", _cell(work.reproduction.question) + "\n"]
    table = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(row) for row in rows)]
    return "\n".join([*head, *table, ""])


def _rows(item: evidence.ClaimEvidence) -> Iterator[list[str]]:
    """The rows of one claim: one a check and device."""
    claim = [f"{item.claim.statement} ({item.claim.place})", _said(item.claim)]
    if item.untested:
        yield [*claim, "none", "", "", "not tested", item.untested]
        claim = ["", ""]
    for one in item.checks:
        label = f"{one.check.label}: " if one.check.label else ""
        check = f"{label}{one.check.metric.words} {one.check.bound}, because {one.check.because}"
        if not one.headlines:
            yield [*claim, check, "", "", "not measured", one.needs]
            claim = ["", ""]
        for found in one.headlines:
            interval = "" if found["method"] == "exact" else f" ({figure(found['low'])} to {figure(found['high'])})"
            measured = f"{figure(found['value'])}{interval}"
            where = f"{found['device_name']}, {found['size']}, {found['ended_at'][:10]}"
            verdict = f"**{found['outcome']}** {SCALES.get(found['scale'], '')}"
            yield [*claim, check, measured, where, verdict, found["reading"] or found["reason"]]
            claim = ["", ""]


def _said(claim: Claim) -> str:
    figures = f" {figure(claim.value)} {claim.unit}" if claim.value is not None else ""
    return f"{claim.get_direction_display()}{figures}{'' if claim.verified else ' (not verified)'}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
