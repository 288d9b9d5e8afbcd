"""What a bundle holds, as plain data: the works of a selection in order, and all that their sheets tell.

Its digest is that of all of this, so the same selection of an unchanged catalogue is the same bundle.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import unquote_plus

from catalog.listing import Listing
from catalog.models import Work
from catalog.selection import Selection, collection_of
from config.text import NotPlain, clean_link, cleaned, visible
from exports import selecting
from exports.bibtex import bibtex
from exports.reference import of_work
from reproductions import evidence, plots
from reproductions.models import Reproduction, Run
from reproductions.spec import NEEDS

REPORT, PUBLIC, PRIVATE = KINDS = ("report", "public", "private")
TITLES = {REPORT: "Report", PUBLIC: "Papers and report", PRIVATE: "Papers and report, private copy"}
LAYOUT = 2  # raised when the same data is drawn otherwise
PLOT_FONT = "DejaVu Sans"
OWN_WORDS = ("q", "author", "collection")  # of a selection, what somebody typed or keeps: told to nobody else


class NotUnderstood(ValueError):
    """The query asks for something that the list does not have; the message is one line."""


@dataclass
class Verdict:
    """One check of a claim: what is measured, the bound, and what came out, if anything did."""

    measure: str
    bound: str
    because: str = ""
    outcome: str = ""
    scale: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    device: str = ""
    size: str = ""
    measured_at: str = ""
    reason: str = ""


@dataclass
class Claim:
    """What the paper says, and what was measured."""

    statement: str
    says: str
    conditions: str
    place: str
    verified: bool
    untested: str = ""
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass
class Paper:
    """A file of DATA_DIR/papers to be bound: its name, pages and digest, and which version of the work it is.

    `notes`: what of it is left out or was mended, for people.
    """

    file: str
    pages: int
    sha256: str
    version: str
    size: int
    notes: list[str] = field(default_factory=list)


@dataclass
class Item:
    """One work. `paper` is bound behind its sheet; `stub` says why there is none, where one was asked for."""

    slug: str
    title: str
    authors: list[str]
    facts: list[tuple[str, str]]
    topics: list[str]
    url: str
    links: list[tuple[str, str]]
    citation: str
    question: str
    claims: list[Claim]
    outcomes: dict[str, int]
    plots: list[dict[str, Any]]
    licence: str
    paper: Paper | None = None
    stub: str = ""


@dataclass
class Group:
    """A category, or the whole selection where it has an order of its own, and the places of its works in the plan."""

    name: str
    items: list[int]


@dataclass
class Plan:
    """A bundle before it is drawn. `owner`: the account that alone may have it, since it shows a collection that is
    not everybody's. `query` is what was typed, which the bundle does not show; `selection` is what it says of it.
    """

    kind: str
    query: str
    selection: str
    items: list[Item]
    groups: list[Group]
    owner: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all that the bundle shows, and of how it is drawn."""
        shown = {name: value for name, value in asdict(self).items() if name != "query"}
        told = json.dumps([LAYOUT, shown], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"claimcheck-{self.kind}-{self.digest[:16]}"

    @property
    def claims(self) -> int:
        """How many claims its works make."""
        return sum(len(item.claims) for item in self.items)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many checks came out how."""
        counts: dict[str, int] = {}
        for item in self.items:
            for outcome, n in item.outcomes.items():
                counts[outcome] = counts.get(outcome, 0) + n
        return counts

    @property
    def newest(self) -> str:
        """The day of the newest result; empty if there is none."""
        days = [v.measured_at for item in self.items for claim in item.claims for v in claim.verdicts]
        return max(days, default="")


def plan(kind: str, query: str, user: Any = None) -> Plan:
    """The works of a query as a bundle of sheets; papers are put in by `exports.papers`.

    NotUnderstood for filters that mean nothing, and for a selection without works.
    """
    if kind not in KINDS:
        raise NotUnderstood(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    try:
        visible(query)
        visible(unquote_plus(query))
    except NotPlain as error:
        raise NotUnderstood(f"query: {error}") from None
    selection = Selection.typed(query)
    selection.user = user
    pks, named, said = _chosen(query, selection)
    if not pks:
        raise NotUnderstood("no work of the list is in this selection")
    works = Work.objects.for_list().in_bulk(pks)
    reproductions = {r.work_id: r for r in Reproduction.objects.filter(work__in=pks)}
    items = [_item(works[pk], reproductions.get(pk)) for pk in pks]
    place = {pk: i for i, pk in enumerate(pks)}
    groups = [Group(name, [place[pk] for pk in members]) for name, members in named]
    return Plan(kind, query, said, items, groups, _owner(selection, user))


def _chosen(query: str, selection: Selection) -> tuple[list[int], list[tuple[str, list[int]]], str]:
    """Keys of the works in their order, the groups they stand in, and the selection in words."""
    try:
        if (keys := selecting.picked(query)) is not None:
            return keys, [("", keys)], "picked by hand"
    except selecting.NotSelected as error:
        raise NotUnderstood(str(error)) from None
    listing = Listing(selection, size=0)
    if listing.chosen.problems:
        raise NotUnderstood("; ".join(problem.removesuffix("; it was left out") for problem in listing.chosen.problems))
    if keys := selecting.in_own_order(listing):
        return keys, [("", keys)], _said(selection)
    return *_order(listing), _said(selection)


def _order(listing: Listing) -> tuple[list[int], list[tuple[str, list[int]]]]:
    """Primary keys of the works, once each; and the groups: categories in the list's order, or one in the asked one."""
    if not listing.grouped:
        order = listing.order().tolist()
        return order, [("", order)]
    listing.size = max(1, listing.row_count)
    listing.pages = listing.page = 1
    rows = [(row.entry.category.name if row.entry else "In no category", row.work.pk) for row in listing.rows]
    groups = [(name, [pk for _, pk in members]) for name, members in groupby(rows, key=lambda row: row[0])]
    return list(dict.fromkeys(pk for _, pk in rows)), groups


def _said(selection: Selection) -> str:
    """The selection in words that anybody may read: facets of the list as they are, what is somebody's own unnamed."""
    own = [name for name in OWN_WORDS if (selection.q.strip() if name == "q" else name in selection.filters)]
    said = [{"q": "words", "author": "an author", "collection": "a collection"}[name] for name in own]
    said = [f"chosen by {' and '.join(said)}"] if said else []
    said += [f"{name}: {value}" for name, value in sorted(selection.filters.items()) if name not in OWN_WORDS]
    if selection.sort:
        said.append(f"order: {selection.sort}")
    return "; ".join(said) or "the whole list"


def _owner(selection: Selection, user: Any) -> int | None:
    """Whose a bundle of a collection is: everybody's (None) only if the collection is."""
    found = collection_of(selection.filters.get("collection", ""), user)
    if found is None or found.visibility == "public":
        return None
    return user.pk if user else found.owner_id


def _item(work: Work, reproduction: Reproduction | None) -> Item:
    claims = [_claim(found) for found in evidence.of_work(work, reproduction)]
    entries = list(work.entries.all())
    codes = [
        (cleaned(link.label), clean_link(link.url))
        for entry in entries
        for link in entry.links.all()
        if link.role == "code"
    ]
    outcomes = [v.outcome for claim in claims for v in claim.verdicts if v.outcome]
    return Item(
        slug=work.slug,
        title=cleaned(work.title),
        authors=[cleaned(authorship.author.name) for authorship in work.authorships.all()]
        + ([] if work.authors_complete else ["…"]),
        facts=_facts(work),
        topics=[topic.name for topic in work.topics.all()],
        url=clean_link(work.url),
        links=list(dict.fromkeys(codes)),
        citation=bibtex(of_work(work)),
        question=reproduction.question if reproduction else "",
        claims=claims,
        outcomes={name: outcomes.count(name) for name in dict.fromkeys(outcomes)},
        plots=_plots(reproduction),
        licence=work.licence,
    )


def _facts(work: Work) -> list[tuple[str, str]]:
    number = f"{work.arxiv_id}{f'v{work.arxiv_version}' if work.arxiv_version else ''}" if work.arxiv_id else ""
    listed = [
        entry.category.name
        + (f", [{entry.tag}]" if entry.tag else "")
        + (f", {'★' * entry.stars}" if entry.stars else "")
        + (f", highlighted {entry.highlights}×" if entry.highlights else "")
        for entry in work.entries.all()
    ]
    facts = [
        ("Published", work.published_text or "date not known"),
        ("Kind", work.get_kind_display()),
        ("Venue", work.venue),
        ("arXiv", number),
        ("DOI", work.doi),
        ("Licence", work.licence_name or "not known here"),
        ("Withdrawn", "yes, by its authors" if work.withdrawn else ""),
        ("Listed in", "; ".join(listed)),
        ("Facts", "" if work.metadata_verified else "not verified"),
    ]
    return [(name, value) for name, value in facts if value]


def _claim(found: evidence.ClaimEvidence) -> Claim:
    claim, verdicts = found.claim, []
    for check in found.checks:
        label = f"{check.check.label}: " if check.check.label else ""
        for h in check.headlines:
            verdicts.append(
                Verdict(
                    measure=(f"{h['label']}: " if h["label"] else "") + h["measure"],
                    bound=h["bound"],
                    because=h["because"],
                    outcome=h["outcome"],
                    scale=h["scale"],
                    value=h["value"],
                    low=h["low"],
                    high=h["high"],
                    device=h["device_name"],
                    size=h["size"],
                    measured_at=h["ended_at"][:10],
                    reason=h["reason"],
                )
            )
        if not check.headlines:
            why = f"not measured: {NEEDS[check.check.needs]}" if check.needs else "not measured yet"
            words = label + check.check.metric.words
            verdicts.append(Verdict(measure=words, bound=check.check.bound, because=check.check.because, reason=why))
    says = claim.get_direction_display()
    if claim.value is not None:
        says += f" {claim.value:,.6g} {claim.unit}"
    if claim.metric:
        says += f" ({claim.metric})"
    return Claim(claim.statement, says.strip(), claim.conditions, claim.place, claim.verified, found.untested, verdicts)


def _plots(reproduction: Reproduction | None) -> list[dict[str, Any]]:
    """The drawings of the run that stands for the first headline."""
    if reproduction is None or not reproduction.headlines:
        return []
    run = Run.objects.filter(pk=reproduction.headlines[0]["run"]).first()
    drawn = [plots.vega(plot, run.rows, "light") for _, plot in run.drawings] if run else []
    for plot in drawn:
        plot["config"]["font"] = PLOT_FONT
    return drawn


def manifest(made: Plan, **more: Any) -> dict[str, Any]:
    """What the bundle says of itself, for machines: each work and what became of it. No time: it is stable; and not
    what somebody typed to get it: whoever may have the bundle reads this.
    """
    works = [
        {
            "work": item.slug,
            "title": item.title,
            "url": item.url,
            "licence": item.licence,
            "claims": len(item.claims),
            "outcomes": item.outcomes,
            "paper": asdict(item.paper) if item.paper else None,
            "stub": item.stub or None,
        }
        for item in made.items
    ]
    return {
        "bundle": made.name,
        "kind": made.kind,
        "digest": made.digest,
        "layout": LAYOUT,
        "owner": made.owner,
        "selection": made.selection,
        "software": "Claimcheck",
        "counts": {
            "works": len(made.items),
            "claims": made.claims,
            "outcomes": made.outcomes,
            "papers": sum(item.paper is not None for item in made.items),
            "stubs": sum(bool(item.stub) for item in made.items),
        },
        "works": works,
    } | more
