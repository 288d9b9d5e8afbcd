"""The metrics a check may use: data, not code. Each turns tidy rows into one estimate with its own 95 % interval.

A row is one measurement: a flat dict of JSON scalars. `where` keeps the rows whose columns hold the given value, or
one of the given values. Standard library only: the web server judges with the same code as the command line.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean, median, stdev

MIN_PAIRS = 5  # a bootstrap over fewer pairs gives an interval that is too narrow to judge by
RESAMPLES = 2000
# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom.
T95 = [
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
    2.093,
    2.086,
    2.080,
    2.074,
    2.069,
    2.064,
    2.060,
    2.056,
    2.052,
    2.048,
    2.045,
    2.042,
]

Row = dict


class NoResult(Exception):
    """The rows cannot give the metric; the message says why."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval. `method` names the interval: "exact", "t" or "paired bootstrap"."""

    value: float
    low: float
    high: float
    method: str
    n: int


def _exact(value: float, n: int) -> Estimate:
    return Estimate(value, value, value, "exact", n)


def _t_interval(values: Sequence[float]) -> Estimate:
    n = len(values)
    if n < 2:
        raise NoResult(f"an interval needs at least 2 measurements, got {n}")
    half = (T95[n - 2] if n - 1 <= len(T95) else 1.96) * stdev(values) / math.sqrt(n)
    return Estimate(fmean(values), fmean(values) - half, fmean(values) + half, "t", n)


def _select(rows: Sequence[Row], column: str, where: dict) -> list[Row]:
    """Rows that match `where` and carry `column`; a value that is not a finite number is no result, never a pass."""

    def matches(row: Row) -> bool:
        return all(row.get(k) in v if isinstance(v, list) else row.get(k) == v for k, v in where.items())

    kept = [row for row in rows if column in row and matches(row)]
    if not kept:
        wanted = f" where {where}" if where else ""
        raise NoResult(f"no row has {column}{wanted}")
    for row in kept:
        value = row[column]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise NoResult(f"{column} is {value!r} in row {row}")
    return kept


def _paired(rows: Sequence[Row], column: str, by: str, of: str, to: str, pair: str) -> list[tuple[float, float]]:
    """(of, to) values that share the same `pair`; each side must have exactly one row a pair."""
    sides: dict[str, dict] = {of: {}, to: {}}
    for row in rows:
        if row.get(by) not in sides:
            continue
        side = sides[row[by]]
        if pair not in row:
            raise NoResult(f"row without {pair}: {row}")
        if row[pair] in side:
            raise NoResult(f"two rows of {by}={row[by]} share {pair}={row[pair]!r}")
        side[row[pair]] = row[column]
    for name, side in sides.items():
        if not side:
            raise NoResult(f"no row has {by}={name}")
    if sides[of].keys() != sides[to].keys():
        raise NoResult(f"{of} and {to} were not measured at the same values of {pair}")
    return [(sides[of][key], sides[to][key]) for key in sides[of]]


def _bootstrap(pairs: list[tuple[float, float]], statistic: Callable, alpha: float) -> Estimate:
    """Percentile interval of `statistic(of, to)`, resampling pairs; the seed is fixed so that a verdict repeats."""
    if len(pairs) < MIN_PAIRS:
        raise NoResult(f"a bootstrap needs at least {MIN_PAIRS} pairs, got {len(pairs)}")
    rng = random.Random(0)
    draws = sorted(statistic(*zip(*rng.choices(pairs, k=len(pairs)), strict=True)) for _ in range(RESAMPLES))
    cut = int(alpha / 2 * RESAMPLES)
    value = statistic(*zip(*pairs, strict=True))
    return Estimate(value, draws[cut], draws[-1 - cut], "paired bootstrap", len(pairs))


def _median_ratio(of: Sequence[float], to: Sequence[float]) -> float:
    return _divide(median(of), median(to))


def _exp_mean_ratio(of: Sequence[float], to: Sequence[float]) -> float:
    return math.exp(fmean(of) - fmean(to))


def _divide(of: float, to: float) -> float:
    if to == 0:
        raise NoResult("division by a measurement of 0")
    return of / to


def _name(column: str) -> str:
    return column.replace("_", " ")


