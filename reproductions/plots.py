"""Plots as data: a spec names columns of its rows, and `vega()` makes the Vega-Lite drawing. Standard library only."""

import math
from collections.abc import Sequence
from statistics import median

PALETTE = {
    "light": ["#1f5fa8", "#c2571a", "#2f7d4f", "#8a4fa3", "#8a6d1b", "#555f6b"],
    "dark": ["#7db4f0", "#f0a06a", "#7fce9b", "#cda2e0", "#dcc06a", "#aab4c0"],
}
FILLS = [1.0, 0.45, 0.12, 0.75, 0.28, 0.0]  # bars are told apart by these too
WIDTH, LETTER = 480, 6.0  # of a drawing, and of a letter of its legend, in pixels
INK = {"light": ("#1b1f24", "#d9dde2"), "dark": ("#e4e7eb", "#3a4148")}


def line(
    title: str,
    *,
    x: str,
    y: str,
    color: str | None = None,
    where: dict | None = None,
    log: Sequence[str] = ("x", "y"),
    x_title: str = "",
    y_title: str = "",
) -> dict:
    """A curve of the median of `y` over `x`, one a value of `color`, with every measurement as a point."""
    return {
        "mark": "line",
        "title": title,
        "x": x,
        "y": y,
        "color": color,
        "where": where or {},
        "log": list(log),
        "x_title": x_title or x,
        "y_title": y_title or y,
    }


def bars(
    title: str,
    *,
    x: str,
    y: str,
    color: str | None = None,
    where: dict | None = None,
    log: Sequence[str] = (),
    x_title: str = "",
    y_title: str = "",
) -> dict:
    """A bar of the median of `y` for each `x`, side by side for the values of `color`."""
    return line(title, x=x, y=y, color=color, where=where, log=log, x_title=x_title, y_title=y_title) | {"mark": "bar"}


def rows_of(plot: dict, rows: Sequence[dict]) -> list[dict]:
    """The rows a plot draws, with only the columns it needs; values a log axis cannot show are left out."""
    columns = [column for column in (plot["x"], plot["y"], plot["color"]) if column]
    kept = [{c: row[c] for c in columns} for row in rows if all(c in row for c in columns) and _matches(plot, row)]
    positive = [plot[axis] for axis in plot["log"]]
    return [row for row in kept if all(isinstance(row[c], int | float) and row[c] > 0 for c in positive)]


def _matches(plot: dict, row: dict) -> bool:
    return all(row.get(k) in v if isinstance(v, list) else row.get(k) == v for k, v in plot["where"].items())


def summary(plot: dict, values: Sequence[dict], by: Sequence[str] = ()) -> list[dict]:
    """One row a point of the drawing: the median of y as `y`, `low` and `high` around it, and of how many it is.

    From 6 measurements on, low to high is the median's 95 % interval by ranks; below, all that was measured.
    """
    keys = [column for column in (plot["x"], plot["color"], *by) if column]
    groups: dict[tuple, list[float]] = {}
    for row in values:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row[plot["y"]])
    rows = []
    for key, found in groups.items():
        low, high = interval(found)
        point = {plot["y"]: median(found), "low": low, "high": high, "measurements": len(found)}
        rows.append(dict(zip(keys, key, strict=True)) | point)
    return rows


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The median's 95 % interval by ranks, which assumes no shape; below 6 values their whole range."""
    ordered, n = sorted(values), len(values)
    rank, tail = 0, 0.5**n
    while tail <= 0.025:
        rank += 1
        tail += math.comb(n, rank) * 0.5**n
    rank = max(rank, 1)
    return ordered[rank - 1], ordered[n - rank]


def vega(plot: dict, rows: Sequence[dict], theme: str = "light") -> dict:
    """The Vega-Lite specification of `plot` over `rows`, the data inside it. `theme`: "light" or "dark"."""
    values = rows_of(plot, rows)
    return _drawn(plot, summary(plot, values), values, theme)


