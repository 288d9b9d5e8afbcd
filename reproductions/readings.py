"""One line of reading for a verdict that did not hold, or that does not stand firm: what we think it says, written by
who shipped the result.

`readings.yaml` holds them by work. A reading belongs to a check, a kind of device and an outcome; it is shown for as
long as that outcome stands, and judges nothing.
"""

import functools
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parent / "readings.yaml"


@functools.cache
def load() -> dict[str, list[dict[str, Any]]]:
    """The file as it is: slug -> readings with `claim`, `label` (where the check has one), `device`, `outcome`,
    `reading`."""
    return yaml.safe_load(FILE.read_text()) or {}


def of(slug: str, headline: dict) -> str:
    """The reading of a verdict that stands, or nothing."""
    for one in load().get(slug, []):
        names = ("claim", "device", "outcome")
        if one.get("label", "") == headline["label"] and all(one[name] == headline[name] for name in names):
            return " ".join(one["reading"].split())
    return ""