def _where(where: dict) -> str:
    words = (f"{_name(k)} = {', '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in where.items())
    return f" at {'; '.join(words)}" if where else ""


@dataclass(frozen=True)
class Value:
    """The one value of `column`; rows that disagree are no result."""

    column: str
    where: dict = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is measured, for people."""
        return f"{_name(self.column)}{_where(self.where)}"

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        values = [row[self.column] for row in _select(rows, self.column, self.where)]
        if len(set(values)) > 1:
            raise NoResult(f"{self.column} has {len(set(values))} different values where one was expected")
        return _exact(values[0], len(values))


@dataclass(frozen=True)
class Max:
    """The worst of every case tried."""

    column: str
    where: dict = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is measured, for people."""
        return f"largest {_name(self.column)}{_where(self.where)}"

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        kept = _select(rows, self.column, self.where)
        return _exact(max(row[self.column] for row in kept), len(kept))


@dataclass(frozen=True)
class Mean:
    """The mean over the rows, with a t interval."""

    column: str
    where: dict = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is measured, for people."""
        return f"mean {_name(self.column)}{_where(self.where)}"

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        return _t_interval([row[self.column] for row in _select(rows, self.column, self.where)])


@dataclass(frozen=True)
class Ratio:
    """`column` of the rows with `by` = `of`, over that of the rows with `by` = `to`, measured side by side.

    Default: ratio of medians, pairs resampled. `transform="exp"`: exp(mean - mean), the ratio of two perplexities from
    mean negative log likelihoods a block of tokens. `exact`: sums of counts, which need no interval. `best`: the ratio
    at each value of that column, the largest taken, its interval widened for having been picked (Bonferroni).
    """

    column: str
    of: str
    to: str
    by: str = "method"
    pair: str = "repeat"
    where: dict = field(default_factory=dict)
    exact: bool = False
    best: str | None = None
    transform: str | None = None

    @property
    def words(self) -> str:
        """What is measured, for people."""
        best = f", best over {_name(self.best)}" if self.best else ""
        name = f"exp({_name(self.column)})" if self.transform == "exp" else _name(self.column)
        return f"{name} of {self.of} / {self.to}{_where(self.where)}{best}"

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        kept = [row for row in _select(rows, self.column, self.where) if row.get(self.by) in (self.of, self.to)]
        if self.best is None:
            return self._at(kept, 0.05)
        groups = {row[self.best]: [r for r in kept if r.get(self.best) == row[self.best]] for row in kept}
        if not groups:
            raise NoResult(f"no row has {self.by}={self.of} or {self.by}={self.to}")
        return max((self._at(group, 0.05 / len(groups)) for group in groups.values()), key=lambda e: e.value)

    def _at(self, rows: list[Row], alpha: float) -> Estimate:
        if self.exact:
            sums = {side: [r[self.column] for r in rows if r[self.by] == side] for side in (self.of, self.to)}
            for side, values in sums.items():
                if not values:
                    raise NoResult(f"no row has {self.by}={side}")
            return _exact(_divide(sum(sums[self.of]), sum(sums[self.to])), len(rows))
        pairs = _paired(rows, self.column, self.by, self.of, self.to, self.pair)
        return _bootstrap(pairs, _exp_mean_ratio if self.transform == "exp" else _median_ratio, alpha)


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences, `of` minus `to`, with a t interval."""

    column: str
    of: str
    to: str
    by: str = "method"
    pair: str = "repeat"
    where: dict = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is measured, for people."""
        return f"{_name(self.column)} of {self.of} - {self.to}{_where(self.where)}"

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        kept = _select(rows, self.column, self.where)
        return _t_interval([a - b for a, b in _paired(kept, self.column, self.by, self.of, self.to, self.pair)])


@dataclass(frozen=True)
class Slope:
    """The exponent of `y` in `x`: a straight line through (log x, log y).

    `repeat=None`: `y` is an exact count and the exponent needs no interval. Otherwise one exponent is fitted for each
    value of the column `repeat`, and they get a t interval.
    """

    y: str
    x: str
    where: dict = field(default_factory=dict)
    repeat: str | None = None

    @property
    def words(self) -> str:
        """What is measured, for people."""
        return f"exponent of {_name(self.y)} in {_name(self.x)}{_where(self.where)}"

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        kept = _select(rows, self.y, self.where)
        if self.repeat is None:
            return _exact(self._fit(kept), len(kept))
        repeats = {row.get(self.repeat) for row in kept}
        return _t_interval([self._fit([r for r in kept if r.get(self.repeat) == one]) for one in repeats])

    def _fit(self, rows: list[Row]) -> float:
        if len({row.get(self.x) for row in rows}) < 3:
            raise NoResult(f"an exponent needs at least 3 values of {self.x}, got {len({r.get(self.x) for r in rows})}")
        if any(row[self.x] <= 0 or row[self.y] <= 0 for row in rows):
            raise NoResult(f"an exponent needs positive {self.x} and {self.y}")
        xs, ys = [math.log(row[self.x]) for row in rows], [math.log(row[self.y]) for row in rows]
        mx, my = fmean(xs), fmean(ys)
        return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum((x - mx) ** 2 for x in xs)


Metric = Value | Max | Mean | Ratio | Difference | Slope
METRICS = {metric.__name__: metric for metric in (Value, Max, Mean, Ratio, Difference, Slope)}


def to_json(metric: Metric) -> dict:
    """`{"metric": "Ratio", "column": …}`; options that keep their default are left out."""
    defaults = {f.name: f.default for f in fields(metric)}
    kept = {k: v for k, v in asdict(metric).items() if v != defaults[k] and not (k == "where" and not v)}
    return {"metric": type(metric).__name__} | kept


def from_json(data: dict) -> Metric:
    """The metric that `to_json` wrote."""
    options = dict(data)
    return METRICS[options.pop("metric")](**options)