def _drawn(plot: dict, points: list[dict], values: list[dict], theme: str) -> dict:
    bar, series = plot["mark"] == "bar", plot["color"]
    x = {"field": plot["x"], "type": "ordinal" if bar else "quantitative", "title": plot["x_title"]}
    y = {"field": plot["y"], "type": "quantitative", "title": plot["y_title"]}
    for name, axis in (("x", x), ("y", y)):
        if name in plot["log"] and axis["type"] == "quantitative":
            axis["scale"] = {"type": "log", "nice": False}
            axis["axis"] = _ticks(sorted({row[plot[name]] for row in values}), name)
        elif not bar and name == "x":
            axis["scale"] = {"zero": False}
    if bar:
        x["axis"] = {"labelAngle": 0, "labelExpr": "split(datum.label, ', ')"}
        if "y" in plot["log"] and points:
            floor = 10.0 ** math.floor(math.log10(min(point["low"] for point in points)))
            y["scale"] = {"type": "log", "domainMin": floor, "domainMax": 1.1 * max(point["high"] for point in points)}
    told = _told(series, values) if series else {}
    color = {"color": told} if series else {}
    hover = [{"field": plot["x"], "title": plot["x_title"]}, {"field": plot["y"], "title": plot["y_title"]}]
    hover = ([{"field": series}] if series else []) + hover
    ends = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    place = {"x": x, "tooltip": [*hover, {"field": "low"}, {"field": "high"}, {"field": "measurements"}]} | color
    if bar:
        place |= {"xOffset": {"field": series}} if series else {}
        levels = {"type": "ordinal", "scale": told["scale"] | {"range": FILLS}} if series else {}
        fill = {"fillOpacity": told | levels, "stroke": told} if series else {}
        layers = [
            {"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": place | {"y": y | {"stack": None}} | fill},
            {"mark": {"type": "rule", "color": INK[theme][0]}, "encoding": _without(place, "color") | ends},
        ]
    else:
        dash, shape = ({"strokeDash": told}, {"shape": told}) if series else ({}, {})
        single = {"x": x, "y": y, "tooltip": hover} | color
        layers = [
            {"data": {"values": values}, "mark": {"type": "tick", "thickness": 1, "size": 7, "opacity": 0.5,
                                                  "orient": "horizontal"}, "encoding": single},
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": y} | color | dash},
            {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": place | ends},
            {"mark": {"type": "point", "filled": True, "size": 60}, "encoding": place | {"y": y} | shape},
        ]  # fmt: skip
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": plot["title"],
        "width": WIDTH,
        "height": 260,
        "data": {"values": points},
        "layer": layers,
        "config": config(theme),
    }


def overlaid(plot: dict, runs: dict[str, Sequence[dict]], theme: str = "light") -> dict:
    """The drawing of `plot` over the rows of several runs, told by name: lines by their dashes, bars side by side."""
    values: list[dict] = []
    points: list[dict] = []
    for name, rows in runs.items():
        own = rows_of(plot, rows)
        for found, kept in ((own, values), (summary(plot, own), points)):
            for row in found:
                both = f"{row[plot['color']]}, {name}" if plot["color"] else name
                kept.append(row | {"run": name, "of run": both})
    drawn = _drawn(plot, points, values, theme)
    run = _told("run", values)
    for layer in drawn["layer"]:
        encoding, mark = layer["encoding"], layer["mark"]["type"]
        if plot["color"] is None and not (mark == "rule" and plot["mark"] == "bar"):
            encoding["color"] = run
        encoding["detail"] = {"field": "of run"}
        if "tooltip" in encoding:
            encoding["tooltip"] = [{"field": "run"}, *encoding["tooltip"]]
        if plot["mark"] == "bar":
            encoding["xOffset"] = {"field": "of run"}
            if mark == "bar":
                encoding["opacity"] = run | {"scale": run["scale"] | {"range": [1, 0.5]}}
        elif mark in ("line", "point"):
            encoding["strokeDash" if mark == "line" else "shape"] = run
    return drawn


def _told(field: str, values: Sequence[dict]) -> dict:
    """A channel that tells a field's values apart. The same domain everywhere makes one legend of all channels, in as
    many columns as the drawing is wide enough for."""
    domain = sorted({row[field] for row in values}, key=str)
    entry = 40 + LETTER * max((len(str(value)) for value in domain), default=0)
    legend = {"columns": max(1, min(len(domain), int(WIDTH // entry)))}
    return {"field": field, "type": "nominal", "title": None, "scale": {"domain": domain}, "legend": legend}


def _without(encoding: dict, channel: str) -> dict:
    return {name: value for name, value in encoding.items() if name != channel}


def data_of(specification: dict) -> list[dict]:
    """The rows that a drawing shows, for a table."""
    own = [layer["data"]["values"] for layer in specification.get("layer", []) if "data" in layer]
    return [*specification["data"]["values"], *(row for rows in own for row in rows)]


def _ticks(measured: list[float], name: str) -> dict:
    """On x, ticks at the measured places where they are few; on y, large numbers in short."""
    if name == "x":
        return {"values": measured} if len(measured) <= 8 else {}
    return {"format": "~s"} if measured and measured[-1] >= 1e5 else {}


def config(theme: str) -> dict:
    """The look of every drawing."""
    ink, rule = INK[theme]
    axis = {
        "labelColor": ink,
        "titleColor": ink,
        "gridColor": rule,
        "domainColor": rule,
        "tickColor": rule,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 12,
    }
    return {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": axis,
        "range": {"category": PALETTE[theme]},
        "bar": {"color": PALETTE[theme][0]},
        "line": {"color": PALETTE[theme][0]},
        "point": {"color": PALETTE[theme][0]},
        "rule": {"color": PALETTE[theme][0]},
        "tick": {"color": PALETTE[theme][0]},
        "title": {"color": ink, "fontSize": 13, "anchor": "start", "fontWeight": 600},
        "legend": {
            "labelColor": ink,
            "titleColor": ink,
            "orient": "bottom",
            "labelFontSize": 11,
            "labelLimit": WIDTH,
            "columnPadding": 22,  # a reader's font may be wider than the one that was measured
            "symbolOpacity": 1,
            "symbolBaseFillColor": ink,
            "symbolBaseStrokeColor": ink,
        },
    }
