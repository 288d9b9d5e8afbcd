"""Bundles as files in DATA_DIR/bundles: NAME.pdf, its manifest NAME.json and NAME.sha256; the least used go first.

NAME.asked holds who asked for it by which query, a line each: [account, query]. It is told to them and to operators.
"""

import datetime
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from exports import binding
from exports.binding import Progress
from exports.bundle_plan import PRIVATE, Plan

LEFT_S = 86400  # longer than any job takes


@dataclass
class Made:
    """A bundle that is there."""

    name: str
    told: dict[str, Any]
    sha256: str
    size: int
    made_at: float

    @property
    def kind(self) -> str:
        """report, public or private."""
        return self.told["kind"]

    @property
    def made(self) -> datetime.datetime:
        """When."""
        return datetime.datetime.fromtimestamp(self.made_at, datetime.UTC)

    @property
    def file(self) -> Path:
        """The PDF."""
        return folder() / f"{self.name}.pdf"


def folder() -> Path:
    """Where they lie; it is made if it is not there."""
    path = settings.DATA_DIR / "bundles"
    path.mkdir(parents=True, exist_ok=True)
    return path


def made(name: str) -> Made | None:
    """The bundle of this name, or None. A name is one that `Plan.name` gives, so no path."""
    if not name.startswith("claimcheck-") or not name.replace("-", "").isalnum():
        return None
    try:
        told = json.loads((folder() / f"{name}.json").read_text())
        digest = (folder() / f"{name}.sha256").read_text().split()[0]
        size = (folder() / f"{name}.pdf").stat().st_size
        made_at = (folder() / f"{name}.json").stat().st_mtime
    except (OSError, ValueError, IndexError):
        return None
    return Made(name, told, digest, size, made_at)


def seen_by(user: Any) -> list[Made]:
    """The bundles that somebody may have, the newest first."""
    found = [made(path.stem) for path in folder().glob("claimcheck-*.json")]
    return sorted((one for one in found if one and may_have(user, one)), key=lambda one: -one.made_at)


def may_have(user: Any, bundle: Made) -> bool:
    """Private ones are the operators'; those of a private collection its owner's and the operators'.

    Those that an earlier version made show the query on their cover: they are the operators' too, if there was one.
    """
    if user.is_staff:
        return True
    if bundle.told.get("query"):
        return False
    owner = bundle.told.get("owner")
    return bundle.kind != PRIVATE and (owner is None or owner == user.pk)


def note_asked(bundle: Made, user: Any, query: str) -> None:
    """Keep by which query somebody asked for a bundle, the first time."""
    if user.pk not in dict(_asked(bundle)):
        with bundle.file.with_suffix(".asked").open("a", encoding="utf-8") as file:
            file.write(json.dumps([user.pk, query]) + "\n")


def query_of(bundle: Made, user: Any) -> str | None:
    """The query as this visitor typed it, an operator also as another did; None for everybody else."""
    asked = _asked(bundle)
    own = [query for pk, query in asked if pk == user.pk]
    others = [query for _, query in asked] or [bundle.told.get("query", "")]
    return own[0] if own else others[0] if user.is_staff else None


def _asked(bundle: Made) -> list[tuple[int, str]]:
    try:
        lines = bundle.file.with_suffix(".asked").read_text(encoding="utf-8").splitlines()
        return [(pk, query) for pk, query in map(json.loads, lines)]
    except (OSError, ValueError):
        return []


def make(plan: Plan, progress: Progress) -> Made:
    """The bundle of a plan: as it is there already, or bound now."""
    if found := made(plan.name):
        os.utime(found.file)
        return found
    file = folder() / f"{plan.name}.pdf"
    told = binding.bind(plan, file, progress)
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    _write(file.with_suffix(".sha256"), f"{digest}  {file.name}\n".encode())
    _write(file.with_suffix(".json"), binding.text(told))
    make_room(keep=plan.name)
    found = made(plan.name)
    assert found
    return found


def make_room(keep: str) -> None:
    """Remove those that were not used for longest until the rest fits the cap."""
    for path in [*folder().glob("*.tmp"), *folder().glob("plots/*.tmp")]:  # of a job that was ended
        if time.time() - path.stat().st_mtime > LEFT_S:
            path.unlink(missing_ok=True)
    sizes = {path: path.stat() for path in folder().glob("claimcheck-*.pdf")}
    total = sum(stat.st_size for stat in sizes.values())
    for path in sorted(sizes, key=lambda path: sizes[path].st_mtime):
        if total <= settings.BUNDLES_MIB * 2**20:
            return
        if path.stem != keep:
            total -= sizes[path].st_size
            for ending in (".json", ".sha256", ".asked", ".pdf"):
                path.with_suffix(ending).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.write_bytes(data)
    os.replace(part, path)
