"""Two runs of one work side by side: what differs in what was asked, where it ran, and what was measured."""

import math
from dataclasses import dataclass
from typing import Any

from reproductions.models import Run, Verdict


@dataclass
class Setting:
    """One thing that was asked or recorded of both runs."""

    name: str
    a: Any
    b: Any

    @property
    def differs(self) -> bool:
        """Whether the runs disagree."""
        return self.a != self.b


@dataclass
class Pair:
    """The verdicts of both runs on one check; either may be missing."""

    claim: str
    label: str
    a: Verdict | None = None
    b: Verdict | None = None

    @property
    def ratio(self) -> float | None:
        """B's figure over A's."""
        if self.a is None or self.b is None or not self.a.value or self.b.value is None:
            return None
        ratio = self.b.value / self.a.value
        return ratio if math.isfinite(ratio) else None

    @property
    def word(self) -> str:
        """How the intervals lie: that they overlap is no proof that nothing changed."""
        if self.a is None or self.b is None or self.a.value is None or self.b.value is None:
            return ""
        if self.a.value == self.b.value:
            return "the same"
        (a_low, a_high), (b_low, b_high) = (_interval(v) for v in (self.a, self.b))
        apart = a_high < b_low or b_high < a_low
        return "intervals apart" if apart else "intervals overlap"


def _interval(verdict: Verdict) -> tuple[float, float]:
    """From -inf to inf where there is none."""
    low, high = verdict.low, verdict.high
    return -math.inf if low is None else low, math.inf if high is None else high


def settings(a: Run, b: Run) -> list[Setting]:
    """What was asked."""
    named = [("size", a.size, b.size), ("device", a.device, b.device), ("seed", a.seed, b.seed)]
    named += [("scale", a.scale, b.scale), ("reproduction", a.measurement, b.measurement)]
    return [Setting(*one) for one in named] + _pairs(a.parameters, b.parameters)


def environment(a: Run, b: Run) -> list[Setting]:
    """On what they ran, with how long and how much memory they took."""
    took = [Setting("seconds", a.seconds, b.seconds), Setting("peak MiB", a.peak_memory_mib, b.peak_memory_mib)]
    return took + _pairs(a.environment, b.environment)


def _pairs(a: dict, b: dict) -> list[Setting]:
    return [Setting(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])]


def verdicts(a: Run, b: Run) -> list[Pair]:
    """Check by check, told by claim and label, in the order of A."""
    found: dict[tuple[str, str], Pair] = {}
    for side, run in (("a", a), ("b", b)):
        for verdict in run.verdicts.all():
            pair = found.setdefault((verdict.claim, verdict.label), Pair(verdict.claim, verdict.label))
            setattr(pair, side, verdict)
    return list(found.values())
