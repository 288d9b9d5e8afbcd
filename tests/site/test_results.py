"""Results that can be trusted: stale ones told, runs compared and repeated, claims over time, endings announced."""

import re
import xml.etree.ElementTree as ET

import pytest

from jobs.models import Job
from jobs.states import change
from reproductions import stale
from reproductions.models import Reproduction, Run
from tests.site import measured
from tests.site.shown import text

pytestmark = pytest.mark.django_db
ATOM = "{http://www.w3.org/2005/Atom}"
ROW = re.compile(r"<tr[^>]*>.*?</tr>", re.S)


def outdate(made: Reproduction, **changes) -> None:
    made.spec = made.spec | {"measurement": "1" * 16} | changes
    made.measurement = "1" * 16
    made.save()


def test_the_plots_are_those_of_the_run_that_says_most_and_the_others_are_named(made, client):
    gpu = {"device_name": "Test GPU", "cpu": "Test CPU", "torch": "2", "python": "3"}
    large = measured.run(made, 1.5, size="full", environment=gpu)
    small = measured.run(made, 1.5)
    page = client.get("/papers/flashattention/")
    assert f"/runs/{large.pk}/plots/0" in page.content.decode()
    assert f"/runs/{small.pk}/plots/0" not in page.content.decode()
    assert f"run {small.pk} on Test CPU, size cpu." in text(page)
    assert f"Run {large.pk} on Test GPU, size full, which has the paper's scale" in text(page)


class TestStale:
    """What an earlier version measured."""

    def test_results_of_an_earlier_version_are_told_and_can_be_run_again(self, reader, made):
        old = measured.run(made, 1.0)
        assert "Stale" not in text(reader.get("/papers/flashattention/"))
        outdate(made)
        for address in ("/papers/flashattention/", "/runs/?stale=yes"):
            page = reader.get(address).content.decode()
            assert f'action="/runs/{old.pk}/again/"' in page
            assert 'class="chip verdict-replicated"' in page
        assert "outdated: the code has changed since" in text(reader.get(f"/runs/{old.pk}/"))
        assert reader.post(f"/runs/{old.pk}/again/").status_code == 302
        again = Run.objects.first()
        assert (again.measurement, again.size, again.job.status) == ("1" * 16, "cpu", "queued")

    def test_the_present_version_takes_its_place_at_the_same_scale(self, made):
        small, large = measured.run(made, 1.0), measured.run(made, 1.0, size="full")
        outdate(made)
        assert stale.of(made) == [large]
        measured.run(made, 1.1)
        assert stale.of(made) == [large] and stale.of_all() == [large]
        measured.run(made, 1.1, size="full")
        assert stale.of(made) == [] and Run.objects.get(pk=small.pk).is_stale

    def test_what_never_was_evidence_is_not_stale(self, made):
        measured.run(made, 1.0, size="smoke")
        measured.run(made, 1.0, customised=True)
        outdate(made)
        assert stale.of(made) == []

    def test_old_verdicts_keep_their_bound(self, client, made):
        old = measured.run(made, 1.0)
        outdate(made, checks=[measured.CHECKS[0] | {"at_most": 0.1}, *measured.CHECKS[1:]])
        page = text(client.get("/papers/flashattention/claims/exactness/"))
        assert "at most 2" in page and "at most 0.1" in page and "older spec" in page
        assert old.verdicts.first().outcome == "replicated"


