"""Every request to an address that somebody else chose goes through one guard; no other module opens connections."""

import ast
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from catalog import arxiv_client, arxiv_http
from catalog.arxiv_gate import ArxivFailed
from config import outgoing
from tests.catalog.arxiv_server import Paper, serve
from tests.exports.paper_server import serving

ROOT = Path(__file__).resolve().parent.parent
OPENS = ("socket", "ssl", "http.client", "urllib.request", "urllib3", "requests", "httpx", "aiohttp", "ftplib",
         "smtplib", "telnetlib", "websocket", "arxiv", "huggingface_hub", "redis")  # fmt: skip
# What may open connections, or names the exceptions of a library that does, and to where.
MAY = {
    "config/outgoing.py": "the guard",
    "config/embedded.py": "our own web server and Redis, on this machine",
    "catalog/arxiv_http.py": "arXiv, through the guard",
    "catalog/arxiv_client.py": "arXiv, through arxiv_http's session",
    "exports/fetching.py": "papers, through the guard",
    "jobs/health.py": "the operator's Redis",
    "jobs/wake.py": "no connection of its own: knows the errors of Celery's Redis",
    "jobs/management/commands/up.py": "whether our own port is free",
    "jobs/leash.py": "no connection: switches the loopback of a namespace on",
}
NAMES_ITSELF = {"jobs/node.py", "jobs/sweep.py", "jobs/management/commands/worker.py",
                "jobs/management/commands/control.py"}  # fmt: skip


def sources():
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith((".", "tests/", "data/", "build/")):
            yield name, ast.parse(path.read_text())


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if any(name == one or name.startswith(f"{one}.") for one in OPENS)}


def test_no_other_module_opens_connections():
    open_any = {name: imported(tree) for name, tree in sources() if imported(tree)}
    others = {name: found for name, found in open_any.items() if name not in MAY}
    for name in NAMES_ITSELF & others.keys():
        calls = {n.attr for n in ast.walk(ast.parse((ROOT / name).read_text())) if _of_socket(n)}
        assert others.pop(name) == {"socket"} and calls == {"gethostname"}, name
    assert others == {}, "ask through config.outgoing, or say here why not"
    assert MAY.keys() <= open_any.keys()


def _of_socket(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket"


class Counting:
    """A server that nobody but this machine should reach, and what it was asked."""

    def __init__(self):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append(self.path)
                self.send_error(404)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *args):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def arxiv(settings, db):
    with serve(**{"2309.17453": Paper()}) as state:
        settings.ARXIV_API_URL, settings.ARXIV_OAI_URL = f"{state.address}/api/query", f"{state.address}/oai"
        settings.ARXIV_GAP_S = 0
        yield state


INSIDE = ["http://127.0.0.1:{}/x", "http://localhost:{}/x", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest",
          "http://10.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://user:word@example.org/"]  # fmt: skip


@pytest.mark.parametrize("target", INSIDE)
def test_where_arxiv_leads_is_held_to_the_guard(arxiv, target):
    """Metadata and licences alike: the operator named the server that redirects, and nobody the one it leads to."""
    with Counting() as inside:
        arxiv.moved_to = target.format(inside.port)
        for ask in (
            lambda: list(arxiv_client.metadata(["2309.17453"], 5)),
            lambda: arxiv_client.licence("2309.17453", 5),
        ):
            arxiv.faults = ["elsewhere"]
            with pytest.raises(ArxivFailed):
                ask()
        assert inside.seen == [] and len(arxiv.seen) == 2, "neither asked elsewhere nor tried again"


def test_the_operators_own_mirror_may_lead_to_itself(arxiv):
    arxiv.faults = ["moved"]
    assert [found.arxiv_id for found in arxiv_client.metadata(["2309.17453"], 5)] == ["2309.17453"]


def test_proxies_and_passwords_of_the_environment_are_not_used(arxiv, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Counting() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert arxiv_client.licence("2309.17453", 5) and proxy.seen == []


def test_arxivs_own_name_is_trusted_by_nobody(settings, db, monkeypatch):
    settings.ARXIV_GAP_S = 0
    monkeypatch.setattr(outgoing, "resolve", lambda host, port: ["10.0.0.7"])
    with pytest.raises(ArxivFailed, match="10.0.0.7, which is no public address"):
        arxiv_http.session(5).get("https://export.arxiv.org/api/query?id_list=1")


def test_the_operators_mirror_of_papers_is_asked_for_its_papers_alone(settings, tmp_path, db):
    from exports import fetching

    with serving() as mirror:
        settings.ARXIV_PDF_URL, settings.ARXIV_GAP_S = f"{mirror.address}/pdf", 0.01
        settings.FETCH_TEST_SERVER = ""
        mirror.files = {"/pdf/2309.17453": b"%PDF-1.5", "/admin.pdf": b"%PDF-1.5"}
        fetching.download(f"{mirror.address}/pdf/2309.17453", tmp_path / "a.part", 1000)
        with pytest.raises(fetching.NotFetched):
            fetching.download(f"{mirror.address}/admin.pdf", tmp_path / "b.part", 1000)
        assert [seen.path for seen in mirror.seen] == ["/pdf/2309.17453"]
