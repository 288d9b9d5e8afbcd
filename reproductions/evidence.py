"""What a paper's page shows: each claim, what the paper says, how we check it, what was measured."""

from dataclasses import dataclass, field

from catalog.models import Claim, Work
from reproductions.models import Reproduction
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
