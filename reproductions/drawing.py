"""Plots drawn on the server, so that they show without JavaScript; the same Vega-Lite serves everywhere."""

import csv
import gzip
import io
import json
from functools import cache, lru_cache
from importlib.metadata import version

import vl_convert
from django.http import Http404, HttpRequest, HttpResponse

from config.cells import inert
from reproductions.plots import data_of, vega

VL_VERSION = "6.4"
FORMS = {"svg": "image/svg+xml", "png": "image/png", "csv": "text/csv; charset=utf-8", "json": "application/json"}


def svg(plot: dict, rows: list[dict], theme: str) -> str:
    """The SVG of one plot of a run."""
    return _draw(json.dumps(vega(plot, rows, theme)))


def svg_of(specification: dict) -> str:
    """The SVG of any Vega-Lite specification."""
    return _draw(json.dumps(specification))


@lru_cache(maxsize=64)
def _draw(specification: str) -> str:
    return vl_convert.vegalite_to_svg(specification, vl_version=VL_VERSION)


def theme_of(request: HttpRequest) -> str:
    """What `?theme=` asks for."""
    return "dark" if request.GET.get("theme") == "dark" else "light"


def answer(specification: dict, form: str) -> HttpResponse:
    """A drawing as svg, png (twice the size), the rows it shows as csv, or the specification itself as json."""
    if form not in FORMS:
        raise Http404(f"expected one of {', '.join(FORMS)}, got {form}")
    body: str | bytes
    if form == "svg":
        body = svg_of(specification)
    elif form == "png":
        opaque = specification["config"] | {"background": "#14171a" if _is_dark(specification) else "#ffffff"}
        body = vl_convert.vegalite_to_png(specification | {"config": opaque}, vl_version=VL_VERSION, scale=2)
    elif form == "csv":
        body = _table(data_of(specification))
    else:
        body = json.dumps(specification)
    return HttpResponse(body, content_type=FORMS[form])


def _is_dark(specification: dict) -> bool:
    from reproductions.plots import INK

    return specification["config"]["title"]["color"] == INK["dark"][0]


def _table(rows: list[dict]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


BUNDLE_VERSION = f"{version('vl-convert-python')}-{VL_VERSION}"  # in its address, so that a browser keeps it for good


@cache
def bundle() -> bytes:
    """The browser's Vega, Vega-Lite and Vega-Embed as one script, compressed by gzip. Takes 2 s once a process."""
    return gzip.compress(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VL_VERSION).encode(), 9, mtime=0)
