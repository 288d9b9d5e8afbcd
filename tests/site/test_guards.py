"""What one visitor may learn of another, smuggle in or pile up, through the real web server."""

import http.client
import io
import json
import re
import sys
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pikepdf
import pytest

from tests.exports.pdfs import Book
from tests.installation import Installation, eventually
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("up")
PEOPLE = """
from django.contrib.auth.models import User
from readers import tokens
from readers.roles import curators
for name in ("alice", "bob", "cora", "olga", "dora"):
    user = User.objects.create_user(name, password="a long word of " + name, is_staff=name == "olga")
    if name in ("cora", "dora"):
        user.groups.add(curators())
    print(name, user.pk, tokens.create(user, name="t", scope="write")[1])
"""
LIMITS = {"COLLECTIONS_PER_USER": "3", "WORKS_PER_COLLECTION": "2", "TOKENS_PER_USER": "2",
          "WAITING_JOBS_PER_USER": "2", "IMPORT_DRAFTS_PER_USER": "2"}  # fmt: skip
SECRET = "zebra"  # a word that is in no work
TURNED = "Attention \u202eneeds no\u202c kernel"


class Site(Installation):
    """A web server alone, and people with tokens."""

    def begin(self) -> "Site":
        for command in ("migrate", "load_catalog"):
            assert self.manage(command).returncode == 0
        rows = [line.split() for line in self.shell(PEOPLE).splitlines() if line]
        self.pk, self.token_of = {n: pk for n, pk, _ in rows}, {n: token for n, _, token in rows}
        listen = f"--listen=127.0.0.1:{self.port}"
        self.start(sys.executable, "-m", "config.serve", listen, log="web")
        eventually(lambda: self.status("/") == 200, "the web server answers", 60)
        return self

    def shell(self, code: str) -> str:
        done = self.manage("shell", "-v", "0", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, who: str, path: str, body: dict | None = None, method: str = "") -> tuple[int, bytes, dict]:
        """Status, body and headers, as somebody with a token (on the API) or as nobody."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=allowed(60))
        headers = {"Authorization": f"Bearer {self.token_of[who]}"} if who else {}
        data = None if body is None else json.dumps(body)
        if data:
            headers["Content-Type"] = "application/json"
        connection.request(method or ("POST" if data else "GET"), path, data, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("guards"), **LIMITS)
    yield made.begin()
    made.stop()


@pytest.fixture
def browser(site):
    """Signs somebody in; the cookies are forgotten afterwards."""

    def sign_in(name: str) -> Site:
        site.jar.clear()
        site.sign_in(name, f"a long word of {name}")
        return site

    yield sign_in
    site.jar.clear()


def test_a_bundles_query_is_told_to_whoever_asked_and_to_operators(site, browser):
    made = site.ask("alice", "/api/v1/collections", {"name": "Mine", "visibility": "link"})
    key = json.loads(made[1])["key"]
    number = json.loads(made[1])["id"]
    site.ask("alice", f"/api/v1/collections/{number}/items", {"work": "mamba"})
    for query in (f"?q=flashattention+-{SECRET}&kind=paper", f"collection={key}"):
        done = site.manage("bundle", f"--user={site.pk['alice']}", f"--query={query}")
        assert done.returncode == 0, done.stderr
    own, page = json.loads(site.ask("alice", "/api/v1/bundles")[1]), browser("alice").page("/bundles/")
    assert own["total"] == 2 and {SECRET in (one["query"] or "") for one in own["results"]} == {True, False}
    assert SECRET in page and key in page
    assert SECRET in browser("olga").page("/bundles/")
    site.jar.clear()
    others = site.page("/bundles/") + browser("bob").page("/bundles/")
    site.jar.clear()
    for who in ("", "bob"):
        status, body, _ = site.ask(who, "/api/v1/bundles")
        listed = json.loads(body)
        assert listed["total"] == 1, "a collection that is shared by link is not everybody's"
        others += body.decode()
    (told,) = listed["results"]
    assert told["query"] is None and told["works"] and told["selection"].startswith("chosen by words; kind: paper")
    status, manifest, headers = site.ask("", told["manifest"].partition(str(site.port))[2])
    assert status == 200 and headers["Cache-Control"].startswith("private")
    status, pdf, _ = site.ask("", told["pdf"].partition(str(site.port))[2])
    (site.data / "told.pdf").write_bytes(pdf)
    book = Book(site.data / "told.pdf")
    others += manifest.decode() + "".join(book.text(i) for i in range(len(book.pdf.pages)))
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        others += str(opened.docinfo) + str(opened.open_metadata())
        others += opened.attachments["manifest.json"].get_file().read_bytes().decode()
    assert SECRET not in others and key not in others


def test_a_job_tells_its_query_to_its_owner_alone(site, browser):
    status, body, _ = site.ask("alice", "/api/v1/bundles", {"query": f"?q=mamba+-{SECRET}"})
    assert status == 202
    number = json.loads(body)["job"]
    for who in ("", "bob", "cora"):
        assert SECRET not in site.ask(who, f"/api/v1/bundles/jobs/{number}")[1].decode()
    assert SECRET in browser("alice").page(f"/jobs/{number}/")
    assert SECRET not in browser("bob").page(f"/jobs/{number}/")
    site.jar.clear()
    assert SECRET not in "".join(site.page(path) for path in (f"/jobs/{number}/", "/nodes/", "/runs/", "/bundles/"))
    status, body, _ = site.ask("bob", "/api/v1/bundles", {"query": f"?q=mamba+-{SECRET}"})
    assert status == 202 and json.loads(body)["job"] != number, "a job of his own: whose query is whose is not told"


def test_what_is_answered_to_somebody_is_kept_by_no_shared_cache(site, browser):
    browser("alice")
    for path in ("/", "/collections/", "/bundles/", "/export/bibtex?q=mamba", "/accounts/tokens/"):
        with site._opener.open(site.url + path) as answer:
            assert re.search("private|no-store", answer.headers["Cache-Control"]), path


@pytest.mark.parametrize(("path", "body"), [
    ("/api/v1/collections", {"name": TURNED}),
    ("/api/v1/collections", {"name": "x", "description": TURNED}),
    ("/api/v1/works/mamba", {"title": TURNED}),
    ("/api/v1/works/mamba", {"authors": [TURNED]}),
    ("/api/v1/works/mamba", {"url": "https://github.com@evil.example/x"}),
    ("/api/v1/works/mamba", {"url": "https://example.org\\x"}),
    ("/api/v1/bundles", {"query": TURNED}),
])  # fmt: skip
def test_the_api_refuses_what_hides_or_pretends(site, path, body):
    status, answer, _ = site.ask("cora", path, body, "PATCH" if "/works/" in path else "POST")
    assert status == 422, answer
    assert re.search(r"U\+202E|U\+005C|name and password", answer.decode()), "what came is named"


@pytest.mark.parametrize(("path", "body", "expected"), [
    ("/?q=%00", None, 400), ("/?%00=1", None, 400), ("/collections/shared/%00/", None, 404),
    ("/api/v1/works?q=%00", None, 422), ("/api/v1/works/%00", None, 404),
    ("/api/v1/bundles", {"query": "collection=%00"}, 422), ("/api/v1/collections", {"name": "a\0b"}, 422),
    ("/api/v1/collections/1/items", {"work": "a\0"}, 422),
])  # fmt: skip
def test_nul_is_no_text_at_any_address(site, path, body, expected):
    """PostgreSQL takes none; so it is refused before any view."""
    assert site.ask("alice", path, body)[0] == expected


def test_what_was_stored_before_is_inert_in_json_too(site):
    site.shell(
        "from catalog.models import Work\nWork.objects.filter(slug='vllm').update(title='Paged \u202ework \\\\u202e')"
    )
    _, answer, _ = site.ask("", "/api/v1/works/vllm")
    assert json.loads(answer)["title"] == "Paged \ufffdwork \\u202e", "what is written out is only text"


def test_pages_refuse_what_hides_or_pretends(site, browser):
    browser("cora")
    facts = {"kind": "paper", "published": "2023-12", "authors": "A", "topics": ""}
    for path, data in (
        ("/papers/mamba/edit/facts/", facts | {"title": TURNED, "url": "https://example.org/"}),
        ("/papers/mamba/edit/facts/", facts | {"title": "T", "url": "https://user:pw@example.org/"}),
        ("/collections/new/", {"name": TURNED, "visibility": "private"}),
        ("/accounts/tokens/", {"name": TURNED, "scope": "read"}),
    ):
        token = site.token("/collections/")
        with pytest.raises(urllib.error.HTTPError) as refused:
            site.page(path, data | {"csrfmiddlewaretoken": token})
        said = refused.value.read().decode()
        assert refused.value.code == 400 and re.search(r"got U\+202E|name and password", said), path
        assert "\u202e" not in said
    assert site.manage("invite", "a\u202eb").returncode == 2


def test_a_list_is_cleaned_with_a_note(site, tmp_path):
    file = tmp_path / "list.md"
    file.write_text(
        "# L\n\n- [Kernels \u202ethat pretend\u202c](https://user:pw@example.org/kernels) [code](https://аpple.com/k)\n"
    )
    done = site.manage("import_list", str(file))
    assert "line 3: not kept, characters that cannot be seen" in done.stdout, done.stdout + done.stderr
    assert "line 3: not kept, the name and password before the host of https://example.org/kernels" in done.stdout
    page = site.page("/?q=Kernels+that+pretend")
    assert "Kernels that pretend" in page and "user:pw@" not in page and "xn--pple-43d.com" in page
    again = site.manage("import_list", "--json", str(file))
    assert json.loads(again.stdout)["created"] == [] == json.loads(again.stdout)["updated"]


def test_what_was_stored_before_is_inert(site):
    site.shell(
        "from catalog.models import *; from catalog import index; Work.objects.filter(slug='vllm')"
        f".update(title='Vllm {chr(0x202E)}mllV'); index.rebuild()\n"
        "Link.objects.filter(entry__work__slug='vllm').update(url='https://user:pw@аpple.com/x')"
    )
    typed = quote("\u202eacro")
    for path in (
        "/papers/vllm/",
        f"/?q=vllm+{typed}",
        "/export/bibtex?works=vllm",
        "/api/v1/works/vllm",
        "/feeds/works.atom",
    ):
        answer = site.page(path)
        assert "\u202e" not in answer, path
    page = site.page("/papers/vllm/")
    assert "Vllm \ufffdmllV" in page
    assert 'href="https://xn--pple-43d.com/x"' in page and 'href="https://user' not in page


def _at_once(site, who: str, path: str, bodies: list[dict | None], method: str = "POST") -> list[int]:
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: site.ask(who, path, body, method), bodies))
    assert all(status < 500 for status, _, _ in answers), answers
    return sorted(status for status, _, _ in answers)


def _piles_up(site) -> None:
    """Many asks at once by one account; the limits hold, and the words are those of runs."""
    names = [{"name": f"C{i}"} for i in range(8)]
    assert _at_once(site, "bob", "/api/v1/collections", names) == [201] * 3 + [409] * 5
    status, body, headers = site.ask("bob", "/api/v1/collections", {"name": "one more"})
    assert status == 409 and headers["Content-Type"].startswith("application/problem+json")
    assert "you have 3 collections, as many as one may have: delete some first" in body.decode()
    number = json.loads(site.ask("bob", "/api/v1/collections?mine=true")[1])["results"][0]["id"]
    works = [{"work": slug} for slug in ("vllm", "awq", "gptq", "orca", "mamba", "rwkv")]
    assert _at_once(site, "bob", f"/api/v1/collections/{number}/items", works) == [201] * 2 + [409] * 4
    same = [{"work": "vllm"}] * 4
    site.ask("bob", f"/api/v1/collections/{number}/items/awq", method="DELETE")
    site.ask("bob", f"/api/v1/collections/{number}/items/vllm", method="DELETE")
    assert _at_once(site, "bob", f"/api/v1/collections/{number}/items", same).count(201) <= 1
    bundles = [{"query": f"works={work}"} for work in ("vllm", "awq", "gptq", "orca", "mamba")]
    statuses = _at_once(site, "dora", "/api/v1/bundles", bundles)
    assert statuses.count(202) == 2 and statuses.count(429) >= 3, statuses


def test_one_account_piles_nothing_up(site):
    _piles_up(site)


def test_nor_on_postgresql(tmp_path, postgres_url):
    made = Site(tmp_path, DATABASE_URL=postgres_url, **LIMITS)
    try:
        _piles_up(made.begin())
    finally:
        made.stop()


def test_pages_say_that_it_is_enough(site, browser):
    browser("dora")
    token = site.token("/accounts/tokens/")
    site.page("/accounts/tokens/", {"csrfmiddlewaretoken": token, "name": "second", "scope": "read"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        site.page("/accounts/tokens/", {"csrfmiddlewaretoken": token, "name": "third", "scope": "read"})
    assert refused.value.code == 409
    assert "you have 2 tokens, as many as one may have: revoke some first" in refused.value.read().decode()


def test_two_who_remove_at_once_are_told_the_truth(site):
    links = json.loads(site.ask("", "/api/v1/entries?q=mamba")[1])["results"][0]["links"]
    assert _at_once(site, "cora", f"/api/v1/links/{links[0]['id']}", [None] * 6, "DELETE") == [204] + [404] * 5
