"""Plots drawn on the server, so that they show without JavaScript; the same Vega-Lite serves everywhere."""

import json
from functools import lru_cache

import vl_convert

from reproductions.plots import vega


def svg(plot: dict, rows: list[dict], theme: str) -> str:
    """The SVG of one plot of a run."""
    return _draw(json.dumps(vega(plot, rows, theme)))


def svg_of(specification: dict) -> str:
    """The SVG of any Vega-Lite specification."""
    return _draw(json.dumps(specification))


@lru_cache(maxsize=64)
def _draw(specification: str) -> str:
    return vl_convert.vegalite_to_svg(specification, vl_version="6.4")
