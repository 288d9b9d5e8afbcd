"""The brake on guessing and the audit log, through the real web server: everything that opens something is tried."""

import http.client
import re
import sqlite3
import sys
import urllib.parse
import uuid

import pytest

from tests.installation import Installation, eventually, free_port
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("up")
WRONG, PASSWORD = "wrong-battery-staple", f"horse-{uuid.uuid4().hex}"
PEOPLE = """
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
hashed = make_password({password!r})  # once: it is slow on purpose
for name in {reader} + {operator}:
    staff = name in {operator}
    User.objects.create(username=name, password=hashed, is_staff=staff, is_superuser=staff)
"""


class Visitor:
    """A browser at an address of its own: connections come from 127.0.0.N, which is what the server sees."""

    def __init__(self, port: int, source: str, **headers: str):
        self.port, self.source, self.headers, self.cookies = port, source, headers, {}

    def ask(self, path: str, data: dict | None = None, **headers: str) -> tuple[int, dict, str]:
        """(status, headers, text); with `data` a form is sent."""
        body = None if data is None else urllib.parse.urlencode(data)
        sent = self.headers | {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} | headers
        if body is not None:
            sent |= {"Content-Type": "application/x-www-form-urlencoded"}
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=allowed(60), source_address=(self.source, 0)
        )
        connection.request("GET" if body is None else "POST", path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        connection.close()
        return answer.status, dict(answer.headers), text

    def form(self, path: str, data: dict, of: str = "") -> tuple[int, dict, str]:
        """Send a form with the token that the page `of` carries, or the page itself."""
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.ask(of or path)[2])
        return self.ask(path, data | {"csrfmiddlewaretoken": found.group(1)})

    def sign_in(self, name: str, password: str, path: str = "/accounts/login/") -> tuple[int, dict, str]:
        """As the page does it."""
        return self.form(path, {"username": name, "password": password}, of="/accounts/login/")


class Site(Installation):
    """An installation whose one process is the web server, on an address that every visitor's connection shows."""

    def visitor(self, source: str, **headers: str) -> Visitor:
        return Visitor(self.port, source, **headers)

    def serve(self, port: int, **env: str) -> None:
        """A web process; all of them share the database."""
        kept, self.env = self.env, self.env | env
        self.start(sys.executable, "-m", "config.serve", f"--listen=127.0.0.1:{port}", log="web")
        self.env = kept
        eventually(lambda: answers(port), "the web server answers")

    def person(self, role: str = "reader") -> tuple[str, str]:
        """An account that no other test has, and its password."""
        return self.people[role].pop(), PASSWORD

    def invite(self, name: str, *roles: str) -> str:
        done = self.manage("invite", name, *roles)
        assert done.returncode == 0, done.stderr
        return urllib.parse.urlparse(done.stdout.strip()).path

    def accept(self, visitor: Visitor, link: str, password: str) -> int:
        status, headers, _ = visitor.ask(link)
        assert status == 302
        return visitor.form(headers["Location"], {"new_password1": password, "new_password2": password})[0]

    def audit(self, *columns: str, **where: str) -> list[tuple]:
        """Rows of the audit log as the database has them, the oldest first."""
        words = " AND ".join(f"{name} = ?" for name in where) or "1"
        sql = f"SELECT {', '.join(columns) or '*'} FROM readers_auditrecord WHERE {words} ORDER BY id"
        connection = sqlite3.connect(self.data / "db.sqlite3")
        try:
            return connection.execute(sql, list(where.values())).fetchall()
        finally:
            connection.close()


