"""This installation's copies of papers, in DATA_DIR/papers: which there are, what is wrong with one, how many fit.

A copy is called by arXiv id and version, `2309.17453v4.pdf`, or as an operator may put one there: `2309.17453.pdf`,
`SLUG.pdf`. Each is checked once, in a process of its own with little memory and time, so that a hostile one takes down
nothing else; `NAME.json` beside it keeps what was found. Only copies that were fetched are removed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

from catalog import licences
from catalog.arxiv_gate import ArxivFailed
from catalog.models import Work
from exports import examine, fetching
from exports.binding import Progress
from exports.bundle_plan import PUBLIC, REPORT, Paper, Plan
from jobs.leash import leashed

LARGEST_MIB = 100  # a file that is larger is not bound
MEMORY_MIB = 512  # that checking one copy may take
WHOLE_S = 1800  # of checking one, on a machine however busy; of a core it may take exports.examine.CPU_S
RULES = 2  # raised when copies are checked otherwise, so that those of an earlier version are looked at again
HEAD = 1024  # bytes among which the mark of a PDF must be
STALE_S = 7 * 86400  # a download that stopped so long ago is given up
Fetch = Callable[[Work, set[Path]], Path]


def folder() -> Path:
    """Where they lie; it is made if it is not there."""
    path = fetching.folder()
    path.mkdir(parents=True, exist_ok=True)
    return path


def put_in(plan: Plan, fetch: Fetch | None, progress: Progress) -> None:
    """Give each work of the plan its paper, or the reason why it has none. `fetch` gets one that is not there."""
    if plan.kind == REPORT:
        return
    works = {work.slug: work for work in Work.objects.for_list().filter(slug__in=[item.slug for item in plan.items])}
    bound: dict[str, str] = {}
    keep: set[Path] = set()
    for done, item in enumerate(plan.items):
        progress("fetching the papers" if fetch else "looking at the papers", done, len(plan.items))
        item.paper, item.stub = find(works[item.slug], plan.kind, fetch, keep)
        if item.paper and item.paper.sha256 in bound:
            item.stub = f"its file is the very same as that of “{bound[item.paper.sha256]}”, and is bound there."
            item.paper = None
        elif item.paper:
            bound[item.paper.sha256] = item.title
            keep.add(folder() / item.paper.file)


def find(work: Work, kind: str, fetch: Fetch | None, keep: set[Path]) -> tuple[Paper | None, str]:
    """The paper and no reason, or no paper and the reason."""
    if kind == PUBLIC and (reason := unlicensed(work)):
        return None, reason
    path = copy_of(work, exactly=kind == PUBLIC)
    if path is None and fetch:
        try:
            path = fetch(work, keep)
        except (fetching.NotFetched, ArxivFailed) as error:
            return None, f"it could not be fetched: {error}."
    if path is None:
        return None, "this installation has no copy of it."
    known = checked(path)
    if known["reason"]:
        return None, known["reason"]
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    version = found[1] if (found := re.search(r"v(\d+)\.pdf$", path.name)) and work.arxiv_id else ""
    return Paper(path.name, known["pages"], known["sha256"], version, known["size"], known["notes"]), ""


def unlicensed(work: Work) -> str:
    """Why its PDF may not be passed on; empty if it may."""
    if work.withdrawn:
        return "its authors have withdrawn it."
    if not work.licence:
        return "its licence is not known here, so it may not be passed on."
    if not licences.may_pass_on(work.licence):
        return f"its licence, {work.licence_name}, does not permit passing it on."
    if work.licence_version != work.arxiv_version:
        return f"its licence is known for version {work.licence_version} only, and the newest is {work.arxiv_version}."
    return ""


def copy_of(work: Work, *, exactly: bool) -> Path | None:
    """Its newest copy; `exactly`: only that of the version that the licence is known for."""
    names = [f"{fetching.name(work)}.pdf"]
    if not exactly:
        if work.arxiv_id:
            plain = work.arxiv_id.replace("/", "_")
            others = [path.name for path in folder().glob(f"{plain}v*.pdf")]
            names += [f"{plain}.pdf", *sorted(others, key=_version, reverse=True)]
        names.append(f"{work.slug}.pdf")
    return next((folder() / name for name in names if (folder() / name).is_file()), None)


def _version(name: str) -> int:
    found = re.search(r"v(\d+)\.pdf$", name)
    return int(found[1]) if found else 0


def checked(path: Path) -> dict[str, Any]:
    """pages, sha256, size, notes and reason (empty, or why it cannot be bound) of a copy, until it or RULES change."""
    stat, side = path.stat(), path.with_suffix(".json")
    try:
        known = json.loads(side.read_text())
    except (OSError, ValueError):
        known = {}
    if (known.get("size"), known.get("changed"), known.get("rules")) == (stat.st_size, stat.st_mtime_ns, RULES):
        return known
    return _remember(side, known | _found(path))


def _found(path: Path) -> dict[str, Any]:
    stat, told = path.stat(), look(path)
    with path.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest() if not told["reason"] else ""
    return told | {"sha256": digest, "size": stat.st_size, "changed": stat.st_mtime_ns, "rules": RULES}


def _remember(side: Path, known: dict[str, Any]) -> dict[str, Any]:
    part = side.with_name(f"{side.name}.{os.getpid()}.tmp")
    part.write_text(json.dumps(known))
    os.replace(part, side)
    return known


def look(path: Path) -> dict[str, Any]:
    """pages, notes, and the reason why a file cannot be bound: a whole sentence's end, empty if it can."""
    if reason := _at_a_glance(path):
        return {"pages": 0, "notes": [], "reason": reason}
    command = leashed([sys.executable, "-m", "exports.examine", str(path.resolve())], MEMORY_MIB * 2**20, offline=True)
    env = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ}
    try:
        done = subprocess.run(command, capture_output=True, env=env, cwd=settings.BASE_DIR, timeout=WHOLE_S)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):  # it was ended, by its limits or by a fault of the reader
        reason = f"its file cannot be read with {MEMORY_MIB} MiB of memory and {examine.CPU_S} s of a core."
        return {"pages": 0, "notes": [], "reason": reason}


