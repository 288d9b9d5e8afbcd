"""Plots as data: a spec names columns of its rows, and `vega()` makes the Vega-Lite drawing. Standard library only."""

from collections.abc import Sequence

PALETTE = {
    "light": ["#1f5fa8", "#c2571a", "#2f7d4f", "#8a4fa3", "#8a6d1b", "#555f6b"],
    "dark": ["#7db4f0", "#f0a06a", "#7fce9b", "#cda2e0", "#dcc06a", "#aab4c0"],
}
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


def vega(plot: dict, rows: Sequence[dict], theme: str = "light") -> dict:
    """The Vega-Lite specification of `plot` over `rows`, the data inside it. `theme`: "light" or "dark"."""
    bar, values = plot["mark"] == "bar", rows_of(plot, rows)
    x = {"field": plot["x"], "type": "ordinal" if bar else "quantitative", "title": plot["x_title"]}
    y = {"field": plot["y"], "type": "quantitative", "title": plot["y_title"]}
    for name, axis in (("x", x), ("y", y)):
        if name in plot["log"] and axis["type"] == "quantitative":
            axis["scale"] = {"type": "log", "nice": False}
            axis["axis"] = _ticks(sorted({row[plot[name]] for row in values}), name)
        elif not bar and name == "x":
            axis["scale"] = {"zero": False}
    if bar:
        x["axis"] = {"labelAngle": 0}
    color = {"color": {"field": plot["color"], "type": "nominal", "title": None}} if plot["color"] else {}
    median = {"x": x, "y": y | {"aggregate": "median"}} | color
    if bar:
        offset = {"xOffset": {"field": plot["color"]}} if plot["color"] else {}
        layers = [{"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": median | offset}]
    else:
        layers = [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": median},
            {
                "mark": {"type": "point", "filled": True, "size": 22, "opacity": 0.5},
                "encoding": {"x": x, "y": y} | color,
            },
        ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": plot["title"],
        "width": 480,
        "height": 260,
        "data": {"values": values},
        "layer": layers,
        "config": config(theme),
    }


def overlaid(plot: dict, runs: dict[str, Sequence[dict]], theme: str = "light") -> dict:
    """The drawing of `plot` over the rows of several runs, told by name: lines by their dashes, bars side by side."""
    drawn = vega(plot, [row for rows in runs.values() for row in rows], theme)
    series = plot["color"]
    values = []
    for name, rows in runs.items():
        for row in rows_of(plot, rows):
            both = f"{row[series]}, {name}" if series else name
            values.append(row | {"run": name, "of run": both})
    drawn["data"]["values"] = values
    for layer in drawn["layer"]:
        encoding, mark = layer["encoding"], layer["mark"]["type"]
        if series is None:
            encoding["color"] = {"field": "run", "type": "nominal", "title": None}
        if mark == "bar":
            encoding["xOffset"] = {"field": "of run"}
            encoding["y"] = encoding["y"] | {"stack": None}
            encoding["opacity"] = {"field": "run", "type": "nominal", "title": None, "scale": {"range": [1, 0.5]}}
        else:
            channel = "strokeDash" if mark == "line" else "shape"
            encoding[channel] = {"field": "run", "type": "nominal", "title": None}
            encoding["detail"] = {"field": "of run"}
    return drawn


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
        "title": {"color": ink, "fontSize": 13, "anchor": "start", "fontWeight": 600},
        "legend": {
            "labelColor": ink,
            "titleColor": ink,
            "orient": "bottom",
            "labelFontSize": 11,
            "symbolOpacity": 1,
            "symbolBaseFillColor": ink,
            "symbolBaseStrokeColor": ink,
        },
    }