def answers(port: int) -> bool:
    try:
        return Visitor(port, "127.0.0.1").ask("/health/live")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The database and two web processes, shared by the tests below: each has accounts and addresses of its own."""
    made = Site(tmp_path_factory.mktemp("brake"), CLAIMCHECK_LOCAL_SECRET=f"key-{uuid.uuid4().hex}")
    done = made.manage("migrate")
    assert done.returncode == 0, done.stderr
    made.people = {role: [f"{role}{i}-{uuid.uuid4().hex[:6]}" for i in range(14)] for role in ("reader", "operator")}
    done = made.manage("shell", "-c", PEOPLE.format(**made.people, password=PASSWORD))
    assert done.returncode == 0, done.stderr
    made.second = free_port()
    for port in (made.port, made.second):
        made.serve(port)
    made.proxied = free_port()
    made.serve(made.proxied, TRUSTED_PROXIES="1")
    yield made
    made.stop()


def guess(visitor: Visitor, name: str, times: int, **options: str) -> list[int]:
    """Statuses of so many wrong passwords, one after the other."""
    return [visitor.sign_in(name, WRONG, **options)[0] for _ in range(times)]


@pytest.mark.parametrize("door", ["/accounts/login/", "/admin/login/"])
def test_sixty_wrong_passwords_are_stopped_and_told_when_to_try_again(site, door):
    name, password = site.person()
    source = {"/accounts/login/": "127.0.1.1", "/admin/login/": "127.0.1.2"}[door]
    visitor = site.visitor(source)
    target = urllib.parse.urlparse(visitor.ask(door)[1].get("Location", door)).path
    found = guess(visitor, name, 60, path=target)
    assert found[:5] == [200] * 5 and found.count(200) <= 8 and found.count(429) >= 50, found
    status, headers, page = visitor.sign_in(name, password)
    assert status == 429 and 0 < int(headers["Retry-After"]) <= 900, "the right one is not looked at either"
    assert re.search(r"Try again in \d+ (second|minute)", page) and 'class="top"' in page
    assert site.visitor("127.0.1.3").sign_in(name, password)[0] == 302, "from elsewhere it opens"
    outcomes = [row[0] for row in site.audit("outcome", act="sign in", address=source)]
    assert outcomes.count("wrong") == found.count(200) and 1 <= outcomes.count("refused") <= 30, "not a row for each"


def test_both_web_processes_count_together(site):
    name, _ = site.person()
    visitors = [Visitor(port, "127.0.1.10") for port in (site.port, site.second)]
    found = [visitors[i % 2].sign_in(name, WRONG)[0] for i in range(8)]
    assert found[:5] == [200] * 5 and set(found[5:]) == {429}, found


def test_one_password_on_many_accounts_is_stopped(site):
    name, password = site.person()
    visitor = site.visitor("127.0.1.20")
    found = [visitor.sign_in(f"nobody{i}", WRONG)[0] for i in range(22)]
    assert found[:20] == [200] * 20 and set(found[20:]) == {429}
    assert visitor.sign_in(name, password)[0] == 429
    assert site.visitor("127.0.1.21").sign_in(name, password)[0] == 302


def test_many_addresses_cannot_keep_the_owner_out(site):
    name, password = site.person()
    home = site.visitor("127.0.1.30")
    assert home.sign_in(name, password)[0] == 302
    found = [status for i in range(10) for status in guess(site.visitor(f"127.0.2.{i + 1}"), name, 4)]
    assert found[:30] == [200] * 30 and 429 in found[30:], "over all addresses there is a limit too"
    status, headers, _ = site.visitor("127.0.2.99").sign_in(name, password)
    assert status == 302 or int(headers["Retry-After"]) <= 60, "and it is short"
    assert site.visitor("127.0.1.30").sign_in(name, password)[0] == 302, "where one signed in before it opens at once"


def test_an_account_that_is_none_is_treated_the_same(site):
    name, _ = site.person()
    pages = {}
    for i, who in enumerate((name, f"nobody{uuid.uuid4().hex[:8]}")):
        visitor = site.visitor(f"127.0.1.{40 + i}")
        pages[who] = [visitor.sign_in(who, WRONG)[::2] for _ in range(7)]
    plain = [[(status, re.sub(r'value="\w+"|\d+ seconds', "", page)) for status, page in of] for of in pages.values()]
    assert plain[0] == plain[1] and [status for status, _ in plain[0]] == [200] * 5 + [429] * 2


FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "Client-IP", "X_Forwarded_For")


def test_a_client_does_not_choose_its_address(site):
    """Another header each time, and with it no other count: neither here, nor behind one proxy that adds the truth."""
    name, _ = site.person()
    found = []
    for i in range(9):
        lie = dict.fromkeys(FORWARDED, f"10.9.{i}.1")
        found.append(site.visitor("127.0.1.50", **lie).sign_in(name, WRONG)[0])
    assert found[:5] == [200] * 5 and set(found[5:]) == {429}, found
    name, _ = site.person()
    found = []
    for i in range(9):  # what the proxy sends: what the client wrote, then who it is
        visitor = Visitor(site.proxied, "127.0.0.1", **{"X-Forwarded-For": f"10.8.{i}.1, 203.0.113.7"})
        found.append(visitor.sign_in(name, WRONG)[0])
    assert found[:5] == [200] * 5 and set(found[5:]) == {429}, found
    assert {row[0] for row in site.audit("address", act="sign in", who=name) if row[0] != "127.0.0.2"} == {
        "203.0.113.7"
    }
    other = Visitor(site.proxied, "127.0.0.1", **{"X-Forwarded-For": "203.0.113.8"})
    assert other.sign_in(name, WRONG)[0] == 200, "another client of the same proxy is not held up"


def test_guesses_at_tokens_are_stopped_and_an_old_token_is_no_guess(site):
    name, password = site.person()
    visitor = site.visitor("127.0.1.60")
    visitor.sign_in(name, password)
    page = visitor.form("/accounts/tokens/", {"name": "mine", "scope": "read"})[2]
    good = re.search(r"cc_[\w-]{40,}", page).group(0)

    def use(token: str, source: str) -> tuple[int, dict, str]:
        return site.visitor(source).ask("/api/v1/works?size=1", Authorization=f"Bearer {token}")

    assert {use("cc_revoked", "127.0.1.61")[0] for _ in range(30)} == {401}, "a program that was forgotten"
    assert use(good, "127.0.1.61")[0] == 200
    found = [use(f"cc_{i}{uuid.uuid4().hex}", "127.0.1.62")[0] for i in range(40)]
    assert found[:20] == [401] * 20 and set(found[20:]) == {429}
    status, headers, text = use(f"cc_{uuid.uuid4().hex}", "127.0.1.62")
    assert status == 429 and headers["Content-Type"] == "application/problem+json" and int(headers["Retry-After"]) > 0
    assert "try again in" in text and use(good, "127.0.1.62")[0] == 200, "a right one opens all the while"
    assert site.visitor("127.0.1.62").sign_in(name, password)[0] == 302, "tokens and passwords are counted apart"


def test_every_other_secret_is_braked_too(site):
    """Links that set a password, the local operator's key, and the present password; a right one opens."""
    paths = {"127.0.1.70": "/accounts/reset/MQ/x{}-abc/", "127.0.1.71": "/enter/?key={}"}
    for source, path in paths.items():
        visitor = site.visitor(source)
        found = [visitor.ask(path.format(uuid.uuid4().hex))[0] for _ in range(25)]
        assert 429 not in found[:20] and set(found[20:]) == {429}, path
    link = site.invite(f"late{uuid.uuid4().hex[:8]}")
    assert site.visitor("127.0.1.70").ask(link)[0] == 302
    key = site.env["CLAIMCHECK_LOCAL_SECRET"]
    assert site.visitor("127.0.1.71").ask(f"/enter/?key={key}")[0] == 302
    for _ in range(25):  # as pictures on the page of another site
        tried = site.visitor("127.0.1.72").ask(f"/enter/?key={uuid.uuid4().hex}", **{"Sec-Fetch-Site": "cross-site"})
        assert tried[0] == 403
    name, password = site.person()
    visitor = site.visitor("127.0.1.74")
    visitor.sign_in(name, password)
    new = {"new_password1": "horse-other-staple", "new_password2": "horse-other-staple"}
    change = "/accounts/password_change/"
    found = [visitor.form(change, {"old_password": WRONG} | new)[0] for _ in range(8)]
    assert found[:5] == [200] * 5 and set(found[5:]) == {429}
    assert visitor.form(change, {"old_password": password} | new)[0] == 429


