"""A local server that speaks arXiv's protocols, the Atom API with paging and OAI-PMH, and fails on demand."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

BY = "http://creativecommons.org/licenses/by/4.0/"
ATOM = (
    '<?xml version="1.0" encoding="UTF-8"?><feed xmlns="http://www.w3.org/2005/Atom" '
    'xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom">'
    "<id>http://127.0.0.1/q</id><title>arXiv Query</title><updated>2026-01-01T00:00:00Z</updated>"
)
OAI = '<?xml version="1.0" encoding="UTF-8"?><OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/">'


@dataclass
class Paper:
    """What the server knows of one paper."""

    title: str = "A paper"
    version: int = 1
    authors: tuple[str, ...] = ("Ann Author", "Bob Böse")
    abstract: str = "We show\n  something small & new."
    comment: str = ""
    journal_ref: str = ""
    doi: str = ""
    licence: str = BY


@dataclass
class Seen:
    """One request: when it came and was answered, in seconds, and what it said."""

    began: float
    path: str
    agent: str
    ended: float = 0.0


@dataclass
class Arxiv:
    """The server's state. `faults` are taken one a request, in order: a name below, or (status, Retry-After)."""

    papers: dict[str, Paper] = field(default_factory=dict)
    faults: list = field(default_factory=list)
    page: int = 2000
    seen: list[Seen] = field(default_factory=list)
    address: str = ""
    moved_to: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {"ARXIV_API_URL": f"{self.address}/api/query", "ARXIV_OAI_URL": f"{self.address}/oai"}

    def entry(self, number: str) -> str:
        paper = self.papers[number]
        optional = "".join(
            f"<arxiv:{name}>{escape(value)}</arxiv:{name}>"
            for name, value in (("comment", paper.comment), ("journal_ref", paper.journal_ref), ("doi", paper.doi))
            if value
        )
        authors = "".join(f"<author><name>{escape(name)}</name></author>" for name in paper.authors)
        return (
            f"<entry><id>http://arxiv.org/abs/{number}v{paper.version}</id><updated>2024-02-03T10:00:00Z</updated>"
            f"<published>2023-09-29T17:59:46Z</published><title>{escape(paper.title)}</title>"
            f"<summary>{escape(paper.abstract)}</summary>{authors}{optional}"
            f'<link href="http://arxiv.org/pdf/{number}" rel="related" type="application/pdf" title="pdf"/>'
            '<arxiv:primary_category term="cs.LG"/><category term="cs.LG"/><category term="cs.CL"/></entry>'
        )

    def api(self, query: dict[str, str]) -> str:
        ids = query.get("id_list", "").split(",")
        found = [number for number in ids if number in self.papers]
        start, size = int(query.get("start", 0)), min(int(query.get("max_results", 10)), self.page)
        entries = "".join(self.entry(number) for number in found[start : start + size])
        numbers = f"<opensearch:totalResults>{len(found)}</opensearch:totalResults>"
        numbers += f"<opensearch:startIndex>{start}</opensearch:startIndex>"
        return f"{ATOM}{numbers}<opensearch:itemsPerPage>{size}</opensearch:itemsPerPage>{entries}</feed>"

    def oai(self, query: dict[str, str]) -> str:
        assert query["verb"] == "GetRecord" and query["metadataPrefix"] == "arXiv"
        number = query["identifier"].removeprefix("oai:arXiv.org:")
        if number not in self.papers:
            return f'{OAI}<error code="idDoesNotExist">nothing</error></OAI-PMH>'
        licence = self.papers[number].licence
        stated = f"<license>{licence}</license>" if licence else ""
        return (
            f"{OAI}<GetRecord><record><header><identifier>{query['identifier']}</identifier></header><metadata>"
            f'<arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>{number}</id>{stated}</arXiv>'
            "</metadata></record></GetRecord></OAI-PMH>"
        )


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    arxiv: Arxiv

    def log_message(self, *args) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.seen = seen = Seen(time.monotonic(), self.path, self.headers.get("User-Agent", ""))
        self.arxiv.seen.append(seen)
        try:
            self.answer(self.arxiv.faults.pop(0) if self.arxiv.faults else None)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        seen.ended = seen.ended or time.monotonic()

    def answer(self, fault) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        text = (self.arxiv.api if parts.path == "/api/query" else self.arxiv.oai)(query)
        if fault is None:
            self.send(200, text)
        elif isinstance(fault, tuple):
            status, retry_after = fault
            self.send(status, "<html>wait", {"Retry-After": retry_after} if retry_after else {})
        elif fault == "malformed":
            self.send(200, text[: len(text) * 2 // 3])
        elif fault == "empty":
            self.send(200, text[: text.index("<entry>")] + "</feed>")
        elif fault == "moved":
            self.send(301, "", {"Location": f"{self.arxiv.address}{self.path}&moved=1"})
        elif fault == "elsewhere":
            self.send(302, "", {"Location": self.arxiv.moved_to})
        elif fault == "bad-request":
            entry = "<id>http://arxiv.org/api/errors#x</id><title>Error</title><summary>incorrect id format</summary>"
            self.send(400, f"{ATOM}<entry>{entry}</entry></feed>")
        elif fault == "slow":
            time.sleep(1.5)
            self.send(200, text)
        elif fault == "drips":
            self.send_response(200)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            for byte in text.encode()[:40]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.1)
            self.close_connection = True
        elif fault == "reset":
            self.close_connection = True
            self.connection.close()
        else:
            raise AssertionError(fault)

    def send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.seen.ended = time.monotonic()  # not later: the client may be done before this thread goes on
        self.send_response(status)
        for name, value in ({"Content-Type": "application/atom+xml", **(headers or {})}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve(**papers: Paper) -> Iterator[Arxiv]:
    """A running server; its papers can be changed at any time."""
    state = Arxiv(dict(papers))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"arxiv": state}))
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
