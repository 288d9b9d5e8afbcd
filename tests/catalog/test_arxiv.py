"""arXiv, spoken to over HTTP: what a sync writes, what it leaves, how it waits, and when it stops."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.utils import timezone

from catalog import arxiv_client, arxiv_gate, arxiv_http, engines, licences
from catalog.arxiv_gate import ArxivFailed, Busy, Frozen
from catalog.models import ArxivAnswer, ArxivGate, Work
from catalog.query import Query
from tests.catalog.arxiv_server import BY, Paper
from tests.catalog.arxiv_works import OLD, SINKS, sync, work

pytestmark = pytest.mark.django_db


def fails(*words: str) -> CommandError:
    with pytest.raises(CommandError) as failed:
        sync(*words)
    return failed.value


# What a sync writes


def test_a_sync_writes_what_arxiv_alone_knows(arxiv):
    arxiv.papers[SINKS].comment, arxiv.papers[SINKS].journal_ref = "12 pages", "Journal 7 (2024)"
    mine, old = work(), work(OLD, "An old paper")
    told = sync(SINKS, OLD)
    mine.refresh_from_db()
    old.refresh_from_db()
    assert (mine.arxiv_version, old.arxiv_version) == (4, 2)
    assert mine.abstract == "We show something small & new."
    assert (mine.arxiv_primary, mine.arxiv_categories) == ("cs.LG", ["cs.LG", "cs.CL"])
    assert (mine.arxiv_comment, mine.journal_ref, mine.withdrawn) == ("12 pages", "Journal 7 (2024)", False)
    assert mine.licence == BY and mine.licence_name == "CC BY 4.0" and licences.may_pass_on(mine.licence)
    assert mine.arxiv_synced_at and mine.arxiv_differences == []
    assert "asked for 2; 2 updated, 0 unchanged" in told
    assert all("Claimcheck" in seen.agent for seen in arxiv.seen)


@pytest.mark.parametrize(
    "text",
    [SINKS, f"{SINKS}v2", f"https://arxiv.org/abs/{SINKS}v3", f"http://browse.arxiv.org/pdf/{SINKS}.pdf",
     f"arXiv:{SINKS}", OLD, f"{OLD}v1", f"https://arxiv.org/abs/{OLD}"],
)  # fmt: skip
def test_ids_in_every_form(arxiv, text):
    made = [work(), work(OLD, "An old paper")]
    sync(text)
    synced = Work.objects.exclude(arxiv_synced_at=None).get()
    assert synced in made and (synced.arxiv_id == OLD) == ("hep-th" in text)


def test_the_abstract_can_be_found(arxiv):
    arxiv.papers[SINKS].abstract = "About zyzzogetons."
    made = work()
    sync(SINKS)
    assert made.pk in engines.match(Query(words=["zyzzogetons"]))


def test_what_people_wrote_stays_and_what_differs_is_told(arxiv):
    arxiv.papers[SINKS] = Paper("Another title", 1, ("Ann Author", "Carl New"), doi="10.1/x")
    made = work(doi="10.2/y")
    Work.objects.filter(pk=made.pk).update(bundled="digest")
    told = sync(SINKS)
    made.refresh_from_db()
    assert (made.title, made.doi, made.bundled) == ("Sinks: a paper", "10.2/y", "digest")
    assert [a.author.name for a in made.authorships.all()] == ["Ann Author", "Bob Böse"]
    assert [fact for fact, *_ in made.arxiv_differences] == ["title", "authors", "DOI"]
    assert "differs in title, ours stays: 'Sinks: a paper'; arXiv has 'Another title'" in told


def test_case_and_accents_are_no_difference_and_gaps_are_filled(arxiv):
    arxiv.papers[SINKS] = Paper("SINKS — a Paper", 1, ("Ann Author", "Bob Bose"), doi="10.1/x 10.1/y")
    made = work(published_precision="none")
    sync(SINKS)
    made.refresh_from_db()
    assert made.arxiv_differences == []
    assert (made.doi, made.published_text) == ("10.1/x", "2023-09-29")
    made.authorships.all().delete()
    ArxivAnswer.objects.all().delete()
    assert "authors: Ann Author, Bob Bose" in sync(SINKS)
    fills = made.history.filter(history_change_reason="arXiv")
    assert fills.count() == 2, "people see in the history what arXiv filled"


def test_an_incomplete_list_of_authors_differs_only_where_it_says_otherwise(arxiv):
    arxiv.papers[SINKS].authors = ("Zoe First", "Ann Author", "Bob Böse")
    made = work(authors_complete=False)
    sync(SINKS)
    made.refresh_from_db()
    assert made.arxiv_differences == []


def test_a_title_that_is_0(arxiv):
    arxiv.papers[SINKS].title = "0"
    work(title="0")
    assert "1 updated" in sync(SINKS)
    assert Work.objects.get(arxiv_id=SINKS).arxiv_differences == []
    Work.objects.filter(arxiv_id=SINKS).delete()
    assert "added as 0" in sync(SINKS, "--add")
    assert Work.objects.get(arxiv_id=SINKS).title == "0"


@pytest.mark.parametrize(
    ("comment", "abstract", "withdrawn"),
    [
        ("This paper has been withdrawn by the author due to an error in Lemma 2", "We prove it.", True),
        ("Withdrawn", "We prove it.", True),
        ("withdrawn because of a sign error", "We prove it.", True),
        ("", "This paper has been withdrawn by arXiv administrators.", True),
        ("12 pages, 3 figures", "We study how money is withdrawn from banks.", False),
        ("", "The tokens are withdrawn one by one. This paper says how.", False),
    ],
)
def test_withdrawal(arxiv, comment, abstract, withdrawn):
    arxiv.papers[SINKS].comment, arxiv.papers[SINKS].abstract = comment, abstract
    work()
    sync(SINKS)
    assert Work.objects.get(arxiv_id=SINKS).withdrawn is withdrawn


def test_a_licence_is_asked_for_again_only_with_a_new_version(arxiv):
    arxiv.papers[SINKS].licence = ""
    made = work()
    sync(SINKS)
    made.refresh_from_db()
    assert (made.licence, made.licence_name, made.licence_version) == ("", "", 4)
    ArxivAnswer.objects.all().delete()
    before = len(arxiv.seen)
    assert "1 unchanged" in sync(SINKS)
    assert len(arxiv.seen) == before + 1
    ArxivAnswer.objects.all().delete()
    arxiv.papers[SINKS].version, arxiv.papers[SINKS].licence = 5, BY
    assert "licence: CC BY 4.0" in sync(SINKS)


def test_names_of_licences():
    cc, nd = "http://creativecommons.org/licenses/by-nc-nd/4.0/", "http://arxiv.org/licenses/nonexclusive-distrib/1.0/"
    assert licences.name(cc) == "CC BY-NC-ND 4.0" and licences.may_pass_on(cc)
    assert licences.name(nd) == "arXiv's non-exclusive licence 1.0" and not licences.may_pass_on(nd)
    assert licences.name("http://creativecommons.org/publicdomain/zero/1.0/") == "CC0"
    assert licences.name("x") == "x" and not licences.may_pass_on("") and licences.name("") == ""


# How it asks


def test_pages_follow_each_other(arxiv, monkeypatch):
    monkeypatch.setattr(arxiv_client, "PAGE", 50)
    arxiv.papers |= {f"2401.{i:05}": Paper(f"Paper {i}") for i in range(1, 13)}
    arxiv.page = 5  # it sends fewer than it is asked for
    found = list(arxiv_client.metadata([*arxiv.papers, "2401.99999"]))
    assert sorted(one.arxiv_id for one in found) == sorted(arxiv.papers)
    assert ["start=0&" in s.path or "start=5&" in s.path or "start=10&" in s.path for s in arxiv.seen] == [True] * 3


def test_the_same_is_asked_once_a_day(arxiv):
    work()
    sync(SINKS)
    asked = len(arxiv.seen)
    assert "1 unchanged" in sync(SINKS)
    assert len(arxiv.seen) == asked
    ArxivAnswer.objects.update(at=timezone.now() - timedelta(days=1, seconds=1))
    sync(SINKS)
    assert len(arxiv.seen) == asked + 1
    assert ArxivAnswer.objects.count() == 1, "old answers go"


def test_an_id_that_arxiv_does_not_know(arxiv):
    work("2401.00001", "Nowhere")
    assert "2401.00001: arXiv does not know it" in sync("2401.00001")
    assert Work.objects.get(arxiv_id="2401.00001").arxiv_synced_at is None


@pytest.mark.parametrize("fault", ["malformed", "empty", "reset", (503, "0"), (500, ""), (429, "")])
def test_a_passing_fault_is_tried_again_and_not_remembered(arxiv, fault):
    arxiv.faults = [fault]
    work()
    assert "1 updated" in sync(SINKS)
    assert len(arxiv.seen) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [("malformed", "malformed XML"), ("empty", "an empty page, although there are 1 results"), 
     ("reset", "no connection"), ((503, "0"), "status 503"), ((500, ""), "status 500")],
)  # fmt: skip
def test_a_lasting_fault_ends_the_sync_with_one_line(arxiv, fault, words, tmp_path):
    arxiv.faults = [fault] * 9
    work()
    failed = fails(SINKS, "--folder", str(tmp_path))
    assert failed.returncode == 1 and words in str(failed) and "\n" not in str(failed)
    assert len(arxiv.seen) == 3
    assert json.loads((tmp_path / "failure.json").read_text())["code"] == "source-failed"
    assert Work.objects.get(arxiv_id=SINKS).arxiv_synced_at is None


def test_retry_after_holds_for_everybody(arxiv):
    arxiv.faults = [(503, "1")]
    list(arxiv_client.metadata([SINKS]))
    assert arxiv.seen[1].began - arxiv.seen[0].ended >= 0.99
    arxiv.faults = [(503, "500")]
    with pytest.raises(Busy, match="not asked again before"):
        arxiv_client.licence(SINKS, patience_s=1)
    with pytest.raises(Busy, match="not asked again before"):
        arxiv_client.licence(OLD, patience_s=1)
    assert len(arxiv.seen) == 3
    assert (ArxivGate.objects.get().free_at - timezone.now()).total_seconds() > 490


def test_a_date_in_retry_after(arxiv):
    from email.utils import format_datetime

    arxiv.faults = [(503, format_datetime(timezone.now() + timedelta(seconds=300)))]
    with pytest.raises(Busy):
        arxiv_client.licence(SINKS, patience_s=1)
    assert 290 < (ArxivGate.objects.get().free_at - timezone.now()).total_seconds() < 301


def test_an_error_in_the_protocol_is_told_and_not_repeated(arxiv):
    arxiv.faults = ["bad-request"]
    with pytest.raises(ArxivFailed, match="400: incorrect id format"):
        list(arxiv_client.metadata([SINKS]))
    assert len(arxiv.seen) == 1


@pytest.mark.parametrize("fault", ["slow", "drips"])
def test_a_slow_server_does_not_hold_us(arxiv, monkeypatch, fault):
    monkeypatch.setattr(arxiv_http, "TIMEOUT_S", (1, 0.3))
    monkeypatch.setattr(arxiv_http, "WHOLE_S", 0.5)
    arxiv.faults = [fault] * 3
    with pytest.raises(ArxivFailed, match="too slow|not complete"):
        list(arxiv_client.metadata([SINKS]))


def test_a_redirect_waits_for_its_turn(arxiv, settings):
    settings.ARXIV_GAP_S = 0.3
    arxiv.faults = ["moved"]
    assert arxiv_client.licence(SINKS) == BY
    assert arxiv.seen[1].began - arxiv.seen[0].ended >= 0.3


def test_nobody_there(settings):
    settings.ARXIV_API_URL, settings.ARXIV_GAP_S = "http://127.0.0.1:9/api/query", 0.01
    with pytest.raises(ArxivFailed, match="3 times over: no connection"):
        list(arxiv_client.metadata([SINKS]))


def test_a_403_stops_all_fetching_for_a_day(arxiv, tmp_path):
    made, _ = work(), work(OLD, "An old paper")
    sync(SINKS)
    arxiv.faults = [(403, "")]
    failed = fails(OLD, "--folder", str(tmp_path))
    assert "refused a request (403)" in str(failed) and "nothing is fetched from arXiv until" in str(failed)
    asked = len(arxiv.seen)
    with pytest.raises(Frozen):
        list(arxiv_client.metadata([OLD]))
    with pytest.raises(Frozen):
        arxiv_client.licence(OLD)
    assert len(arxiv.seen) == asked
    assert "1 unchanged" in sync(SINKS), "what was answered today still serves"
    assert ArxivGate.objects.get().frozen_until - timezone.now() > timedelta(hours=23, minutes=59)
    ArxivGate.objects.update(frozen_until=timezone.now())
    assert "1 updated" in sync(OLD)
    assert Work.objects.get(pk=made.pk).licence == BY


def test_what_had_come_is_kept_when_arxiv_refuses(arxiv):
    arxiv.faults = [None, (403, "")]
    work()
    failed = fails(SINKS)
    assert "403" in str(failed)
    assert Work.objects.get(arxiv_id=SINKS).abstract


def test_a_turn_that_does_not_come(arxiv):
    with arxiv_gate.turn(0.01, 1), pytest.raises(Busy, match="under way"), arxiv_gate.turn(0.01, 0.1):
        pass


def test_a_holder_that_died_is_passed_over():
    ArxivGate.objects.update_or_create(pk=1, defaults={"holder": "dead", "free_at": timezone.now()})
    with arxiv_gate.turn(5, 1):
        pass
    assert ArxivGate.objects.get().holder == ""


def test_arxivs_own_servers_always_get_their_three_seconds(settings):
    settings.ARXIV_GAP_S = 0.1
    assert arxiv_http.gap_s("https://export.arxiv.org/api/query?x") == 3
    assert arxiv_http.gap_s("https://oaipmh.arxiv.org/oai") == 3
    assert arxiv_http.gap_s("http://127.0.0.1:9/") == 0.1


# The command


def test_bad_ids_are_refused_before_anything_is_asked(arxiv):
    failed = fails(SINKS, "nonsense")
    assert failed.returncode == 2 and str(failed) == "expected an arXiv id or address, got 'nonsense'"
    Work.objects.filter(arxiv_id=OLD).delete()
    failed = fails(OLD)
    assert failed.returncode == 2 and "no work has the arXiv id hep-th/9901001" in str(failed)
    assert arxiv.seen == []


def test_add_by_command(arxiv):
    Work.objects.filter(arxiv_id__in=[SINKS, OLD]).delete()
    told = sync("--add", f"https://arxiv.org/pdf/{SINKS}v1", OLD)
    assert "2309.17453: added as sinks" in told and "hep-th/9901001: added as an-old-paper" in told
    assert Work.objects.get(arxiv_id=OLD).licence == BY
    assert len(arxiv.seen) == 3, "one for both, and their licences"
    assert "arXiv does not know 2401.00009" in str(fails("--add", "2401.00009"))