def _at_a_glance(path: Path) -> str:
    """Why a file is no PDF that is worth opening; empty if it may be one."""
    size = path.stat().st_size
    if size > LARGEST_MIB * 2**20:
        return f"its file has {size / 2**20:.0f} MiB, more than the {LARGEST_MIB} that are bound."
    with path.open("rb") as data:
        head = data.read(HEAD)
    if b"%PDF-" in head:
        return ""
    if re.search(rb"<(!doctype|html|head|body)", head, re.IGNORECASE):
        return "its file is a web page, not a PDF."
    return "its file is empty." if not head else "its file is not a PDF."


def fetch(work: Work, keep: set[Path]) -> Path:
    """Its PDF, fetched and looked at; `keep` are files that must stay. NotFetched or ArxivFailed says why not."""
    url, file = fetching.address(work), folder() / f"{fetching.name(work)}.pdf"
    part = file.with_suffix(".part")
    room = make_room(LARGEST_MIB * 2**20, keep)
    if room < 2**20:
        raise fetching.NotFetched("there is no room for it in PAPERS_MIB or on the disk")
    fetching.download(url, part, min(room, LARGEST_MIB * 2**20))
    known = _found(part)
    reason = known["reason"] or ("it broke off." if known["notes"] and not _ends(part) else "")
    part.with_suffix(".tag").unlink(missing_ok=True)
    part.with_suffix(".lock").unlink(missing_ok=True)
    if reason:
        part.unlink()
        raise fetching.NotFetched(f"what came is no use, {reason.rstrip('.')}")
    _remember(file.with_suffix(".json"), known | {"fetched": url})
    os.replace(part, file)
    return file


def _ends(path: Path) -> bool:
    """Whether a file has the end of a PDF: one that lacks it came only in part."""
    with path.open("rb") as data:
        data.seek(-min(path.stat().st_size, HEAD), os.SEEK_END)
        return b"%%EOF" in data.read()


def make_room(wanted: int, keep: set[Path]) -> int:
    """Bytes that may be taken; fetched copies that were not used for longest go until `wanted` fit, if they can."""
    _give_up()
    held = {path: path.stat() for path in [*folder().glob("*.pdf"), *folder().glob("*.part")]}
    total = sum(stat.st_size for stat in held.values())
    free = shutil.disk_usage(folder()).free - settings.FREE_DISK_MIB * 2**20
    for path in sorted(held, key=lambda path: held[path].st_atime_ns):
        if settings.PAPERS_MIB * 2**20 - total >= wanted:
            break
        if path in keep or not _was_fetched(path):
            continue
        total -= held[path].st_size
        free += held[path].st_size
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
    return min(settings.PAPERS_MIB * 2**20 - total, free)


def _was_fetched(path: Path) -> bool:
    try:
        return path.suffix == ".pdf" and "fetched" in json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return False


def _give_up() -> None:
    """Downloads that stopped long ago."""
    for path in folder().glob("*.part"):
        if time.time() - path.stat().st_mtime > STALE_S:
            for ending in (".part", ".tag", ".lock"):
                path.with_suffix(ending).unlink(missing_ok=True)