class TestAgain:
    """Re-run, and re-run with a change."""

    def test_the_same_parameters_and_seed(self, reader, made):
        first = measured.run(made, 1.0, parameters={"lengths": [3, 4]}, customised=True, seed=7)
        response = reader.post(f"/runs/{first.pk}/again/")
        again = Run.objects.first()
        assert response.url == f"/runs/{again.pk}/" and again.pk != first.pk
        same = ("size", "device", "seed", "parameters", "customised")
        assert [getattr(again, name) for name in same] == [getattr(first, name) for name in same]
        assert again.command == first.command

    def test_the_form_holds_what_the_run_was_asked_for(self, reader, made):
        first = measured.run(made, 1.0, size="smoke", parameters={"lengths": [3, 4]}, customised=True, seed=7)
        page = reader.get(f"/papers/flashattention/?from={first.pk}").content.decode()
        assert 'name="lengths" value="3,4"' in page and re.search(r'name="seed"[^>]*value="7"', page)
        assert '<option value="smoke" selected>' in page and f'href="/runs/{first.pk}/"' in page
        form = {"size": "smoke", "device": "cpu", "lengths": "3,5", "seed": "7"}
        assert reader.post("/papers/flashattention/run/", form).status_code == 302
        assert (Run.objects.first().parameters, Run.objects.first().seed) == ({"lengths": [3, 5]}, 7)

    @pytest.mark.parametrize("wrong", ["999999", "x", "9" * 40, "-1"])
    def test_a_run_that_is_not_there_fills_in_nothing(self, client, made, wrong):
        assert client.get("/papers/flashattention/", {"from": wrong}).status_code == 200

    @pytest.mark.parametrize("wrong", ["x", "²", "9" * 30])
    def test_a_refused_form_that_names_no_run_is_shown_again(self, reader, made, wrong):
        sent = {"size": "nope", "device": "cpu", "from": wrong}
        assert reader.post("/papers/flashattention/run/", sent).status_code == 400

    @pytest.mark.parametrize("seed", ["x", "-1", str(2**31), "1.5", "²"])
    def test_a_seed_that_is_none(self, reader, made, seed):
        response = reader.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu", "seed": seed})
        assert response.status_code == 400 and "seed: expected a whole number from 0 to" in text(response)

    def test_another_seed_is_another_run(self, reader, made):
        measured.run(made, 1.0)
        form = {"size": "cpu", "device": "cpu"}
        assert reader.post("/papers/flashattention/run/", form).status_code == 200  # offered, not measured
        assert reader.post("/papers/flashattention/run/", form | {"seed": "1"}).status_code == 302

    def test_what_cannot_be_run_any_more_says_why(self, reader, made):
        old = measured.run(made, 1.0, parameters={"lengths": [3], "gone": 1}, customised=True)
        response = reader.post(f"/runs/{old.pk}/again/")
        assert response.status_code == 400 and "gone: no such parameter" in text(response)
        assert Run.objects.count() == 1

    def test_visitors_do_not_run(self, client, made):
        old = measured.run(made, 1.0)
        assert "/accounts/login/" in client.post(f"/runs/{old.pk}/again/").url
        assert client.get(f"/runs/{old.pk}/again/").status_code == 405 and Run.objects.count() == 1


class TestCompare:
    """Two runs side by side."""

    def test_differences_are_told(self, client, made):
        a = measured.run(made, 1.0)
        b = measured.run(made, 1.5, seed=3, environment={"device_name": "Other CPU", "torch": "2"})
        page = client.get(f"/runs/compare?a={a.pk}&b={b.pk}").content.decode()
        differing = [re.sub(r"<[^>]*>|\s+", " ", row) for row in ROW.findall(page) if 'class="differs"' in row]
        names = {row.split()[0] for row in differing}
        assert {"seed", "device"} <= names and "torch" not in names
        said = " ".join(re.sub(r"<[^>]*>", " ", page).split())
        assert "1.5 intervals apart" in said and "the same" in said and "Other CPU" in said
        for index in (0, 1):
            drawn = client.get(f"/runs/compare/plots/{index}.svg?a={a.pk}&b={b.pk}")
            assert drawn["Content-Type"] == "image/svg+xml"
            assert f"run {a.pk}" in drawn.content.decode() and f"run {b.pk}" in drawn.content.decode()
            assert f"/runs/compare/plots/{index}.svg?a={a.pk}&amp;b={b.pk}" in page

    def test_one_run_offers_the_others(self, client, made):
        a, b = measured.run(made, 1.0), measured.run(made, 1.5)
        assert f"?a={a.pk}&amp;b={b.pk}" in client.get(f"/runs/compare?a={a.pk}").content.decode()
        assert f"/runs/compare?a={a.pk}" in client.get(f"/runs/{a.pk}/").content.decode()

    @pytest.mark.parametrize("query", ["", "a=x", "a=999999", "b=1", "a=%C2%B2", "a=99999999999999999999999"])
    def test_runs_that_are_not_there(self, client, made, query):
        response = client.get(f"/runs/compare?{query}")
        assert response.status_code == 400 and "expected the number" in text(response)

    def test_runs_of_two_works(self, client, made):
        from catalog.models import Work

        work = Work.objects.get(slug="streaming-llm")
        other = Reproduction.objects.create(work=work, question="?", spec=measured.SPEC, measurement="0" * 16)
        a, b = measured.run(made, 1.0), measured.run(other, 1.0)
        response = client.get(f"/runs/compare?a={a.pk}&b={b.pk}")
        assert response.status_code == 400 and "expected two runs of one work" in text(response)
        assert client.get(f"/runs/compare/plots/0.svg?a={a.pk}&b={b.pk}").status_code == 404

    def test_a_run_without_verdicts(self, client, made):
        a = measured.run(made, 1.0)
        job = Job.objects.create(kind="run", device="cpu", time_limit_s=10)
        b = Run.objects.create(job=job, reproduction=made, size="cpu", device="cpu", parameters={}, scale="reduced",
                               measurement="0" * 16, checks=[])  # fmt: skip
        assert "no such check" in text(client.get(f"/runs/compare?a={a.pk}&b={b.pk}"))


