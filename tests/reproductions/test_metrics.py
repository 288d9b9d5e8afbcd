"""The metrics against figures worked out by hand, and their refusal to make a figure of nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reproductions.metrics import METRICS, Difference, Max, Mean, NoResult, Ratio, Slope, Value, from_json, to_json


def timings(of: list[float], to: list[float], **fields) -> list[dict]:
    rows = [{"method": "slow", "repeat": i, "ms": ms} | fields for i, ms in enumerate(of)]
    return rows + [{"method": "fast", "repeat": i, "ms": ms} | fields for i, ms in enumerate(to)]


def test_value_and_max_are_exact():
    rows = [{"n": 1, "error": 0.5}, {"n": 2, "error": 2.5}]
    assert Max("error").estimate(rows).value == 2.5
    assert Value("error", {"n": 1}).estimate(rows).method == "exact"
    assert Max("error", {"n": [1, 2]}).estimate(rows).n == 2


def test_value_refuses_rows_that_disagree():
    with pytest.raises(NoResult, match="2 different values"):
        Value("error").estimate([{"error": 1}, {"error": 2}])


@pytest.mark.parametrize("bad", [math.nan, math.inf, "NaN", None, True])
def test_what_is_no_number_is_no_result(bad):
    for metric in (Value("x"), Max("x"), Mean("x")):
        with pytest.raises(NoResult):
            metric.estimate([{"x": 1.0}, {"x": bad}])


def test_missing_column_is_no_result():
    with pytest.raises(NoResult, match="no row has error"):
        Max("error").estimate([{"ms": 1}])


def test_mean_has_students_interval():
    found = Mean("x").estimate([{"x": v} for v in (1.0, 2.0, 3.0)])
    half = 4.303 * 1 / math.sqrt(3)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half))


def test_ratio_of_medians():
    found = Ratio("ms", of="slow", to="fast").estimate(timings([3, 3.1, 2.9, 3, 3.05], [1, 1.02, 0.98, 1, 1]))
    assert found.value == pytest.approx(3.0)
    assert 2.8 < found.low <= 3 <= found.high < 3.2


def test_ratio_repeats_itself():
    rows = timings([3, 4, 5, 3, 4, 6], [1, 1.5, 1, 2, 1, 1])
    assert Ratio("ms", of="slow", to="fast").estimate(rows) == Ratio("ms", of="slow", to="fast").estimate(rows)


def test_ratio_of_perplexities():
    rows = timings([2.0] * 6, [1.0] * 6)
    assert Ratio("ms", of="slow", to="fast", transform="exp").estimate(rows).value == pytest.approx(math.e)


def test_exact_ratio_sums_counts():
    rows = timings([4, 4], [1, 1])
    found = Ratio("ms", of="slow", to="fast", exact=True).estimate(rows)
    assert (found.value, found.low, found.high, found.method) == (4, 4, 4, "exact")


def test_best_takes_the_largest_with_a_wider_interval():
    noisy = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 1.0]
    rows = timings([2 * x for x in noisy], [1.0] * 7, n=1) + timings([4 * x for x in noisy], [1.0] * 7, n=2)
    best = Ratio("ms", of="slow", to="fast", best="n").estimate(rows)
    alone = Ratio("ms", of="slow", to="fast", where={"n": 2}).estimate(rows)
    assert best.value == alone.value == 4
    assert best.low <= alone.low and best.high >= alone.high


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (timings([1, 2], [1, 2]), "at least 5 pairs"),
        (timings([1] * 6, [1] * 5), "not measured at the same"),
        (timings([1] * 6, []), "no row has method=fast"),
        (timings([1] * 6, [0] * 6), "division"),
        (timings([1] * 6, [1] * 6) + timings([1], []), "two rows"),
    ],
)
def test_ratio_refuses(rows, words):
    with pytest.raises(NoResult, match=words):
        Ratio("ms", of="slow", to="fast").estimate(rows)


def test_difference_is_paired():
    found = Difference("ms", of="slow", to="fast").estimate(timings([2, 12, 22], [1, 11, 21]))
    assert (found.value, found.low, found.high) == (1, 1, 1)


@given(st.floats(-3, 3), st.floats(0.1, 10))
def test_slope_finds_the_exponent(exponent, factor):
    rows = [{"n": n, "bytes": factor * n**exponent} for n in (1, 2, 4, 16)]
    assert Slope("bytes", "n").estimate(rows).value == pytest.approx(exponent, abs=1e-9)


def test_slope_over_repeats_has_an_interval():
    rows = [{"n": n, "repeat": r, "y": n ** (1 + 0.01 * r)} for n in (1, 2, 4) for r in (-1, 0, 1)]
    found = Slope("y", "n", repeat="repeat").estimate(rows)
    assert found.method == "t" and found.low < 1 < found.high


def test_slope_needs_three_points():
    with pytest.raises(NoResult, match="at least 3 values of n"):
        Slope("y", "n").estimate([{"n": 1, "y": 1}, {"n": 2, "y": 2}])


@pytest.mark.parametrize(
    "metric",
    [
        Value("a"),
        Max("a", {"n": [1, 2]}),
        Mean("a"),
        Ratio("a", of="x", to="y", best="n", where={"n": 3}),
        Difference("a", of="x", to="y", pair="text"),
        Slope("a", "n", repeat="seed"),
    ],
)
def test_metrics_travel_as_json(metric):
    assert from_json(to_json(metric)) == metric
    assert type(metric).__name__ in METRICS
