"""A bundle of our own sheets: every target lands, the counts agree, the bytes are the same, downloads resume."""

import hashlib
import io
import json
import os
import re

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import connection
from django.urls import reverse

from catalog.models import Work
from exports import binding, bundle_plan, bundle_store, bundles, sheets
from jobs import supervise
from jobs.models import Job
from jobs.node import register
from tests.exports.pdfs import Book
from tests.site import measured
from tests.site.people import asks_to_sign_in, sign_in


@pytest.fixture
def data(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("books")


@pytest.fixture
def whole(catalogue, shelf, settings):
    """The bundle of the whole list, bound once for this module."""
    settings.DATA_DIR = shelf
    plan, file = bundle_plan.plan("report", ""), shelf / "whole.pdf"
    if not file.exists():
        file.with_suffix(".json").write_bytes(binding.text(binding.bind(plan, file)))
    return plan, Book(file), file


def test_every_contents_line_lands_on_its_sheet(whole):
    plan, book, _ = whole
    begins = {item.title: [i for i in range(len(book.pdf.pages)) if book.text(i).startswith(_plain(item.title))]
              for item in plan.items}  # fmt: skip
    lines = []
    for i in range(len(book.pdf.pages)):
        if book.label(i).isdigit():
            break
        assert i == 0 or book.text(i).endswith(f" {book.label(i)}"), "the foot of a page says its label"
        for rectangle, page in book.links(i):
            lines.append((book.text_at(i, rectangle), page))
    titles = [(text, page) for text, page in lines if not text.isdigit() and text != "Index"]
    listed = [plan.items[i].title for group in plan.groups for i in group.items]
    assert len(listed) == 84 and len(set(listed)) == 76
    firsts = {page for _, page in titles}
    assert firsts == {pages[0] for pages in begins.values()} and len(firsts) == 76
    for text, page in lines:
        if text.isdigit():
            assert book.label(page) == text and book.text(page).endswith(f" {text}")


def test_every_outline_entry_lands_and_works_of_two_categories_stand_twice(whole):
    plan, book, _ = whole
    entries = book.outline()
    assert [title for depth, title, _ in entries if depth == 0] == [
        "Cover", "Contents", *(group.name for group in plan.groups), "Index"]  # fmt: skip
    works = [(title, page) for depth, title, page in entries if depth == 1]
    assert len(works) == 84 and len(set(works)) == 76
    for title, page in works:
        assert book.text(page).startswith(_plain(title))
    categories = [(title, page) for depth, title, page in entries if depth == 0]
    assert all(page is not None for _, page in categories)
    assert book.text(dict(categories)["Index"]).startswith("Index Authors")


def test_the_index_names_the_pages_of_an_author(whole):
    plan, book, _ = whole
    item = next(item for item in plan.items if item.slug == "flashattention")
    number = sheets.draw(plan).numbers[plan.items.index(item)]
    pages = [i for i in range(len(book.pdf.pages)) if book.text(i).startswith("Index Authors")]
    text = " ".join(book.text(i) for i in range(pages[0], len(book.pdf.pages)))
    assert str(number) in re.search(r"Tri Dao ([\d, ]+)", text)[1].replace(" ", "").split(",")
    assert "Christopher Ré" in text and "Stanisław Woźniak" in text


def test_it_is_sound_and_says_what_it_is(whole):
    plan, book, file = whole
    assert book.pdf.check_pdf_syntax() == []
    assert book.pdf.Root.Lang == "en-GB" and bool(book.pdf.Root.ViewerPreferences.DisplayDocTitle)
    assert book.pdf.open_metadata()["dc:title"] == sheets.title(plan) == str(book.pdf.docinfo.Title)
    inside = book.pdf.attachments["manifest.json"].get_file().read_bytes()
    assert inside == file.with_suffix(".json").read_bytes()
    told = json.loads(inside)
    assert told["counts"] == {"works": 76, "claims": 369, "outcomes": {}, "papers": 0, "stubs": 0}
    assert "76 works" in book.text(0) and "369 claims" in book.text(0)
    assert {work["work"] for work in told["works"]} == set(Work.objects.values_list("slug", flat=True))


def test_no_sheet_has_more_than_two_pages(whole):
    assert max(sheets.draw(whole[0]).count) <= 2


def test_the_same_input_gives_the_same_bytes(whole, tmp_path):
    plan, _, file = whole
    again = bundle_plan.plan("report", "")
    assert again.digest == plan.digest
    binding.bind(again, tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == file.read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "again.pdf"], "nothing else is left behind"


def test_a_changed_work_is_another_bundle(catalogue):
    before = bundle_plan.plan("report", "category=non-transformer-architecture")
    Work.objects.filter(slug=before.items[0].slug).update(title="Otherwise ≥ 3 × naïve, 推理")
    after = bundle_plan.plan("report", "category=non-transformer-architecture")
    assert before.digest != after.digest and before.name != after.name
    sheets.draw(after)


def test_letters_beyond_ascii_are_shown(catalogue, tmp_path):
    Work.objects.filter(slug="mamba").update(title="Złożoność ≥ O(n²) → naïve, α–β 🎉")
    plan = bundle_plan.plan("report", "?q=mamba")
    binding.bind(plan, tmp_path / "b.pdf")
    assert any("Złożoność ≥ O(n²) → naïve, α–β \ufffd" in Book(tmp_path / "b.pdf").text(i) for i in range(4))


def test_measured_results_stand_beside_the_claim_with_plots_as_vectors(catalogue, tmp_path):
    measured.run(measured.reproduction(), error=1.408)
    plan = bundle_plan.plan("report", "?q=flashattention&sort=title")
    assert plan.groups[0].name == "" and plan.outcomes["replicated"] > 0
    binding.bind(plan, tmp_path / "b.pdf")
    book = Book(tmp_path / "b.pdf")
    page = next(p for d, t, p in book.outline() if t.startswith("FlashAttention: Fast"))
    text = f"{book.text(page)} {book.text(page + 1)}"
    assert "replicated" in text and "1.408" in text and "at most 2" in text and "because rounding" in text
    assert "needs hardware counters" in text and "checks replicated" in book.text(0)
    forms = [x for i in (page, page + 1) for x in book.pdf.pages[i].resources.get("/XObject", {}).values()]
    assert len(forms) == 2 and all(form.Subtype == "/Form" for form in forms)
    assert all(x.get("/Subtype") != "/Image" for form in forms for x in form.Resources.get("/XObject", {}).values())
    binding.bind(plan, tmp_path / "c.pdf")
    assert (tmp_path / "c.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_the_command(catalogue, data, capsys):
    out = io.StringIO()
    call_command("bundle", "--query", "category=non-transformer-architecture", "-o", str(data / "x.pdf"), stdout=out)
    assert "2 works" in out.getvalue() and (data / "x.json").exists()
    digest = hashlib.sha256((data / "x.pdf").read_bytes()).hexdigest()
    assert digest in out.getvalue()
    made = bundle_store.seen_by(_Nobody())[0]
    assert made.sha256 == digest
    stamp = made.file.with_suffix(".sha256").stat().st_mtime_ns
    call_command("bundle", "--query", "category=non-transformer-architecture", stdout=out)
    assert made.file.with_suffix(".sha256").stat().st_mtime_ns == stamp, "it is not bound again"


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--query", "?year=soon"], "expected a year"), (["--query", "?q=zzzzqqqq"], "no work of the list"),
     (["-o", "/nowhere/x.pdf"], "/nowhere"), (["--query", "?page=1&shape=round"], "shape")],
)  # fmt: skip
def test_what_the_command_refuses(catalogue, data, words, said):
    with pytest.raises(CommandError, match=said) as refused:
        call_command("bundle", *(words if "--query" in words else ["--query", "?q=mamba", *words]))
    assert refused.value.returncode == 2


