"""What a reproduction declares: its checks, sizes, limits and plots, and the one function that judges its rows.

Standard library only. `slugs()` lists the folder `papers/` without importing; `load()` imports one file of it.
"""

import ast
import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reproductions import equivalent, identity, metrics
from reproductions.metrics import Difference, Max, Mean, Metric, NoResult, Ratio, Row, Slope, Value
from reproductions.parameters import ParameterError
from reproductions.plots import bars, line

__all__ = [
    "Check",
    "Difference",
    "Max",
    "Mean",
    "ParameterError",
    "Ratio",
    "Size",
    "Slope",
    "Untested",
    "Value",
    "bars",
    "judge",
    "line",
]

ROOT = Path(__file__).resolve().parent.parent
PAPERS = ROOT / "reproductions" / "papers"

REPLICATED, CONTRADICTED, INCONCLUSIVE = "replicated", "contradicted", "inconclusive"
NO_RESULT, NOT_TESTABLE, COMPUTED = "no result", "not testable here", "computed"
WORST_FIRST = (CONTRADICTED, NO_RESULT, INCONCLUSIVE, NOT_TESTABLE, REPLICATED, COMPUTED)
ASKED = {"size", "device", "seed"}  # of every run, beside its parameters
NEEDS = {"any": "", "cuda": "needs a CUDA GPU", "multi-gpu": "needs several GPUs"}


@dataclass(frozen=True)
class Check:
    """How one claim is tested: a metric over the rows and the bound it must meet.

    The claim is replicated if the metric's whole 95 % interval meets the bound, contradicted if all of it lies beyond.
    `at_least`/`at_most` include the bound; `above`/`below` do not: the bound of an effect is "no effect", which must
    not pass. `computed` marks an identity, which validates our code and can never be replicated. `scale_free` marks
    what does not depend on scale: equalities, bytes, operation counts.
    """

    claim: str
    metric: Metric
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    because: str = ""
    label: str = ""
    needs: str = "any"
    scale_free: bool = False
    computed: bool = False

    def __post_init__(self):
        if all(bound is None for bound in (self.at_least, self.at_most, self.above, self.below)):
            raise ValueError(f"check of {self.claim}: expected a bound, got none")
        if self.needs not in NEEDS:
            raise ValueError(f"check of {self.claim}: expected needs in {sorted(NEEDS)}, got {self.needs!r}")

    @property
    def bound(self) -> str:
        """The bound in words: "at least 1.73", "between 0.56 and 0.94"."""
        if self.at_least is not None and self.at_most is not None:
            return f"between {self.at_least:g} and {self.at_most:g}"
        names = {"at least": self.at_least, "at most": self.at_most, "above": self.above, "below": self.below}
        return ", ".join(f"{name} {bound:g}" for name, bound in names.items() if bound is not None)

    def outcome(self, low: float, high: float) -> str:
        """What an interval from `low` to `high` says of the claim."""
        lower = [(b, strict) for b, strict in ((self.at_least, False), (self.above, True)) if b is not None]
        upper = [(b, strict) for b, strict in ((self.at_most, False), (self.below, True)) if b is not None]
        if any(high < b or (strict and high <= b) for b, strict in lower):
            return CONTRADICTED
        if any(low > b or (strict and low >= b) for b, strict in upper):
            return CONTRADICTED
        holds = all(low > b if strict else low >= b for b, strict in lower)
        holds = holds and all(high < b if strict else high <= b for b, strict in upper)
        return (COMPUTED if self.computed else REPLICATED) if holds else INCONCLUSIVE


@dataclass(frozen=True)
class Untested:
    """A claim that no run of ours tests, and why."""

    claim: str
    reason: str
    needs: str = "any"


class Size:
    """One set of keyword arguments for `run()`. `scale`: "reduced", or "paper" where the run is as large as theirs.

    What a node must have: `memory_gib` of the device (the machine's on a CPU), CUDA compute `capability` (such as 9.0);
    `download=True` lets the run fetch a model from the hub, which others are kept from.
    """

    def __init__(
        self,
        *,
        limit_s: int,
        scale: str = "reduced",
        memory_gib: float = 0,
        capability: float = 0,
        download: bool = False,
        **parameters,
    ):
        if scale not in ("reduced", "paper"):
            raise ValueError(f"scale: expected 'reduced' or 'paper', got {scale!r}")
        if taken := sorted(set(parameters) & ASKED):
            raise ValueError(f"{taken[0]}: expected another name, this one is asked for with every run")
        self.limit_s, self.scale, self.parameters = limit_s, scale, parameters
        self.needs = {"memory_gib": memory_gib, "capability": capability, "download": download}


