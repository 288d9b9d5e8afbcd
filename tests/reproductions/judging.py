"""What every test of a reproduction asks: which check came out how."""

from collections.abc import Sequence

from reproductions.lab import Lab
from reproductions.spec import Check, Untested, judge


def outcomes(checks: Sequence[Check | Untested], lab: Lab, device: str = "cpu") -> dict[tuple[str, str], str]:
    """(claim, label) -> outcome of the rows so far; "cuda" judges them as a GPU's, for the checks that ask for one."""
    found = judge(checks, lab.rows(), device=device, scale="reduced")
    return {(verdict.claim, verdict.label): verdict.outcome for verdict in found}
