"""Pictures over all works: claims by device, and how near measured kernels come to what a device can do."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from reproductions.models import Reproduction, Run
from reproductions.plots import INK, config
from reproductions.spec import Untested


@dataclass
class Tile:
    """One claim on one kind of device: its outcome, or none."""

    key: str
    outcome: str = ""


@dataclass
class Line:
    """One work and its tiles, device by device."""

    reproduction: Reproduction
    devices: list[tuple[str, list[Tile]]] = field(default_factory=list)


def claims_by_device() -> tuple[list[str], list[Line]]:
    """The kinds of device that anything was measured on, and a line a work that can be run."""
    found = list(Reproduction.objects.filter(retired=False).select_related("work").order_by("work__title"))
    verdicts = {one.pk: one.claim_verdicts for one in found}
    devices = sorted({verdict["device"] for each in verdicts.values() for verdict in each})
    lines = []
    for one in found:
        keys = dict.fromkeys(check.claim for check in one.checks if not isinstance(check, Untested))
        line = Line(one)
        for device in devices:
            here = {v["claim"]: v["outcome"] for v in verdicts[one.pk] if v["device"] == device}
            line.devices.append((device, [Tile(key, here.get(key, "")) for key in keys]))
        lines.append(line)
    return devices, lines


@dataclass
class Roof:
    """The most a device was seen to do in one dtype, and what kernels reached of it."""

    device: str
    dtype: str
    tflops: float
    gb_per_s: float
    points: list[dict] = field(default_factory=list)


def rooflines() -> list[Roof]:
    """One a device and dtype, from the runs that stand as headlines and measured their roof."""
    standing = Reproduction.objects.filter(retired=False).values_list("headlines", flat=True)
    pks = {headline["run"] for headlines in standing for headline in headlines}
    roofs: dict[tuple[str, str], Roof] = {}
    for run in Run.objects.filter(pk__in=pks).select_related("reproduction__work").order_by("pk"):
        for row in run.rows:
            if "roof_tflops" in row:
                new = Roof(run.device_name, row["roof_dtype"], row["roof_tflops"], row["roof_gb_per_s"])
                roof = roofs.setdefault((new.device, new.dtype), new)
                roof.tflops, roof.gb_per_s = max(roof.tflops, new.tflops), max(roof.gb_per_s, new.gb_per_s)
                roof.points += _points(run, WIDTH.get(new.dtype, 4))
    return list(roofs.values())


def _points(run: Run, width: int) -> list[dict]:
    """The median of each method and size whose least work is known: what its rows tell, or LEAST."""
    groups: dict[tuple, list[float]] = {}
    for row in run.rows:
        if "ms" in row and (work := _work(run, row, width)):
            groups.setdefault((str(row.get("method")), row.get("n"), *work), []).append(row["ms"])
    return [
        {"method": method, "n": n, "intensity": flops / moved, "tflops": flops / median(ms) / 1e9, "run": run.pk}
        for (method, n, flops, moved), ms in groups.items()
    ]


def _work(run: Run, row: dict, width: int) -> tuple[float, float] | None:
    if "flops" in row and "bytes" in row:
        return row["flops"], row["bytes"]
    least = LEAST.get(run.reproduction.work.slug)
    return least(run.parameters, row["n"], width) if least and "n" in row else None


def _attention(parameters: dict, n: int, width: int) -> tuple[float, float]:
    """Forward and backward: 6 products of N x N x D a head; 12 tensors of N x D read or written."""
    batch = min(parameters["batch"], 64 * 1024 // n)
    tensor = batch * parameters["heads"] * n * parameters["head_dim"]
    return 12.0 * tensor * n, 12.0 * tensor * width


LEAST = {"flashattention": _attention}  # (FLOP, bytes) that a call must do at the least, where rows do not tell
WIDTH = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}  # bytes


def vega(roof: Roof, theme: str) -> dict:
    """The roofline as a drawing: the roof as a line, a point a method and size."""
    ridge = roof.tflops * 1e3 / roof.gb_per_s
    ends = [ridge / 64, ridge, max([ridge * 64, *(2 * point["intensity"] for point in roof.points)])]
    line = [{"intensity": x, "tflops": min(roof.tflops, x * roof.gb_per_s / 1e3)} for x in ends]
    log: dict[str, Any] = {"type": "quantitative", "scale": {"type": "log", "nice": False}}
    x = log | {"field": "intensity", "title": "FLOP a byte, at the least"}
    y = log | {"field": "tflops", "title": "TFLOP/s"}
    told = {"field": "method", "type": "nominal", "title": None}
    hover = [{"field": name} for name in ("method", "n", "tflops", "intensity", "run")]
    points = {"x": x, "y": y, "color": told, "shape": told, "tooltip": hover}
    layers = [
        {"data": {"values": line}, "mark": {"type": "line", "color": INK[theme][0]}, "encoding": {"x": x, "y": y}}
    ]
    if roof.points:  # a legend of nothing has no size
        layers.append({"mark": {"type": "point", "filled": True, "size": 70}, "encoding": points})
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": f"{roof.device}, {roof.dtype}: {roof.tflops:.3g} TFLOP/s, {roof.gb_per_s:.3g} GB/s",
        "width": 480,
        "height": 260,
        "data": {"values": roof.points},
        "layer": layers,
        "config": config(theme),
    }