@dataclass(frozen=True)
class Verdict:
    """What one check said of its claim in one run."""

    claim: str
    outcome: str
    label: str = ""
    measure: str = ""
    scale: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    n: int = 0
    bound: str = ""
    because: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Spec:
    """One file of `papers/`, loaded."""

    slug: str
    question: str
    checks: list
    sizes: dict[str, Size]
    limits: dict
    plots: list[dict]
    run: Callable


def judge(checks: Sequence[Check | Untested], rows: Sequence[Row], *, device: str, scale: str) -> list[Verdict]:
    """One verdict a check, from the rows alone. `device` is what the run had, `scale` that of its size."""
    return [_verdict(check, rows, device, scale) for check in checks]


def _verdict(check: Check | Untested, rows: Sequence[Row], device: str, scale: str) -> Verdict:
    if isinstance(check, Untested):
        return Verdict(check.claim, NOT_TESTABLE, reason=check.reason)
    verdict = Verdict(
        check.claim,
        NOT_TESTABLE,
        check.label,
        check.metric.words,
        "any" if check.scale_free else scale,
        bound=check.bound,
        because=check.because,
    )
    if check.needs == "multi-gpu" or (check.needs == "cuda" and device != "cuda"):
        return replace(verdict, reason=NEEDS[check.needs])
    try:
        found = check.metric.estimate(rows)
    except NoResult as error:
        refused = next((f"; a timing was refused: {row['refused']}" for row in rows if "refused" in row), "")
        return replace(verdict, outcome=NO_RESULT, reason=f"{error}{refused}")
    return replace(verdict, outcome=check.outcome(found.low, found.high), **asdict(found))


def worst(outcomes: Sequence[str]) -> str:
    """The outcome of a claim with several checks: the worst of them; nothing defaults to good."""
    return min(outcomes, key=WORST_FIRST.index)


def slugs() -> list[str]:
    """Every work with a reproduction, from the file names alone."""
    return sorted(path.stem.replace("_", "-") for path in PAPERS.glob("*.py") if path.stem != "__init__")


def path_of(slug: str) -> Path:
    """The file of one work; LookupError names the ones there are."""
    if slug not in slugs():
        raise LookupError(f"no reproduction {slug!r}; there are: {', '.join(slugs())}")
    return PAPERS / f"{slug.replace('-', '_')}.py"


def question_of(slug: str) -> str:
    """The first line of the file's docstring, without importing it."""
    return (ast.get_docstring(ast.parse(path_of(slug).read_text())) or "").partition("\n")[0]


def load(slug: str) -> Spec:
    """Import one work's file (and with it torch)."""
    module = importlib.import_module(module_of(slug))
    return Spec(slug, question_of(slug), module.CHECKS, module.SIZES, module.LIMITS, module.PLOTS, module.run)


def module_of(slug: str) -> str:
    """The module that holds the work's `run()`."""
    return f"reproductions.papers.{path_of(slug).stem}"


def measurement_of(slug: str) -> str:
    """The fingerprint of all that can make a row of the work, without importing it; see identity.py."""
    return identity.of_work(module_of(slug))


def source_of(slug: str) -> str:
    """Digest all files that a declaration can come from: the web loads a work again when one of them changes."""
    paths = [*identity.files(module_of(slug)), equivalent.FILE]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths if path.is_file())).hexdigest()[:16]


def check_to_json(check: Check | Untested) -> dict:
    """A check as data, for the web: it never imports a spec."""
    data = {key: value for key, value in vars(check).items() if value is not False and value not in (None, "")}
    return data if isinstance(check, Untested) else data | {"metric": metrics.to_json(check.metric)}


def check_from_json(data: dict) -> Check | Untested:
    """The check that `check_to_json` wrote."""
    if "metric" in data:
        return Check(**data | {"metric": metrics.from_json(data["metric"])})
    return Untested(**data)


def describe(spec: Spec) -> dict:
    """A spec as JSON: all that the web needs to show, offer, queue and judge it."""
    sizes = {
        name: {"limit_s": size.limit_s, "scale": size.scale, "parameters": size.parameters, "needs": size.needs}
        for name, size in spec.sizes.items()
    }
    shown = {
        "slug": spec.slug,
        "question": spec.question,
        "sizes": sizes,
        "limits": spec.limits,
        "checks": [check_to_json(check) for check in spec.checks],
        "plots": spec.plots,
    }
    fingerprints = {"declaration": identity.of_declaration(shown), "measurement": measurement_of(spec.slug)}
    return (
        shown
        | fingerprints
        | {"source": source_of(spec.slug), "equivalent": equivalent.earlier(spec.slug, fingerprints["measurement"])}
    )
