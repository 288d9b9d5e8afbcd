"""Who is the local operator: whoever opened the address that `up` printed, and nobody by what a request lacks."""

import sys
import urllib.error
import urllib.request

import pytest

from jobs.management.commands.up import build_services
from tests.installation import Installation, eventually, free_port
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("up")
HEADERS = (
    "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
    "X-Forwarded-By", "X-Forwarded-Server", "X-Original-Forwarded-For", "X-Real-IP", "X-Client-IP",
    "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP", "X-ProxyUser-IP", "X-Original-URL",
    "X-Rewrite-URL", "Remote-User", "X-Remote-User", "X-Forwarded-User", "X_Forwarded_For", "X-Remote-Addr",
)  # fmt: skip
# The shortest form of a proxy: it says nothing of where a request came from, and asks by the name it was given.
PROXY = """
import sys
from twisted.internet import reactor
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site
site = Site(ReverseProxyResource("127.0.0.1", int(sys.argv[2]), b""))
reactor.listenTCP(int(sys.argv[1]), site, interface="127.0.0.1")
reactor.run()
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A running installation that also answers to a name of its own."""
    made = Installation(
        tmp_path_factory.mktemp("operator"), ALLOWED_HOSTS="localhost,127.0.0.1,claimcheck.example", BIND="127.0.0.1"
    )
    made.up()
    yield made
    made.stop()


def ask(url: str, cookie: str = "", data: bytes | None = None, **headers: str) -> tuple[int, str]:
    """(status, text) for a visitor who has nothing but these headers."""
    request = urllib.request.Request(url, data, headers | ({"Cookie": cookie} if cookie else {}))
    try:
        with urllib.request.build_opener().open(request, timeout=allowed(30)) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def cookie(up: Installation) -> str:
    """What the browser that opened the printed address sends."""
    (found,) = (c for c in up.jar if c.name.startswith("claimcheck-"))
    return f"{found.name}={found.value}"


def is_operator(answer: tuple[int, str]) -> bool:
    status, page = answer
    assert status == 200 and ("local operator" in page) != ("Sign in" in page)
    return "local operator" in page


def test_whoever_opened_the_printed_address_is(up):
    assert is_operator(ask(up.url, cookie(up))) and up.address.startswith(f"{up.url}/enter/?key=")


@pytest.mark.parametrize("value", ["1.2.3.4", "127.0.0.1", "for=127.0.0.1;host=localhost", "local operator", ""])
def test_no_header_makes_a_visitor_one(up, value):
    for header in HEADERS:
        assert not is_operator(ask(up.url, **{header: value})), header
    assert not is_operator(ask(up.url, **dict.fromkeys(HEADERS, value)))


def test_a_visitor_without_any_header_reads_and_is_told_the_way_in(up):
    assert not is_operator(ask(up.url))
    assert ask(up.url + "/papers/flashattention/")[0] == 200
    assert "open the address that <code>manage.py up</code> printed" in ask(up.url + "/accounts/login/")[1]
    for path in ("/papers/flashattention/run/", "/import/", "/admin/auth/user/add/"):
        status, page = ask(up.url + path, data=b"size=smoke&device=cpu")
        assert status == 403, path


@pytest.mark.parametrize("wrong", ["", "x", "0" * 64])
def test_a_wrong_cookie_and_a_wrong_key_open_nothing(up, wrong):
    assert not is_operator(ask(up.url, f"{cookie(up).partition('=')[0]}={wrong}"))
    assert ask(f"{up.url}/enter/?key={wrong}")[0] == 403


def test_the_cookie_opens_nothing_under_another_name(up):
    assert ask(up.url, cookie(up), Host="evil.example")[0] == 400
    assert not is_operator(ask(up.url, cookie(up), Host=f"claimcheck.example:{up.port}"))
    path = up.address.removeprefix(up.url)
    assert ask(up.url + path, Host=f"claimcheck.example:{up.port}")[0] == 403
    for name in ("localhost", "LOCALHOST", "127.0.0.1"):
        assert is_operator(ask(up.url, cookie(up), Host=f"{name}:{up.port}")), name


def test_behind_a_proxy_on_the_same_machine_nobody_is(up, tmp_path):
    port = free_port()
    proxy = up.start(sys.executable, "-c", PROXY, str(port), str(up.port), log="proxy")
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return ask(url)[0] == 200
        except OSError:
            return False

    try:
        eventually(answers, "the proxy answers")
        assert not is_operator(ask(url)) and not is_operator(ask(url, Host="localhost"))
        status, page = ask(f"{url}/admin/auth/user/add/")
        assert "Sign in · Claimcheck" in page and "Save" not in page, "it asks to sign in"
    finally:
        proxy.kill()


def test_only_the_web_server_knows_the_key(up):
    key = up.address.partition("=")[2]
    knowing = [p for p in up.living() if key in str(p.environ()) or key in str(p.cmdline())]
    assert knowing and all("config.serve" in p.cmdline() for p in knowing)
    for log in (up.data / "logs").glob("*.log"):
        assert key not in log.read_text(errors="replace"), log


def test_each_start_has_a_key_of_its_own(monkeypatch, tmp_path, settings):
    settings.DATA_DIR = tmp_path
    monkeypatch.setenv("CLAIMCHECK_LOCAL_SECRET", "of somebody else")
    keys = {web_of("127.0.0.1").get("CLAIMCHECK_LOCAL_SECRET") for _ in range(3)}
    assert len(keys) == 3 and all(len(key) > 40 for key in keys)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_an_address_that_this_machine_alone_hears_offers_it(tmp_path, settings, bind):
    settings.DATA_DIR = tmp_path
    assert "CLAIMCHECK_LOCAL_SECRET" in web_of(bind)
    assert (f"[{bind}]" if ":" in bind else bind) in web_of(bind)["ALLOWED_HOSTS"].split(","), "and answers to its name"


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.1.2.3", "192.168.0.4", "fe80::1", "example.org", "0", "127.1"])
def test_an_address_that_others_hear_does_not(tmp_path, settings, bind):
    settings.DATA_DIR = tmp_path
    assert "CLAIMCHECK_LOCAL_SECRET" not in web_of(bind)
    assert not {"*", "0.0.0.0", "::", "[::]", ""} & set(web_of(bind)["ALLOWED_HOSTS"].split(","))


def web_of(bind: str) -> dict[str, str]:
    """The environment that `up` gives its web server; no other service has a key."""
    services = build_services(bind, 8000)
    assert all("CLAIMCHECK_LOCAL_SECRET" not in one.env for one in services if one.name != "web")
    return next(one.env for one in services if one.name == "web")


def test_another_loopback_address_is_served_as_it_is_printed(installation):
    installation.env["BIND"], installation.url = "127.0.0.2", f"http://127.0.0.2:{installation.port}"
    installation.up()
    assert installation.address.startswith(f"{installation.url}/enter/?key=")
    assert "local operator" in installation.page("/")


def test_an_address_for_everybody_says_how_people_sign_in(installation):
    installation.env["BIND"] = "0.0.0.0"
    process = installation.up()
    assert installation.address == f"{installation.url}/" and "manage.py invite" in process.output.read_text()
    assert not is_operator(ask(installation.url))
    assert "manage.py up" not in ask(installation.url + "/accounts/login/")[1]