@pytest.mark.parametrize("query", ["-mamba", "--kind=private", "--query", "-o/tmp/x"])
def test_a_query_that_looks_like_an_option_is_a_query(catalogue, data, tmp_path, query):
    """As the job's own command has it; what it asks for may well be nothing."""
    job = Job(arguments=["--kind", "report", "--query", query])
    command = bundles.command(job, tmp_path)
    parsed = load_command_class("exports", "bundle").create_parser("manage.py", "bundle").parse_args(command[2:])
    assert (parsed.kind, parsed.query, parsed.file, parsed.folder) == ("report", query, None, tmp_path)


@pytest.mark.parametrize("query", ["mamba\0", "mamba\nx", "\x1b[31m"])
def test_a_query_with_control_characters_is_refused(catalogue, query):
    with pytest.raises(bundle_plan.NotUnderstood, match="one line that can be seen"):
        bundle_plan.plan("report", query)


def test_the_least_used_go_when_the_cap_is_reached(catalogue, data, settings):
    settings.BUNDLES_MIB = 0
    for query in ("?q=mamba", "?q=rwkv"):
        made = bundle_store.make(bundle_plan.plan("report", query), lambda *told: None)
    assert [path.stem for path in (data / "bundles").glob("*.pdf")] == [made.name]


@pytest.mark.django_db(transaction=True)
def test_a_job_makes_it_and_the_page_hands_it_out(client, settings, data, monkeypatch):
    call_command("load_catalog", verbosity=0)
    settings.CELERY_BROKER_URL = "memory://"
    supervise.STOP.clear()
    page = reverse("bundles")
    assert asks_to_sign_in(client.post(page, {"kind": "report", "query": "?q=mamba"}))
    sign_in(client, settings, "reader")
    bad = client.post(page, {"kind": "report", "query": "?year=soon"})
    assert bad.status_code == 400 and "expected a year" in bad.content.decode()
    assert client.post(page, {"kind": "private", "query": ""}).status_code == 403
    first = client.post(page, {"kind": "report", "query": "?q=mamba"})
    assert first.url == client.post(page, {"kind": "report", "query": "?q=mamba"}).url, "asked for once"
    job = Job.objects.get()
    assert "PDF bundle, report: ?q=mamba" in client.get(first.url).content.decode()
    monkeypatch.setenv("DATABASE_URL", _address(connection.settings_dict))
    supervise.work(register("here-control", "control", 0))
    job.refresh_from_db()
    assert job.status == "finished", job.log
    made = bundle_store.seen_by(_Nobody())[0]
    assert f"{page}#{made.name}" in client.get(first.url).content.decode()
    again = client.post(page, {"kind": "report", "query": "?q=mamba"})
    assert again.url == f"{page}#{made.name}", "it is there, so no job"
    client.logout()
    assert "mamba" not in client.get(first.url).content.decode(), "a job tells it to whoever may see it whole"
    text = client.get(page).content.decode()
    assert made.sha256 in text and f"{made.name}.pdf" in text


