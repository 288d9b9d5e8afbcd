"""Fetching papers: politely, resumably, never from a machine that is not on the public internet (config.outgoing).

arXiv is asked at export.arxiv.org, in the same line as for metadata (`catalog.arxiv_gate`); others wait there too.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import urllib3
from django.conf import settings

from catalog.arxiv_gate import check_frozen, freeze, turn
from catalog.arxiv_http import PATIENT_S, TIMEOUT_S, USER_AGENT, gap_s, retry_after_s
from catalog.models import Work
from config import clock, outgoing
from config.http import whole_number

HOPS, TRIES = 5, 4
WHOLE_S = 150  # of one answer, less than the gate's lease; what has come by then is kept
PIECE = 64 * 1024


class NotFetched(Exception):
    """A paper did not come; the message is one line for people."""


class _Again(Exception):
    """A try that failed in a way that another may not."""


def folder() -> Path:
    """Where papers lie."""
    return settings.DATA_DIR / "papers"


def name(work: Work) -> str:
    """What its file is called: arXiv id and version, or the slug."""
    if not work.arxiv_id:
        return work.slug
    return work.arxiv_id.replace("/", "_") + (f"v{work.arxiv_version}" if work.arxiv_version else "")


def address(work: Work) -> str:
    """Where its PDF is. NotFetched if no address is known to be one."""
    if work.arxiv_id:
        version = f"v{work.arxiv_version}" if work.arxiv_version else ""
        return f"{settings.ARXIV_PDF_URL}/{work.arxiv_id}{version}"
    links = [link.url for entry in work.entries.all() for link in entry.links.all() if link.role == "paper"]
    for url in (work.url, *links):
        if urlsplit(url).path.lower().endswith(".pdf"):
            return url
    raise NotFetched("no address of a PDF is known")


def download(url: str, part: Path, largest: int) -> None:
    """The whole of an address into `part`, going on where an earlier try stopped. NotFetched or ArxivFailed if not."""
    with _alone(part):
        for tried in range(TRIES):
            try:
                return _follow(url, part, largest, tried)
            except _Again as again:
                said = str(again)
        raise NotFetched(f"{said}, {TRIES} times over")


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NotFetched("another process is fetching it") from None
        yield


def _trusted(url: str) -> frozenset[str]:
    """Sites that are asked wherever they are: where the operator says that arXiv's PDFs lie, for those alone."""
    ours = url.startswith(f"{settings.ARXIV_PDF_URL}/")
    return outgoing.named(*([settings.ARXIV_PDF_URL] if ours else []))


def checked_url(url: str, trusted: frozenset[str] = frozenset()) -> str:
    """The address to ask, at arXiv that of its mirror for programs; NotFetched if it may not be asked."""
    try:
        url = outgoing.checked_url(url, trusted)
    except outgoing.NotPublic as refused:
        raise NotFetched(str(refused)) from None
    parts = urlsplit(url)
    if parts.hostname in ("arxiv.org", "www.arxiv.org"):
        return urlunsplit(("https", "export.arxiv.org", parts.path, parts.query, ""))
    return url


def _follow(url: str, part: Path, largest: int, tried: int) -> None:
    """Ask, and where it leads elsewhere ask there; each step is checked and waits its turn."""
    trusted = _trusted(url)
    for _ in range(HOPS):
        url = checked_url(url, trusted)
        check_frozen()
        with turn(gap_s(url), PATIENT_S) as held:
            calm_s, held.pause_s = held.pause_s, held.pause_s * 2 ** (tried + 1)  # kept if this fails
            client = outgoing.client(trusted)
            try:
                target = _ask(client, url, part, largest, held)
            finally:
                client.clear()
            held.pause_s = calm_s
        if not target:
            return
        url = urljoin(url, target)
    raise NotFetched(f"it leads elsewhere more than {HOPS} times")


def _ask(client: Any, url: str, part: Path, largest: int, held: Any) -> str:
    """One request; where it leads to, or nothing once all is there."""
    begin, tag = _so_far(part, url)
    headers = {"User-Agent": USER_AGENT, "Accept": "application/pdf", "Accept-Encoding": "identity"}
    if begin:
        headers |= {"Range": f"bytes={begin}-", "If-Range": tag}
    try:
        answer = client.request("GET", url, headers=headers, redirect=False, preload_content=False,
                                timeout=urllib3.Timeout(*TIMEOUT_S))  # fmt: skip
        try:
            if answer.status in (301, 302, 303, 307, 308) and (target := answer.headers.get("Location")):
                return target
            _judge(answer, url, part, held)
            _write(answer, url, part, largest, begin if answer.status == 206 else 0)
        finally:
            answer.close()
    except outgoing.NotPublic as refused:
        raise NotFetched(str(refused)) from None
    except outgoing.NoAnswer as silent:
        raise _Again(str(silent)) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Again(f"{urlsplit(url).hostname}: {type(error).__name__}") from None
    return ""


def _judge(answer: Any, url: str, part: Path, held: Any) -> None:
    """Whether the answer is the file or a part of it."""
    status, host = answer.status, urlsplit(url).hostname or ""
    if status == 403 and (host.endswith("arxiv.org") or url.startswith(settings.ARXIV_PDF_URL)):
        freeze(f"arXiv refused a request (403) on {clock.now():%Y-%m-%d at %H:%M} UTC")
        check_frozen()
    if status == 416:
        part.unlink(missing_ok=True)
        raise _Again("it is shorter than it was")
    if status == 429 or status >= 500:
        held.pause_s = max(held.pause_s, retry_after_s(answer.headers, held.pause_s))
        raise _Again(f"{host} answered with status {status}")
    if status not in (200, 206):
        raise NotFetched(f"{host} answered with status {status}")


def _so_far(part: Path, url: str) -> tuple[int, str]:
    """How many bytes are there, and the tag of what they are of; (0, "") to begin anew."""
    try:
        known = json.loads(part.with_suffix(".tag").read_text())
        size = part.stat().st_size
    except (OSError, ValueError):
        return 0, ""
    return (size, known["tag"]) if known["url"] == url and size else (0, "")


def _write(answer: Any, url: str, part: Path, largest: int, begin: int) -> None:
    """The body, appended or anew; too much of it is refused as soon as that is known."""
    if answer.status == 206 and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {begin}-"):
        part.unlink(missing_ok=True)
        raise _Again("another part came than was asked for")
    announced = answer.headers.get("Content-Length", "")
    length = whole_number(announced, high=2**63 - 1)
    total = None if length is None else begin + length
    if total is not None and total > largest:
        raise NotFetched(f"it has {total / 2**20:.0f} MiB, more than the {largest // 2**20} that are fetched")
    tag = answer.headers.get("ETag", "")
    part.with_suffix(".tag").unlink(missing_ok=True)
    if tag and not tag.startswith("W/"):
        part.with_suffix(".tag").write_text(json.dumps({"url": url, "tag": tag}))
    began, size = time.monotonic(), begin
    with part.open("ab" if begin else "wb") as out:
        while piece := answer.read1(PIECE, decode_content=False):
            size += len(piece)
            if size > largest:
                out.truncate(0)
                raise NotFetched(f"it has more than the {largest // 2**20} MiB that are fetched")
            out.write(piece)
            if time.monotonic() - began > WHOLE_S:
                raise _Again(f"not complete after {WHOLE_S} s")
    if total is not None and size != total:
        raise _Again("it broke off")