def test_a_lock_is_opened_on_the_command_line_and_on_the_page(site):
    name, password = site.person()
    boss, secret = site.person("operator")
    operator = site.visitor("127.0.1.80")
    assert operator.sign_in(boss, secret)[0] == 302
    visitor = site.visitor("127.0.1.81")
    assert guess(visitor, name, 7)[-1] == 429
    assert site.manage("axes_reset_username", name).returncode == 0
    assert visitor.sign_in(name, password)[0] == 302
    assert guess(visitor, name, 7)[-1] == 429
    page = operator.ask("/operator/")[2]
    assert name in page and "Unlock the account" in page
    assert operator.form("/operator/unlock/", {"name": name}, of="/operator/")[0] == 302
    assert visitor.sign_in(name, password)[0] == 302
    assert (boss, name) in site.audit("who", "about", act="unlock")


def test_acts_are_in_the_log_and_no_secret_is(site):
    """What a reader and an operator do, told in order; then every row of the whole database is searched."""
    name, first = f"ann{uuid.uuid4().hex[:8]}", f"horse-{uuid.uuid4().hex}"
    second, mistyped = f"horse-{uuid.uuid4().hex}", f"horse-{uuid.uuid4().hex}"
    boss, secret = site.person("operator")
    link = site.invite(name, "--curator")
    reader, operator = site.visitor("127.0.1.90"), site.visitor("127.0.1.91")
    assert site.accept(reader, link, first) == 302
    reader.form("/accounts/logout/", {}, of="/")
    reader.sign_in(mistyped, first)  # the password in the field of the name
    reader.sign_in(name, mistyped)
    reader.sign_in(name, first)
    form = {"old_password": first, "new_password1": second, "new_password2": second}
    assert reader.form("/accounts/password_change/", form)[0] == 302
    page = reader.form("/accounts/tokens/", {"name": "laptop", "scope": "write"})[2]
    token = re.search(r"cc_[\w-]{40,}", page).group(0)
    revoke = re.search(r"/accounts/tokens/\d+/revoke/", page).group(0)
    assert reader.form(revoke, {}, of="/accounts/tokens/")[0] == 302
    page = reader.form("/accounts/tokens/", {"name": "desk", "scope": "read"})[2]
    other = re.search(r"cc_[\w-]{40,}", page).group(0)
    operator.sign_in(boss, secret)
    page = operator.ask("/operator/")[2]
    revoke = re.search(r"/operator/tokens/\d+/revoke/", page).group(0)
    assert operator.form(revoke, {}, of="/operator/")[0] == 302
    row = next(row for row in page.split("<tr>") if f">{name}<" in row and 'name="session"' in row)
    handle = re.search(r'name="session" value="(\w+)"', row).group(1)
    assert operator.form("/operator/sessions/end/", {"session": handle}, of="/operator/")[0] == 302
    assert reader.ask("/accounts/tokens/")[0] == 302, "and the session has ended"
    number = re.search(r"/admin/auth/user/(\d+)/change/", operator.ask(f"/admin/auth/user/?q={name}")[2]).group(1)
    change = {"username": name, "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "is_staff": "on"}
    assert operator.form(f"/admin/auth/user/{number}/change/", change)[0] == 302
    local = site.visitor("127.0.1.92")
    key = site.env["CLAIMCHECK_LOCAL_SECRET"]
    assert local.ask(f"/enter/?key={key}")[0] == 302
    local.form("/accounts/tokens/", {"name": "local", "scope": "read"})

    mine = site.audit("who", "act", "about", "outcome", address="127.0.1.90")
    assert mine == [
        (name, "use invitation", "", "done"),
        (name, "sign in", "by an invitation", "done"),
        (name, "sign out", "", "done"),
        ("", "sign in", "no account has this name", "wrong"),
        (name, "sign in", "", "wrong"),
        (name, "sign in", "", "done"),
        (name, "change password", "", "done"),
        (name, "make token", "laptop: write", "done"),
        (name, "revoke token", "laptop", "done"),
        (name, "make token", "desk: read", "done"),
    ]
    (invited,) = site.audit("who", "address", "about", act="invite", about=f"{name} as curator")
    assert invited[0].startswith("command line: ") and invited[1] is None
    told = [row[1:] for row in site.audit("who", "act", "about", who=boss, address="127.0.1.91")]
    assert [act for act, _ in told] == ["sign in", "revoke token", "end session", "change user"]
    assert told[2][1] == f"of {name}" and "Staff status" in told[3][1] and "operator" in told[3][1]
    local_acts = site.audit("who", "act", address="127.0.1.92")
    assert local_acts == [("local operator", "open the operator's address"), ("local operator", "make token")]

    sessions = [visitor.cookies.get("sessionid", "") for visitor in (reader, operator)]
    secrets = [first, second, mistyped, secret, token, other, key, link.split("/")[-2], *filter(None, sessions)]
    assert len(secrets) >= 9
    for table in ("readers_auditrecord", "axes_accessattempt", "axes_accesslog", "django_admin_log"):
        rows = repr(rows_of(site, table))
        assert not [found for found in secrets if found in rows], table
    for path in (site.data).glob("web-*.txt"):
        text = path.read_text(errors="replace")
        assert not [found for found in secrets if found in text and found != link.split("/")[-2]], path


def rows_of(site: Site, table: str) -> list[tuple]:
    connection = sqlite3.connect(site.data / "db.sqlite3")
    try:
        return connection.execute(f"SELECT * FROM {table}").fetchall()
    finally:
        connection.close()


def test_the_page_is_for_operators_and_its_log_is_filtered(site):
    name, password = site.person()
    boss, secret = site.person("operator")
    reader, operator = site.visitor("127.0.1.95"), site.visitor("127.0.1.96")
    assert reader.ask("/operator/")[0] == 302, "anonymous"
    reader.sign_in(name, password)
    operator.sign_in(boss, secret)
    assert reader.ask("/operator/")[0] == 403 and "Operator's page" not in reader.ask("/help/")[2]
    page = operator.ask(f"/operator/?who={name}&act=sign+in")[2]
    log = page.partition('id="log"')[2]
    assert log.count("<tr>") == 2 and "127.0.1.95" in log and "127.0.1.96" not in log
    for odd in ("page=²", f"page={'9' * 5000}", "page=-1", "who=x", "act=y&outcome=x"):
        assert operator.ask(f"/operator/?{urllib.parse.quote(odd, safe='=&%')}")[0] == 200, odd
    assert operator.ask("/admin/readers/auditrecord/")[0] == 200
    row = site.audit("id")[0][0]
    for path in ("add/", f"{row}/delete/"):
        assert operator.ask(f"/admin/readers/auditrecord/{path}")[0] == 403
    before = site.audit()
    for data in ({"who": "x"}, {"action": "delete_selected", "_selected_action": row, "post": "yes"}):
        operator.form(f"/admin/readers/auditrecord/{row}/change/", data, of="/operator/")
        operator.form("/admin/readers/auditrecord/", data, of="/operator/")
    assert site.audit() == before
