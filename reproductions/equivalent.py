"""Which earlier measurements count as the present one: a refactoring changed the code and no figure.

equivalent.yaml holds what `make equivalent` found. Each entry says why, against which commit, and for each work its
fingerprint before and after. Where it could not show that times are the same, `timings` says what they were taken with.
"""

import functools
from pathlib import Path

FILE = Path(__file__).with_name("equivalent.yaml")


def earlier(slug: str, present: str, file: Path = FILE) -> dict[str, str]:
    """Fingerprints of the work's earlier measurements that count as `present`; each with what to say of its timings,
    such as "earlier stopwatch", or nothing where they are as good as new.
    """
    found, waiting = {present: ""}, [present]
    while waiting:
        after = waiting.pop()
        for entry in _entries(file):
            pair = entry["works"].get(slug, {})
            if pair.get("after") == after and pair["before"] not in found:
                found[pair["before"]] = entry.get("timings", "") or found[after]
                waiting.append(pair["before"])
    del found[present]
    return found


@functools.cache
def _entries(file: Path) -> list[dict]:
    import yaml

    return (yaml.safe_load(file.read_text()) or []) if file.is_file() else []
