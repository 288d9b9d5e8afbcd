"""Verdicts as pages draw them: a bar of a work's claims, and the marks a device has."""

from collections import Counter

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import slugify

from catalog.models import Work
from reproductions.models import Reproduction
from reproductions.spec import REPLICATED, WORST_FIRST

register = template.Library()
WIDTH, HEIGHT = 112, 8


@register.simple_tag
def claims_bar(work: Work) -> SafeString:
    """A picture of the work's claims: each a cell, filled by what was found, the good first and the untested empty."""
    claims = list(work.claims.all())
    counts = dict(work.reproduction.headline_counts)
    cells = [name for name in reversed(WORST_FIRST) for _ in range(counts.get(name, 0))]
    cells += [""] * (len(claims) - len(cells))
    step = WIDTH / max(len(cells), 1)
    rects = [(slugify(name) or "none", f"{i * step + 0.5:.1f}", f"{step - 1.5:.1f}") for i, name in enumerate(cells)]
    drawn = format_html_join("", '<rect class="b-{}" x="{}" y="0.5" width="{}" height="7"/>', rects)
    return format_html(
        '<svg class="bar" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        WIDTH, HEIGHT, claims_told(work), drawn,
    )  # fmt: skip


@register.simple_tag
def claims_told(work: Work) -> str:
    """How many claims of a work held, and what became of the others."""
    counts = dict(work.reproduction.headline_counts)
    total = len(work.claims.all())
    others = [f"{count} {name}" for name, count in counts.items() if name != REPLICATED]
    if missing := total - sum(counts.values()):
        others.append(f"{missing} not measured in full")
    return f"{counts.get(REPLICATED, 0)} of {total} claims held" + (f"; {', '.join(others)}" if others else "")


@register.filter
def by_device(reproduction: Reproduction) -> list[tuple[str, list[tuple[str, int]]]]:
    """(device, [(outcome, how many claims)]) of what stands, the worst first."""
    found: dict[str, Counter] = {}
    for verdict in reproduction.claim_verdicts:
        found.setdefault(verdict["device"], Counter())[verdict["outcome"]] += 1
    return [(device, [(o, counts[o]) for o in WORST_FIRST if counts[o]]) for device, counts in sorted(found.items())]


@register.filter
def where_measured(reproduction: Reproduction) -> list[dict]:
    """Each device with its run, size and date, and what its checks found: what the top of a paper's page says."""
    found: dict[str, dict] = {}
    for headline in reproduction.headlines:
        one = found.setdefault(headline["device_name"], headline | {"counts": Counter()})
        one["counts"][headline["outcome"]] += 1
    for one in found.values():
        one["counts"] = [(o, one["counts"][o]) for o in WORST_FIRST if one["counts"][o]]
    return list(found.values())