class TestHistory:
    """One claim over time."""

    def test_every_verdict_with_its_plot(self, client, made):
        first = measured.run(made, 1.0)
        measured.run(made, 9.0, size="smoke")
        last = measured.run(made, 5.0)
        page = text(client.get("/papers/flashattention/claims/exactness/"))
        assert "largest error at most 2" in page and "no evidence" in page and "contradicted" in page
        assert f"it turned from replicated ( run {first.pk} ) to contradicted ( run {last.pk} )" in page
        drawn = client.get("/papers/flashattention/claims/exactness/0.svg?theme=dark").content.decode()
        assert "<svg" in drawn and "Test CPU" in drawn
        assert client.get("/papers/flashattention/claims/exactness/9.svg").status_code == 404
        for place in ("/papers/flashattention/", "/claims/?q=flashattention", f"/runs/{first.pk}/"):
            assert "/papers/flashattention/claims/exactness/" in client.get(place).content.decode(), place

    def test_a_claim_that_nothing_measured(self, client, made):
        assert "Not measured yet: it needs a GPU" in text(client.get("/papers/flashattention/claims/runtime/"))
        assert "No check of ours" in text(client.get("/papers/flashattention/claims/hbm-traffic/"))
        assert client.get("/papers/flashattention/claims/nothing/").status_code == 404
        assert client.get("/papers/flashattention/claims/runtime/0.svg").status_code == 404

    def test_a_work_without_reproduction(self, client, catalogue):
        from catalog.models import Claim

        claim = Claim.objects.filter(work__slug="vllm").first()
        assert "no reproduction" in text(client.get(f"/papers/vllm/claims/{claim.key}/"))


class TestEndings:
    """The page's title, the fragment's, and the feed."""

    def test_the_title_follows_the_run(self, client, made):
        run = measured.run(made, 9.0)
        whole = client.get(f"/runs/{run.pk}/").content.decode()
        part = client.get(f"/runs/{run.pk}/", headers={"HX-Request": "true"}).content.decode()
        titles = [re.search(r"<title>(.*?)</title>", page, re.S)[1] for page in (whole, part)]
        assert titles[0] == titles[1]
        assert titles[0].startswith(f"finished: 1 contradicted, 2 not testable here, 1 replicated · Run {run.pk} of ")
        assert "<html" not in part

    def test_the_feed_tells_endings(self, client, made):
        run = measured.run(made, 9.0)
        job = Job.objects.create(kind="run", device="cpu", time_limit_s=10)
        Run.objects.create(job=job, reproduction=made, size="cpu", device="cpu", parameters={}, scale="reduced",
                           measurement="0" * 16, checks=[])  # fmt: skip
        feed = client.get("/feeds/runs.atom")
        assert feed["Content-Type"].startswith("application/atom+xml")
        entries = ET.fromstring(feed.content).findall(f"{ATOM}entry")
        assert len(entries) == 1, "a run that waits has not ended"
        assert entries[0].find(f"{ATOM}id").text == f"urn:uuid:{run.uid}"
        assert "finished: 1 contradicted" in entries[0].find(f"{ATOM}title").text
        change(job.pk, 0, [Job.Status.QUEUED], Job.Status.CANCELLED)
        assert b"cancelled" in client.get("/feeds/runs.atom?work=flashattention").content
        assert b"<entry>" not in client.get("/feeds/runs.atom?work=nothing").content
        assert 'href="/feeds/runs.atom"' in client.get("/runs/").content.decode()


def test_no_query_a_row(client, made, django_assert_max_num_queries):
    for error in range(12):
        measured.run(made, error)
    for address in ("/papers/flashattention/claims/exactness/", "/feeds/runs.atom", "/runs/"):
        with django_assert_max_num_queries(12):
            assert client.get(address).status_code == 200


def test_pages_keep_to_the_policy(client, made):
    a, b = measured.run(made, 1.0), measured.run(made, 2.0)
    outdate(made)
    for address in (f"/runs/compare?a={a.pk}&b={b.pk}", "/papers/flashattention/claims/exactness/", "/runs/?stale=yes"):
        page = client.get(address).content.decode()
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", page), address
