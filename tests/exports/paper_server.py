"""A local server of PDFs that breaks off, redirects, changes and refuses on demand."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Seen:
    path: str
    range: str
    agent: str
    began: float


@dataclass
class Server:
    """`files` by path. `faults` are taken one a request: a status, "cut", "no length", or where to redirect to."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"http://{self.place}"


@contextmanager
def serving() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.seen.append(Seen(self.path, asked, self.headers.get("User-Agent", ""), time.monotonic()))
            fault = state.faults.pop(0) if state.faults else None
            if isinstance(fault, str) and fault not in ("cut", "no length"):
                self.send_response(302)
                self.send_header("Location", fault)
                self.end_headers()
                return
            body = state.files.get(self.path)
            if isinstance(fault, int) or body is None:
                self.send_response(fault if isinstance(fault, int) else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            tag = f'"{hashlib.md5(body).hexdigest()}"'
            begin = 0
            if asked and self.headers.get("If-Range") == tag:
                begin = int(asked.removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("ETag", tag)
            if fault != "no length":
                self.send_header("Content-Length", str(len(body) - begin))
            self.end_headers()
            part = body[begin:]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(part[: len(part) // 2] if fault == "cut" else part)

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
