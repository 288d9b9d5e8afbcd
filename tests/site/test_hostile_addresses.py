"""Every address that can be read, with parameters that nobody expects, through the real web server: never a 500."""

import http.client
import sys
import urllib.parse

import pytest
from django.urls import get_resolver

from tests.installation import Installation, eventually, new_database
from tests.site.test_permissions import patterns
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("up")
NAMES = (
    "q", "category", "topic", "year", "from", "to", "author", "code", "stars", "highlight", "kind", "verdict", "device",
    "runnable", "collection", "sort", "page", "works", "a", "b", "ascii", "as", "stale", "theme", "work", "entry",
    "key", "next", "per_page", "limit", "offset", "format", "size", "query",
)  # fmt: skip
DIGITS = ("²", "١٢", "9" * 19, "9" * 5000, "-1", "2022-²", "1e9", "NaN")
OTHERS = ("\0", "\udce9", "%", "<b>'\"", "([*", "..")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(tmp_path_factory, request):
    """A web server alone, with the shipped results, on either database: each refuses what the other takes."""
    env = {}
    if request.param == "postgresql":
        env = {"DATABASE_URL": new_database(request.getfixturevalue("postgres_url"))}
    made = Installation(tmp_path_factory.mktemp("hostile"), **env)
    for command in ("migrate", "load_catalog", "sync_reproductions", "load_records"):
        assert made.manage(command).returncode == 0
    listen = f"--listen=127.0.0.1:{made.port}"
    made.start(sys.executable, "-m", "config.serve", listen, log="web")
    eventually(lambda: made.status("/") == 200, "the web server answers", 60)
    yield made
    made.stop()


def addresses() -> list[str]:
    """Every address of a page, of something that is there where a word or a number is asked for."""
    words = {
        "slug": "flashattention", "pk": "1", "key": "exactness", "format": "bibtex", "index": "0", "form": "svg",
        "name": "attention/flash", "ending": "pdf", "version": "x", "number": "1", "kind": "work", "part": "entries",
        "item": "1", "uidb64": "x", "token": "x",
    }  # fmt: skip
    found = []
    for pattern in patterns(get_resolver()):
        route = str(pattern.pattern)
        for name in pattern.pattern.converters or {}:
            for kind in ("int", "str", "slug", "path", "uuid"):
                route = route.replace(f"<{kind}:{name}>", words.get(name, "1")).replace(
                    f"<{name}>", words.get(name, "1")
                )
        found.append("/" + route.lstrip("^").rstrip("$"))
    described = ["/claims", "/works", "/runs", "/reproductions", "/categories", "/nodes", "/collections", "/bundles"]
    return sorted({*found, *(f"/api/v1{path}" for path in described), "/export/bibtex", "/feeds/runs.atom"})


def ask(site, connection: http.client.HTTPConnection, address: str, names: tuple, value: str) -> int:
    """The status of an address whose parameters all have this value; one of thousands of digits, only some."""
    quoted = urllib.parse.quote(value, safe="", errors="surrogateescape")
    names = names if len(value) < 100 else ("page", "year", "from", "collection", *names)[:5]
    connection.request("GET", f"{address}?{'&'.join(f'{name}={quoted}' for name in names)}")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_no_address_fails_on_what_nobody_expects(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=allowed(60))
    asked = {
        (address, value[:20]): ask(site, connection, address, NAMES, value)
        for address in addresses()
        for value in (*DIGITS[::2], OTHERS[0])
    }
    failed = {key: status for key, status in asked.items() if status >= 500}
    assert {address for address, _ in failed} <= {"/health/"}, failed  # nothing but the web server runs here
    assert {200, 400, 404} <= set(asked.values())


def test_no_parameter_fails_alone(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=allowed(60))
    for name in NAMES:
        for value in (*DIGITS, *OTHERS):
            for address in ("/", "/export/csv") if name in NAMES[:17] else ("/papers/flashattention/", "/runs/compare"):
                assert ask(site, connection, address, (name,), value) < 500, (address, name, value[:40])
