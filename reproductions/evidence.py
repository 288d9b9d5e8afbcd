"""What a paper's page shows: each claim, what the paper says, how we check it, what was measured."""

from dataclasses import dataclass, field

from catalog.models import Claim, Work
from reproductions import readings
from reproductions.models import Reproduction, Run
from reproductions.parameters import text
from reproductions.spec import NEEDS, Check, Untested


@dataclass
class CheckEvidence:
    """One check of a claim and the verdicts that stand for it, one a device."""

    check: Check
    headlines: list[dict] = field(default_factory=list)

    @property
    def needs(self) -> str:
        """What it needs beyond a CPU, in words."""
        return NEEDS[self.check.needs]


@dataclass
class ClaimEvidence:
    """One claim with its checks; `untested` is the reason when there are none; `verdicts` what stands, by device."""

    claim: Claim
    checks: list[CheckEvidence] = field(default_factory=list)
    untested: str = ""
    verdicts: list[dict] = field(default_factory=list)

    @property
    def table(self) -> list[dict]:
        """Its rows in a table: one a check and device; one that holds neither for a claim that nothing tests."""
        rows: list[dict] = []
        for one in self.checks:
            row = {"check": one.check, "needs": one.needs}
            rows += [row | {"verdict": verdict} for verdict in one.headlines] or [row]
        rows = rows or [{}]
        rows[-1]["last"] = True
        return rows


def of_work(work: Work, reproduction: Reproduction | None) -> list[ClaimEvidence]:
    """Every claim of the work in the catalogue's order; without a reproduction, just the claims."""
    found = {claim.key: ClaimEvidence(claim) for claim in work.claims.all()}
    if reproduction is None:
        return list(found.values())
    for verdict in reproduction.claim_verdicts:
        if verdict["claim"] in found:
            found[verdict["claim"]].verdicts.append(verdict)
    for position, check in enumerate(reproduction.checks):
        evidence = found.get(check.claim)
        if evidence is None:
            continue  # a claim that left the catalogue; a test holds shipped specs to it
        if isinstance(check, Untested):
            evidence.untested = check.reason
        else:
            standing = [h for h in reproduction.headlines if h["position"] == position]
            standing = [h | {"reading": readings.of(work.slug, h)} for h in standing]
            evidence.checks.append(CheckEvidence(check, standing))
    return list(found.values())


def of_works(works: list[Work], filters: dict[str, str]) -> list[tuple[Work, list[ClaimEvidence]]]:
    """Works with their claims, those only that have the verdict or were measured on the device that filters name."""
    rows = []
    for work in works:
        claims = of_work(work, getattr(work, "reproduction", None))
        for name, key in (("verdict", "outcome"), ("device", "device")):
            if wanted := filters.get(name):
                claims = [c for c in claims if any(verdict[key] == wanted for verdict in c.verdicts)]
        rows.append((work, claims))
    return rows


@dataclass
class Parameter:
    """One parameter of a run beside the value that the paper's scale has."""

    name: str
    here: str
    paper: str

    @property
    def differs(self) -> bool:
        """Whether they are not the same."""
        return self.here != self.paper


def against_the_paper(run: Run) -> list[Parameter]:
    """The run's parameters beside those of the size at the paper's scale; none where no size has that scale."""
    sizes = run.reproduction.spec["sizes"].values()
    full = next((size["parameters"] for size in sizes if size["scale"] == "paper"), None)
    if full is None:
        return []
    names = dict.fromkeys([*run.parameters, *full])
    return [Parameter(name, text(run.parameters.get(name)), text(full.get(name))) for name in names]
