"""Behind a proxy that ends TLS: links, cookies, redirects; and a client that only says that it comes through one."""

import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from jobs.management.commands.up import SECRET, build_services
from tests.installation import ROOT, Installation, eventually, free_port
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("tls")
NAME = "claimcheck.example"
PAGES = (
    "/feeds/works.atom", "/feeds/runs.atom", "/sitemap.xml", "/robots.txt", "/papers/flashattention/",
    "/api/v1/works", "/api/v1/works/flashattention",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An installation with the list and its recorded runs."""
    made = Installation(tmp_path_factory.mktemp("tls"), ALLOWED_HOSTS=f"{NAME},127.0.0.1")
    for command in ("migrate", "load_catalog", "sync_reproductions", "load_records"):
        assert made.manage(command).returncode == 0
    yield made
    made.stop()


def serve(site: Installation, **env: str) -> str:
    """Start a web server with this environment; its address."""
    port, before = free_port(), site.env
    site.env = before | env
    site.start(sys.executable, "-m", "config.serve", f"--listen=127.0.0.1:{port}", log="web")
    site.env = before
    eventually(lambda: answers(f"http://127.0.0.1:{port}/health/live"), "the web server answers", 60)
    return f"http://127.0.0.1:{port}"


def answers(url: str) -> bool:
    try:
        return ask(url)[0] == 200
    except OSError:
        return False


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def ask(url: str, **headers: str) -> tuple[int, str, dict]:
    """(status, text with the headers before it, headers); no redirect is followed."""
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.build_opener(Stay).open(request, timeout=allowed(30))
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, f"{response.headers}\n{response.read().decode(errors='replace')}", response.headers


@pytest.fixture(scope="module")
def web(folder):
    """The address of a site that is told of TLS and of its proxy, and the proxy's."""
    web, port = serve(folder, HTTPS="1"), free_port()
    folder.start(sys.executable, "-m", "tests.site.tls_proxy", str(port), web.rpartition(":")[2], NAME, log="proxy")
    eventually(lambda: answers(f"http://127.0.0.1:{port}/"), "the proxy answers")
    return web, f"http://127.0.0.1:{port}"


def test_links_are_https(web):
    for path in PAGES:
        status, text, _ = ask(web[1] + path)
        assert status == 200 and f"http://{NAME}" not in text and "http://127.0.0.1" not in text, path
        assert f"https://{NAME}" in text or path.startswith(("/papers", "/api")), path


def test_exports_and_crates_link_to_https(web):
    found = [ask(f"{web[1]}/export/{name}/?q=flashattention") for name in ("bibtex", "csl-json", "ris", "markdown")]
    found += [ask(f"{web[1]}/papers/flashattention/", Accept="application/x-bibtex"), ask(f"{web[1]}/api/v1/works")]
    for status, text, _ in found:
        assert f"http://{NAME}" not in text and "http://127.0.0.1" not in text, status
    assert f"https://{NAME}/papers/flashattention/" in ask(web[1] + "/papers/flashattention/")[1]


def test_cookies_stay_on_https_and_browsers_are_told_to(web):
    _, _, headers = ask(web[1] + "/accounts/login/")
    cookies = headers.get_all("Set-Cookie")
    assert cookies and all("; Secure" in cookie for cookie in cookies)
    assert headers["Strict-Transport-Security"] == "max-age=3600"


def test_a_request_that_came_without_tls_is_led_to_it_and_a_probe_is_answered(web):
    for forged in ({}, {"X-Forwarded-Proto": "http"}):
        status, _, headers = ask(web[0] + "/papers/flashattention/", Host=NAME, **forged)
        assert (status, headers["Location"]) == (301, f"https://{NAME}/papers/flashattention/")
    assert [ask(f"{web[0]}/health/{probe}")[0] for probe in ("live", "ready")] == [200, 200]


def test_without_a_proxy_nobody_can_say_that_there_is_one(folder):
    url = serve(folder, LOG_LEVEL="ERROR")
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "evil.example"}
    for headers in (said, {"Forwarded": "for=203.0.113.7;proto=https;host=evil.example"}):
        status, text, answered = ask(url + "/sitemap.xml", Host=NAME, **headers)
        assert status == 200 and f"http://{NAME}/" in text and "https://claimcheck" not in text and "evil" not in text
        assert "Strict-Transport-Security" not in answered


def test_the_deployment_check_is_clean(folder):
    env = {name: value for name, value in folder.env.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"}  # the tests' own
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"], cwd=ROOT,
        env=env | {"HTTPS": "1"}, capture_output=True, text=True, timeout=allowed(60),
    )  # fmt: skip
    assert done.returncode == 0 and "no issues" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"TRUSTED_PROXIES": "one"}, "TRUSTED_PROXIES: expected a whole number, 0 or more, got 'one'"),
        ({"HTTPS": "1", "TRUSTED_PROXIES": "0"}, "TRUSTED_PROXIES: expected at least 1 with HTTPS=1"),
        ({"HTTPS": "1", "HSTS_SECONDS": "-1"}, "HSTS_SECONDS: expected a whole number, 0 or more, got '-1'"),
    ],
)
def test_settings_that_cannot_be_are_one_line(env, said):
    for command in (["manage.py", "up"], ["manage.py", "check"], ["-m", "config.serve", "--listen=127.0.0.1:0"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=os.environ | env, capture_output=True, text=True,
            timeout=allowed(60),
        )  # fmt: skip
        assert done.returncode == 2 and said in done.stderr.splitlines()[-1], done.stderr
        assert "Traceback" not in done.stderr


def test_behind_a_proxy_there_is_no_local_operator(tmp_path, settings):
    settings.DATA_DIR, settings.TRUSTED_PROXIES = tmp_path, 1
    assert all(SECRET not in service.env for service in build_services("127.0.0.1", 8000))


def test_up_behind_a_proxy_prints_no_key(installation):
    installation.env |= {"HTTPS": "1", "ALLOWED_HOSTS": f"{NAME},127.0.0.1"}
    up = installation.start(sys.executable, "manage.py", "up", log="up")
    eventually(lambda: "Claimcheck is at" in up.output.read_text() or up.poll() is not None, "up is there", 120)
    said = up.output.read_text()
    assert f"Claimcheck is at {installation.url}/ (people sign in: manage.py invite" in said
    assert ask(installation.url + "/health/ready")[0] == 200 and ask(installation.url)[0] == 301