def _address(database: dict) -> str:
    """Where a child finds the database of this test."""
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    who = f"{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
    return f"postgresql://{who}/{database['NAME']}"


class _Nobody:
    is_staff, pk = False, None


@pytest.fixture
def made(catalogue, data):
    return bundle_store.make(bundle_plan.plan("report", "?q=mamba"), lambda *told: None)


def test_a_download_resumes(client, made):
    address, whole = reverse("bundle-file", args=[made.name, "pdf"]), made.file.read_bytes()
    full = client.get(address)
    assert b"".join(full.streaming_content) == whole and full["Accept-Ranges"] == "bytes"
    assert full["Content-Length"] == str(len(whole)) and full["ETag"] == f'"{hashlib.sha256(whole).hexdigest()}"'
    for asked, part in (("bytes=100-199", whole[100:200]), ("bytes=100-", whole[100:]), ("bytes=-7", whole[-7:]),
                        ("bytes=0-99999999", whole)):  # fmt: skip
        got = client.get(address, headers={"Range": asked})
        assert got.status_code == 206 and b"".join(got.streaming_content) == part
        assert got["Content-Length"] == str(len(part)) and got["Content-Range"].endswith(f"/{len(whole)}")
    assert client.get(address, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    assert client.get(address, headers={"Range": "bytes=5-2"}).status_code == 416
    assert client.get(address, headers={"Range": "lines=1-2"}).status_code == 200
    assert client.get(address, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    assert client.get(address, headers={"Range": "bytes=0-1", "If-Range": full["ETag"]}).status_code == 206
    assert client.get(address, headers={"If-None-Match": full["ETag"]}).status_code == 304
    head = client.head(address)
    assert head["Content-Length"] == str(len(whole)) and b"".join(head) == b""
    assert client.post(address).status_code == 405
    manifest = client.get(reverse("bundle-file", args=[made.name, "json"])).json()
    assert manifest["bundle"] == made.name
    assert client.get("/bundles/claimcheck-report-0000000000000000.pdf").status_code == 404


def test_private_bundles_are_the_operators(client, settings, made):
    for ending in (".json", ".sha256", ".pdf"):
        path = made.file.with_suffix(ending)
        path.rename(path.with_name(path.name.replace("report", "private")))
    name = made.name.replace("report", "private")
    path = made.file.with_name(f"{name}.json")
    path.write_text(path.read_text().replace('"kind": "report"', '"kind": "private"'))
    address = reverse("bundle-file", args=[name, "pdf"])
    for role, allowed in (("anonymous", False), ("reader", False), ("curator", False), ("operator", True),
                          ("local", True)):  # fmt: skip
        sign_in(client, settings, role)
        response = client.get(address)
        assert (response.status_code == 200) is allowed, role
        assert (name in client.get(reverse("bundles")).content.decode()) is allowed, role


def _plain(title: str) -> str:
    """As much of a title as stands on one line."""
    return " ".join(title.split()[:3])


def test_the_api_asks_follows_and_cancels(client, settings, made):
    listed = client.get("/api/v1/bundles").json()
    assert listed["total"] == 1 and listed["results"][0]["sha256"] == made.sha256
    assert listed["results"][0]["pdf"].endswith(f"/bundles/{made.name}.pdf")

    def ask(**body):
        return client.post("/api/v1/bundles", json.dumps(body), content_type="application/json")

    sign_in(client, settings, "anonymous")
    assert ask(query="?q=mamba").status_code == 401
    sign_in(client, settings, "reader")
    there = ask(query="?q=mamba")
    assert (there.status_code, there.json()["bundle"]["name"]) == (200, made.name)
    assert ask(kind="private").status_code == 403 and ask(fetch=True).status_code == 403
    assert ask(query="year=soon").status_code == 422 and ask(kind="book").status_code == 422
    asked = ask(query="?q=rwkv")
    assert asked.status_code == 202 and asked.json()["status"] == "queued"
    place = f"/api/v1/bundles/jobs/{asked.json()['job']}"
    assert client.get(place).json()["bundle"] is None
    sign_in(client, settings, "owner")
    assert client.post(f"{place}/cancel").status_code == 403
    sign_in(client, settings, "reader")
    assert client.post(f"{place}/cancel").json()["status"] == "cancelled"
    assert client.get("/api/v1/bundles/jobs/999999").status_code == 404


def test_a_private_collection_makes_a_bundle_of_its_owner(client, settings, catalogue, data):
    from readers.models import Collection
    from readers.services import add
    from tests.site.people import person

    mine = Collection.objects.create(owner=person("owner"), name="Mine", visibility="private")
    add(mine, Work.objects.get(slug="mamba"))
    with pytest.raises(bundle_plan.NotUnderstood):
        bundle_plan.plan("report", f"collection={mine.pk}")
    plan = bundle_plan.plan("report", f"collection={mine.pk}", person("owner"))
    assert plan.owner == person("owner").pk and [item.slug for item in plan.items] == ["mamba"]
    address = reverse("bundle-file", args=[bundle_store.make(plan, lambda *told: None).name, "pdf"])
    for role, allowed in (("anonymous", False), ("reader", False), ("owner", True), ("operator", True)):
        assert (sign_in(client, settings, role).get(address).status_code == 200) is allowed, role


def test_what_an_ended_job_left_is_removed(catalogue, data):
    left, fresh = bundle_store.folder() / "x.pdf.1.tmp", bundle_store.folder() / "y.pdf.2.tmp"
    for path in (left, fresh):
        path.write_bytes(b"half")
    os.utime(left, (1, 1))
    bundle_store.make_room(keep="")
    assert not left.exists() and fresh.exists()


def test_a_bundle_that_an_earlier_version_made_is_the_operators(client, settings, made):
    """Its cover and its manifest show the query."""
    path = made.file.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"query": "?q=mamba"}))
    for role, allowed in (("anonymous", False), ("reader", False), ("operator", True)):
        sign_in(client, settings, role)
        assert (made.name in client.get(reverse("bundles")).content.decode()) is allowed, role
        assert (client.get(reverse("bundle-file", args=[made.name, "json"])).status_code == 200) is allowed, role


def test_the_same_works_are_the_same_bundle_whatever_was_typed(catalogue):
    first, second = (bundle_plan.plan("report", query) for query in ("?q=mamba", "?q=mamba+-zebra"))
    assert first.name == second.name, "a digest of the query would let it be guessed"


def test_a_bundle_of_a_collection_by_its_link_is_not_everybodys(catalogue):
    from readers.models import Collection
    from readers.services import add
    from tests.site.people import person

    shared = Collection.objects.create(owner=person("owner"), name="Shared", visibility="link")
    add(shared, Work.objects.get(slug="mamba"))
    query = f"collection={shared.key}"
    assert bundle_plan.plan("report", query, person("reader")).owner == person("reader").pk
    assert bundle_plan.plan("report", query).owner == person("owner").pk
    assert shared.key not in json.dumps(bundle_plan.manifest(bundle_plan.plan("report", query)))
    Collection.objects.filter(pk=shared.pk).update(visibility="public")
    assert bundle_plan.plan("report", query, person("reader")).owner is None
