"""Drawings as data: what is summed up, what a logarithm can show, what tells series apart."""

import pytest

from reproductions import plots

LINE = plots.line("Time", x="n", y="ms", color="method")


def rows(**times: list[float]) -> list[dict]:
    return [{"n": n, "method": m, "ms": ms * n} for m, found in times.items() for n in (1, 2) for ms in found]


def test_a_point_is_the_median_with_its_interval():
    points = plots.summary(LINE, rows(flash=[1.0, 3.0, 2.0]))
    assert points[0] == {"n": 1, "method": "flash", "ms": 2.0, "low": 1.0, "high": 3.0, "measurements": 3}


@pytest.mark.parametrize(("n", "ranks"), [(1, (0, 0)), (5, (0, 4)), (6, (0, 5)), (9, (1, 7)), (20, (5, 14))])
def test_the_interval_is_that_of_the_ranks(n, ranks):
    """Ranks for 95 % from tables of the binomial distribution."""
    assert plots.interval(list(range(n))) == ranks


def test_series_are_told_by_more_than_colour():
    drawn = plots.vega(LINE, rows(flash=[1.0], standard=[2.0]))
    channels = {channel for layer in drawn["layer"] for channel in layer["encoding"]}
    assert {"color", "shape", "strokeDash", "tooltip"} <= channels
    bars = plots.vega(plots.bars("Time", x="n", y="ms", color="method"), rows(flash=[1.0], standard=[2.0]))
    assert "fillOpacity" in bars["layer"][0]["encoding"]


def test_bars_on_a_logarithm_start_at_a_power_of_ten():
    drawn = plots.vega(plots.bars("Error", x="n", y="ms", log=("y",)), rows(flash=[3e-7, -1.0]))
    assert drawn["layer"][0]["encoding"]["y"]["scale"]["domainMin"] == pytest.approx(1e-7)


def test_an_empty_plot_is_a_plot():
    assert plots.vega(LINE, [])["data"]["values"] == []


def test_the_table_holds_points_and_measurements():
    assert len(plots.data_of(plots.vega(LINE, rows(flash=[1.0, 2.0])))) == 2 + 4


def test_a_legend_has_no_more_columns_than_fit():
    plot = plots.line("t", x="n", y="ms", color="method")
    short = plots.vega(plot, [{"n": n, "ms": 1.0, "method": f"m{n}"} for n in range(1, 9)])
    long = plots.vega(plot, [{"n": n, "ms": 1.0, "method": f"attention, s = 1024, predicted {n}"} for n in range(1, 9)])
    columns = [one["layer"][1]["encoding"]["color"]["legend"]["columns"] for one in (short, long)]
    assert columns == [8, 2]
    assert plots.config("light")["legend"]["columnPadding"] > 20, "words in a wider font than the measured one fit too"
