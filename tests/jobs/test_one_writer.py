"""Only jobs.states.change sets a job's status."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_other_place_sets_a_status():
    setting = re.compile(r"\.update\([^)]*\bstatus\s*=|\.status\s*=[^=]|update_fields=[^)]*[\"']status[\"']")
    found = [
        str(path.relative_to(ROOT))
        for folder in ("jobs", "reproductions", "catalog", "exports", "config")
        for path in (ROOT / folder).rglob("*.py")
        if "migrations" not in path.parts and setting.search(path.read_text())
    ]
    assert found == ["jobs/states.py"]
