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
    """One claim with its checks; `untested` is the reason when there are none."""

    claim: Claim
    checks: list[CheckEvidence] = field(default_factory=list)
    untested: str = ""


def of_work(work: Work, reproduction: Reproduction | None) -> list[ClaimEvidence]:
    """Every claim of the work in the catalogue's order; without a reproduction, just the claims."""
    found = {claim.key: ClaimEvidence(claim) for claim in work.claims.all()}
    if reproduction is None:
        return list(found.values())
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
