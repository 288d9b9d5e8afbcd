"""What became of one claim over time, on every device it was measured on."""

from dataclasses import dataclass, field

from jobs.models import Job
from reproductions.models import Reproduction, Verdict
from reproductions.plots import config
from reproductions.spec import NO_RESULT, NOT_TESTABLE, Check


@dataclass
class CheckHistory:
    """One check of the claim, told by its label, and its verdicts, the newest first."""

    label: str
    verdicts: list[Verdict] = field(default_factory=list)
    check: Check | None = None

    @property
    def measured(self) -> list[Verdict]:
        """Those that have a figure and may be evidence, the oldest first."""
        shown = [v for v in reversed(self.verdicts) if v.value is not None and v.low is not None]
        return [v for v in shown if v.run.size != "smoke" and not v.run.customised]

    @property
    def turns(self) -> list[tuple[Verdict, Verdict]]:
        """(before, after) wherever evidence on the same device came to another outcome, the newest first."""
        last: dict[str, Verdict] = {}
        found = []
        for verdict in self.measured:
            before = last.get(verdict.run.device_name)
            if before and before.outcome != verdict.outcome:
                found.append((before, verdict))
            last[verdict.run.device_name] = verdict
        return found[::-1]


def of_claim(reproduction: Reproduction, claim: str) -> list[CheckHistory]:
    """Every verdict of every finished run, check by check; those that lacked their device are left out."""
    checks = [check for check in reproduction.checks if check.claim == claim and isinstance(check, Check)]
    found = {check.label: CheckHistory(check.label, check=check) for check in checks}
    verdicts = Verdict.objects.filter(
        claim=claim, run__reproduction=reproduction, run__job__status=Job.Status.FINISHED
    ).exclude(outcome=NOT_TESTABLE)
    related = verdicts.select_related("run__job", "run__reproduction").defer("run__rows", "run__checks")
    for verdict in related.order_by("-run__job__ended_at", "-run__pk"):
        found.setdefault(verdict.label, CheckHistory(verdict.label)).verdicts.append(verdict)
    return list(found.values())


def vega(history: CheckHistory, theme: str) -> dict:
    """The Vega-Lite drawing: a point with its interval for each verdict, a line a device, the bound dashed."""
    values: list[dict] = [
        {"at": v.run.job.ended_at.isoformat(), "value": v.value, "low": v.low, "high": v.high,
         "device": v.run.device_name, "run": f"run {v.run.pk}", "outcome": v.outcome}
        for v in history.measured if v.outcome != NO_RESULT and v.run.job.ended_at
    ]  # fmt: skip
    title = history.verdicts[0].measure if history.verdicts else ""
    one_day = len({value["at"][:10] for value in values}) == 1
    axis: dict = {"format": "%-d %b %Y %H:%M" if one_day else "%-d %b %Y", "labelOverlap": True, "tickCount": 3}
    if len(values) == 1:
        axis["values"] = [values[0]["at"]]
    x = {"field": "at", "type": "temporal", "title": None, "axis": axis, "scale": {"padding": 20, "type": "utc"}}
    y = {"type": "quantitative", "title": None, "scale": {"zero": False}, "axis": {"format": ".3~g"}}
    color = {"color": {"field": "device", "type": "nominal", "title": None}}
    ends = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    layers: list[dict] = [
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"x": x} | ends | color},
        {"mark": {"type": "line", "opacity": 0.5}, "encoding": {"x": x, "y": y | {"field": "value"}} | color},
        {
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {"x": x, "y": y | {"field": "value"}} | color,
        },
    ]
    check = history.check
    bounds = [check.at_least, check.at_most, check.above, check.below] if check else []
    drawn = [{"bound": bound} for bound in bounds if bound is not None]
    if drawn:
        rule = {"type": "rule", "strokeDash": [4, 4], "color": config(theme)["title"]["color"]}
        encoding = {"y": y | {"field": "bound"}}
        layers.append({"data": {"values": drawn}, "mark": rule, "encoding": encoding})
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": title,
        "width": 560,
        "height": 200,
        "data": {"values": values},
        "layer": layers,
        "config": config(theme),
    }
