"""How every request to arXiv travels: in its turn, the same once a day, again after a 503, never after a 403.

An adapter for `requests`, so that the package `arxiv` and our own requests go the same way, redirects included.
"""

import hashlib
import io
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from django.conf import settings
from lxml import etree

from catalog.arxiv_gate import ArxivFailed, check_frozen, freeze, turn
from catalog.models import ArxivAnswer
from config import clock, outgoing
from config.http import whole_number

USER_AGENT = "Claimcheck/0.1 (a self-hosted list of papers; python-requests)"
REMEMBERED = timedelta(days=1)
TIMEOUT_S = (10, 30)  # to connect, and for each piece
WHOLE_S = 60  # for all pieces together
LIMIT = 20 * 2**20  # bytes of one answer
TRIES = 3
ARXIV_GAP_S = 3.0  # arXiv's own terms
PATIENT_S, HURRIED_S = 900.0, 25.0  # how long a command, and how long a page waits for its turn
ATOM = "{http://www.w3.org/2005/Atom}"
SEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"


class _Again(Exception):
    """A try that failed in a way that another may not."""


def session(patience_s: float) -> requests.Session:
    """A session that waits for the turn of each request, up to `patience_s`; ArxivFailed says why it gave up."""
    made = requests.Session()
    made.trust_env = False  # no proxy, and no password for a site, of the environment
    made.mount("https://", Polite(patience_s))
    made.mount("http://", Polite(patience_s))
    made.max_redirects = 3
    return made


def gap_s(url: str) -> float:
    """The pause after a request; arXiv's own servers always get theirs."""
    host = urlsplit(url).hostname or ""
    return max(ARXIV_GAP_S, settings.ARXIV_GAP_S) if host.endswith("arxiv.org") else settings.ARXIV_GAP_S


class Polite(outgoing.Guarded):
    """One connection at a time, to the public web or the operator's own mirror, paced with all other processes."""

    def __init__(self, patience_s: float) -> None:
        super().__init__(outgoing.named(settings.ARXIV_API_URL, settings.ARXIV_OAI_URL), max_retries=0)
        self.patience_s = patience_s

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The remembered answer, or a new one."""
        url = request.url or ""
        request.headers["User-Agent"] = USER_AGENT
        kwargs |= {"stream": True, "timeout": TIMEOUT_S}
        if (known := _remembered(url)) is not None:
            return _response(request, 200, known)
        for tried in range(TRIES):
            try:
                return self._once(request, tried, *args, **kwargs)
            except _Again as again:
                said = str(again)
        raise ArxivFailed(f"arXiv did not answer properly, {TRIES} times over: {said}")

    def _once(self, request: requests.PreparedRequest, tried: int, *args: Any, **kwargs: Any) -> requests.Response:
        url = request.url or ""
        with turn(gap_s(url), self.patience_s) as held:
            if (known := _remembered(url)) is not None:  # another process has asked while this one waited
                held.pause_s = 0
                return _response(request, 200, known)
            later_s = held.pause_s * 2 ** (tried + 1)  # after a failure that names no time itself
            try:
                answer = super().send(request, *args, **kwargs)
                body = _read(answer)
            except outgoing.NotPublic as refused:
                raise ArxivFailed(f"arXiv's answer leads elsewhere: {refused}") from None
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, outgoing.NoAnswer) as error:
                held.pause_s = later_s
                raise _Again(_cause(error)) from None
            status = answer.status_code
            if status == 403:
                freeze(f"arXiv refused a request (403) on {clock.now():%Y-%m-%d at %H:%M} UTC")
                check_frozen()
            if status == 429 or status >= 500:
                held.pause_s = max(held.pause_s, retry_after_s(answer.headers, later_s))
                raise _Again(f"status {status}")
            if status == 200:
                if fault := _fault(body):
                    held.pause_s = later_s
                    raise _Again(fault)
                _remember(url, body)
            elif status not in (301, 302, 303, 307, 308):
                raise ArxivFailed(f"arXiv answered with status {status}: {_said(body)}")
            return _response(request, status, body, answer.headers)


def _read(answer: requests.Response) -> bytes:
    """The whole body; what comes too slowly or is too large is an error."""
    began, pieces, size = time.monotonic(), [], 0
    try:
        while piece := answer.raw.read1(64 * 1024, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > LIMIT:
                raise requests.RequestException(f"more than {LIMIT:,} bytes")
            if time.monotonic() - began > WHOLE_S:
                raise requests.Timeout(f"not complete after {WHOLE_S} s")
    finally:
        answer.close()
    return b"".join(pieces)


def parse(body: bytes) -> etree._Element:
    """The root of an XML document that may come from anybody; etree.XMLSyntaxError if it is none."""
    return etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))


def _fault(body: bytes) -> str:
    """What is wrong with an answer that came with status 200; empty if nothing is."""
    try:
        root = parse(body)
    except etree.XMLSyntaxError as error:
        return f"malformed XML ({' '.join(str(error).split())[:120]})"
    if root.tag == f"{ATOM}feed":
        names = ("totalResults", "startIndex")
        total, start = (whole_number(root.findtext(f"{SEARCH}{name}") or "0") for name in names)
        if root.find(f"{ATOM}entry") is None and total is not None and start is not None and total > start:
            return f"an empty page, although there are {total} results"
    return ""


def _said(body: bytes) -> str:
    """What an error page of the API says, in one line."""
    try:
        root = parse(body)
    except etree.XMLSyntaxError:
        return "no reason was given"
    return " ".join((root.findtext(f"{ATOM}entry/{ATOM}summary") or "no reason was given").split())[:200]


def retry_after_s(headers: Any, otherwise: float) -> float:
    """Seconds that an answer asks us to wait, a day at most.

    Of a Retry-After that is a date they count from when the answer says it was sent: its server's clock is not ours.
    """
    text = headers.get("Retry-After", "")
    if (seconds := whole_number(text, high=10**18)) is not None:
        return min(float(seconds), REMEMBERED.total_seconds())
    try:
        sent = parsedate_to_datetime(headers["Date"]) if headers.get("Date") else clock.now()
        asked = (parsedate_to_datetime(text) - sent).total_seconds()
        return min(max(0.0, asked), REMEMBERED.total_seconds())
    except (ValueError, TypeError):
        return otherwise


def _cause(error: Exception) -> str:
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "it was too slow"
    if isinstance(error, requests.ConnectionError | outgoing.NoAnswer):
        return "no connection"
    return type(error).__name__ if not str(error) else str(error)[:120]


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _remembered(url: str) -> bytes | None:
    since = clock.now() - REMEMBERED
    known = ArxivAnswer.objects.filter(digest=_digest(url), at__gt=since).first()
    return bytes(known.body) if known else None


def _remember(url: str, body: bytes) -> None:
    now = clock.now()
    ArxivAnswer.objects.filter(at__lte=now - REMEMBERED).delete()
    fields = {"url": url, "body": body, "at": now}
    ArxivAnswer.objects.update_or_create(digest=_digest(url), defaults=fields)


def _response(request: requests.PreparedRequest, status: int, body: bytes, headers: Any = None) -> requests.Response:
    made = requests.Response()
    made.status_code, made.url, made.request = status, request.url or "", request
    made.headers.update({k: v for k, v in (headers or {}).items() if k.lower() == "location"})
    made.raw = io.BytesIO(body)
    return made
