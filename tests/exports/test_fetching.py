"""Papers are fetched politely, go on where they broke off, and come from no machine that is not public."""

import io
import socket

import pytest
from django.core.management import call_command

from catalog.arxiv_gate import Frozen
from catalog.models import ArxivGate, Work
from config import outgoing
from exports import bundle_plan, fetching, papers
from exports.fetching import NotFetched
from tests.exports import made_papers as made
from tests.exports.paper_server import serving

LARGEST = 5 * 2**20
PDF = made.data(made.paper("Fetched"))


@pytest.fixture
def server(settings, tmp_path, catalogue):
    with serving() as started:
        settings.DATA_DIR = tmp_path
        settings.ARXIV_GAP_S = 0.01
        settings.FETCH_TEST_SERVER = started.place
        settings.ARXIV_PDF_URL = f"{started.address}/pdf"
        yield started


@pytest.fixture
def part(tmp_path):
    return tmp_path / "papers" / "x.part"


def mamba(server, version: int = 2, content: bytes = PDF) -> Work:
    Work.objects.filter(slug="mamba").update(arxiv_version=version)
    work = Work.objects.for_list().get(slug="mamba")
    server.files[f"/pdf/{work.arxiv_id}v{version}"] = content
    return work


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.pdf", "http://127.1/x.pdf", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://0/", "http://0.0.0.0/", "http://localhost/x.pdf", "http://LOCALHOST./x.pdf", "http://[::1]/", "http://[::]/",
        "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[fe80::1]/",
        "http://[fe80::1%25lo]/", "http://[fd00::1]/", "http://[fec0::1]/", "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/", "http://[2001:0:7f00:1::]/", "http://[2001:db8::1]/",
        "http://[ff02::1]/", "https://10.0.0.1/x.pdf", "http://172.31.255.255/", "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data", "http://100.64.0.1/", "http://198.18.0.1/", "http://224.0.0.1/",
        "http://255.255.255.255/", "http://192.0.0.8/", "http://192.88.99.1/", "http://240.0.0.1/",
        "file:///etc/passwd", "ftp://example.org/x.pdf", "gopher://127.0.0.1:70/", "data:application/pdf,x",
        "javascript:alert(1)", "//example.org/x.pdf", "x.pdf", "http:///x.pdf", "http://", "http://[x]/", "http://a:99999/",
        "http://user@example.org/x.pdf", "http://user:word@example.org/x.pdf", "http://:@example.org/",
        "http://example.org:22/x.pdf", "https://example.org:6379/x.pdf", "http://127.0.0.1:1/x.pdf", "unix:/run/x.sock",
    ],
)  # fmt: skip
def test_what_is_not_the_public_web_is_not_asked(server, part, url, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", _never)
    with pytest.raises(NotFetched):
        fetching.download(url, part, LARGEST)
    assert not part.exists()


INSIDE = ["http://127.0.0.1:{}/x", "http://[::1]:{}/x", "http://localhost/x", "ftp://127.0.0.1/",
          "//169.254.169.254/x", "file:///etc/passwd", "http://[::ffff:10.0.0.1]/"]  # fmt: skip


@pytest.mark.parametrize("target", INSIDE)
def test_a_redirect_leads_nowhere_else(server, part, target):
    with serving() as inside:
        inside.files["/x"] = PDF
        server.faults = [target.format(inside.port)]
        with pytest.raises(NotFetched):
            fetching.download(f"{server.address}/a", part, LARGEST)
        assert inside.seen == [] and len(server.seen) == 1 and not part.exists()


def test_a_name_is_looked_up_once_and_the_checked_address_is_asked(server, part, monkeypatch):
    answers, asked = [["93.184.216.34"], ["127.0.0.1"]] * 9, []
    monkeypatch.setattr(outgoing, "resolve", lambda host, port: answers.pop(0))
    monkeypatch.setattr(socket, "create_connection", lambda address, *more: asked.append(address) or _fail())
    with pytest.raises(NotFetched, match="127.0.0.1, which is no public address"):
        fetching.download("http://rebinding.example/x.pdf", part, LARGEST)
    assert asked == [("93.184.216.34", 80)]


def test_one_private_address_among_others_is_enough_to_refuse(server, part, monkeypatch):
    monkeypatch.setattr(outgoing, "resolve", lambda host, port: ["93.184.216.34", "10.0.0.1"])
    monkeypatch.setattr(socket, "create_connection", _never)
    with pytest.raises(NotFetched, match="10.0.0.1"):
        fetching.download("https://mixed.example/x.pdf", part, LARGEST)


def test_proxies_of_the_environment_are_not_used(server, part, monkeypatch):
    with serving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        server.files["/x.pdf"] = PDF
        fetching.download(f"{server.address}/x.pdf", part, LARGEST)
        assert part.read_bytes() == PDF and proxy.seen == []


def test_the_switch_lets_one_server_through(server, part, settings):
    server.files["/x.pdf"] = PDF
    settings.FETCH_TEST_SERVER = ""
    with pytest.raises(NotFetched):
        fetching.download(f"{server.address}/x.pdf", part, LARGEST)
    assert server.seen == []


def test_arxiv_is_asked_at_its_mirror_for_programs():
    assert fetching.checked_url("http://arxiv.org/pdf/2312.00752v2") == "https://export.arxiv.org/pdf/2312.00752v2"
    assert fetching.checked_url("https://example.org/a?b=c#d") == "https://example.org/a?b=c"


def test_what_broke_off_goes_on(server, part):
    server.files["/x"] = PDF
    server.faults = ["cut", "cut"]
    fetching.download(f"{server.address}/x", part, LARGEST)
    assert part.read_bytes() == PDF
    half = len(PDF) // 2
    begins = [half, half + (len(PDF) - half) // 2]
    assert [seen.range for seen in server.seen] == ["", *(f"bytes={begin}-" for begin in begins)]
    assert "Claimcheck" in server.seen[0].agent


def test_what_changed_meanwhile_comes_anew(server, part):
    server.files["/x"] = PDF
    server.faults = ["cut", 503, 503, 503]
    with pytest.raises(NotFetched, match="4 times over"):
        fetching.download(f"{server.address}/x", part, LARGEST)
    assert part.stat().st_size == len(PDF) // 2, "what has come is kept for the next time"
    server.files["/x"] = other = made.data(made.paper("Another", pages=2))
    fetching.download(f"{server.address}/x", part, LARGEST)
    assert part.read_bytes() == other


@pytest.mark.parametrize("fault", [None, "no length"])
def test_too_much_is_refused(server, part, fault):
    server.files["/x"] = b"%PDF-1.5" + bytes(LARGEST)
    server.faults = [fault]
    with pytest.raises(NotFetched, match="MiB"):
        fetching.download(f"{server.address}/x", part, LARGEST)
    assert not part.exists() or part.stat().st_size == 0
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "content",
    [made.HTML, b"", PDF[:1000], made.encrypted(), made.no_page()],
    ids=["a page", "nothing", "a part", "encrypted", "no page"],
)
def test_what_is_no_paper_is_not_kept(server, content):
    work = mamba(server, content=content)
    with pytest.raises(NotFetched, match="no use"):
        papers.fetch(work, set())
    assert not [path for path in papers.folder().iterdir() if path.suffix != ".lock"]


def test_a_paper_is_fetched_once_a_version(server):
    work = mamba(server)
    assert papers.find(work, "private", papers.fetch, set())[0].version == "2"
    assert papers.find(work, "private", papers.fetch, set())[0].pages == 4
    assert len(server.seen) == 1
    assert {path.name for path in papers.folder().iterdir()} == {f"{work.arxiv_id}v2.pdf", f"{work.arxiv_id}v2.json"}
    newer = mamba(server, version=3)
    assert papers.find(newer, "public", None, set())[1], "an older version is not what the licence is for"
    assert papers.find(newer, "private", None, set())[0].version == "2"


def test_a_403_stops_all_fetching(server):
    work = mamba(server)
    server.faults = [403]
    with pytest.raises(Frozen):
        papers.fetch(work, set())
    paper, reason = papers.find(work, "private", papers.fetch, set())
    assert paper is None and "nothing is fetched from arXiv until" in reason
    assert len(server.seen) == 1


def test_requests_keep_their_distance(server, settings):
    settings.ARXIV_GAP_S = 0.3
    work = mamba(server)
    server.files["/elsewhere"] = PDF
    server.faults = ["/elsewhere"]
    papers.fetch(work, set())
    assert server.seen[1].began - server.seen[0].began >= 0.3
    assert ArxivGate.objects.get(pk=1).holder == ""


def test_endless_redirects_end(server, part):
    server.faults = ["/a"] * 9
    with pytest.raises(NotFetched, match="more than 5 times"):
        fetching.download(f"{server.address}/a", part, LARGEST)
    assert len(server.seen) == 5


def test_the_least_used_fetched_copy_goes_first(server, settings):
    settings.PAPERS_MIB = 4
    own = papers.folder() / "rwkv.pdf"
    own.write_bytes(b"%PDF-" + bytes(2**20))
    big = made.paper("Large")
    big.pages[0].Contents = big.make_stream(bytes(range(256)) * 4500)
    first = mamba(server, 1, made.data(big, compress_streams=False))
    kept = papers.fetch(first, set())
    assert papers.make_room(2 * 2**20, {kept}) < 2 * 2**20 and kept.exists(), "what the bundle needs stays"
    assert papers.make_room(3 * 2**20, set()) >= 2 * 2**20
    assert own.exists() and not kept.exists(), "an operator's own copy is never removed"
    settings.PAPERS_MIB = 1
    with pytest.raises(NotFetched, match="no room"):
        papers.fetch(first, set())


def test_a_work_without_a_pdf_says_so(server):
    work = Work.objects.for_list().filter(arxiv_id=None, kind="blog").first()
    assert "no address of a PDF" in papers.find(work, "private", papers.fetch, set())[1]
    assert server.seen == []


def test_the_command_fetches_and_binds(server, tmp_path):
    work = mamba(server)
    rwkv = Work.objects.get(slug="rwkv")
    out = io.StringIO()
    call_command("bundle", "--kind", "private", "--fetch", "--query", "category=non-transformer-architecture",
                 "-o", str(tmp_path / "x.pdf"), stdout=out)  # fmt: skip
    assert "1 papers, 1 without their paper" in out.getvalue()
    assert "rwkv: it could not be fetched: 127.0.0.1 answered with status 404." in out.getvalue()
    assert [seen.path.split("v")[0] for seen in server.seen] == [f"/pdf/{rwkv.arxiv_id}", f"/pdf/{work.arxiv_id}"]


def test_a_report_fetches_nothing(server):
    plan = bundle_plan.plan("report", "?q=mamba")
    papers.put_in(plan, papers.fetch, lambda *told: None)
    assert server.seen == [] and plan.items[0].stub == ""


def _never(*args, **kwargs):
    raise AssertionError(f"a connection to {args}")


def _fail():
    raise OSError("refused")
