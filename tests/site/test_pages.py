"""The pages as a visitor gets them: what they show, what they refuse, how much they ask of the database."""

import gzip
import json
import re

import pytest
from django.urls import reverse
from django.utils import timezone

from jobs.models import Job, Node
from jobs.states import change
from reproductions import drawing, runs
from reproductions.models import Reproduction, Run, Verdict
from tests.site import measured, people
from tests.site.measured import CHECKS, SPEC
from tests.site.shown import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("catalogue")]
Status = Job.Status


def test_the_paper_says_beside_what_was_measured(client, made):
    measured.run(made, 1.25)
    page = text(client.get("/papers/flashattention/"))
    assert "largest error at most 2 because rounding 1.25" in page
    assert "Test CPU , size cpu" in page and "replicated reduced scale" in page
    assert "not measured: needs a CUDA GPU" in page
    assert "Not tested: needs hardware counters" in page
    assert "about 5.7 x" in page


def test_contradicted_is_said_as_loudly(client, made):
    measured.run(made, 9.0)
    page = client.get("/papers/flashattention/")
    total = made.work.claims.count()
    told = f"1 of {total} claims held; 1 contradicted, {total - 2} not measured in full"
    assert f"{told}." in text(page) and f'aria-label="{told}"' in page.content.decode()
    assert "contradicted" in text(client.get("/?q=flashattention"))


def test_a_claim_with_an_unmeasured_check_is_not_called_replicated(made):
    gpu = CHECKS[2] | {"claim": "exactness"}
    made.spec = SPEC | {"checks": [CHECKS[0], gpu]}
    made.headlines = [{"position": 0, "outcome": "replicated"}]
    assert made.headline_counts == []
    made.headlines[0]["outcome"] = "contradicted"
    assert made.headline_counts == [("contradicted", 1)]


def test_which_run_is_the_headline(client, made):
    measured.run(made, 1.0)
    assert made.headlines[0]["value"] == 1.0
    measured.run(made, 1.5)
    measured.run(made, 7.0, size="smoke")
    measured.run(made, 8.0, customised=True)
    measured.run(made, 9.0, measurement="old")
    assert made.headlines[0]["value"] == 1.5
    measured.run(made, 1.1, size="full")
    measured.run(made, 1.7)
    assert [h["value"] for h in made.headlines if h["position"] == 0] == [1.1]


def test_old_verdicts_keep_the_bound_they_were_judged_by(made):
    run = measured.run(made, 1.25)
    SPEC_NOW = SPEC | {"checks": [CHECKS[0] | {"at_most": 0.5}, *CHECKS[1:]], "measurement": "def"}
    Reproduction.objects.update(spec=SPEC_NOW, measurement="def")
    runs.judge(Run.objects.get(pk=run.pk))
    assert Verdict.objects.get(run=run, position=0).outcome == "replicated"


def test_a_run_page_shows_verdicts_plots_and_the_command(client, made):
    run = measured.run(made, 1.25)
    response = client.get(f"/runs/{run.pk}/")
    assert "finished" in text(response) and "Repeat it python -m reproductions run flashattention" in text(response)
    assert f"/runs/{run.pk}/plots/0.svg" in response.content.decode()
    drawn = client.get(f"/runs/{run.pk}/plots/0.svg?theme=dark")
    assert drawn["Content-Type"] == "image/svg+xml" and b"<svg" in drawn.content
    assert client.get(f"/runs/{run.pk}/plots/9.svg").status_code == 404


def test_a_failed_run_says_why_and_what_next(client, made):
    job = Job.objects.create(kind="run", device="cpu", time_limit_s=10)
    values = {"parameters": {}, "scale": "reduced", "measurement": SPEC["measurement"], "checks": CHECKS}
    run = Run.objects.create(job=job, reproduction=made, size="cpu", device="cpu", **values)
    change(job.pk, 0, [Status.QUEUED], Status.STARTING)
    change(job.pk, 1, [Status.STARTING], Status.FAILED, code="timeout", reason="stopped after 10 s, its time limit")
    page = text(client.get(f"/runs/{run.pk}/"))
    assert "failed" in page and "stopped after 10 s" in page and "Choose a smaller size" in page


def test_a_visitor_reads_but_does_not_run(client, made):
    assert "Sign in" in text(client.get("/papers/flashattention/"))
    response = client.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu"})
    assert response.status_code == 302 and "/accounts/login/" in response.url
    assert not Job.objects.exists()


def test_a_reader_runs(reader, made):
    response = reader.post("/papers/flashattention/run/", {"size": "smoke", "device": "cpu", "lengths": " 3 , 4 "})
    run = Run.objects.get()
    assert response.url == f"/runs/{run.pk}/"
    assert (run.parameters, run.customised, run.job.status) == ({"lengths": [3, 4]}, True, "queued")
    assert run.job.requires == "flashattention@0000000000000000" and run.job.user.username == "reader"
    assert "--set lengths=3,4" in run.command


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lengths": "banana"}, "lengths: expected a whole number, got &#x27;banana&#x27;"),
        ({"lengths": "65"}, "between 1 and 64"),
        ({"size": "huge"}, "size: expected one of smoke, cpu, full"),
        ({"device": "tpu"}, "device: expected one of cpu, cuda"),
        ({"device": "cuda"}, "no connected node has cuda"),
    ],
)
def test_a_form_that_cannot_be_is_given_back_with_the_reason(reader, made, changes, words):
    response = reader.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu"} | changes)
    assert response.status_code == 400 and words in text(response)
    assert not Job.objects.exists()
    if "lengths" in changes:
        assert f'value="{changes["lengths"]}"' in response.content.decode()


def test_only_the_owner_or_an_operator_cancels(reader, made, django_user_model):
    reader.post("/papers/flashattention/run/", {"size": "smoke", "device": "cpu"})
    run = Run.objects.get()
    other = django_user_model.objects.create_user("other")
    reader.force_login(other)
    assert reader.post(f"/runs/{run.pk}/cancel/").status_code == 403
    run.job.refresh_from_db()
    assert run.job.status == "queued"
    reader.force_login(django_user_model.objects.create_user("operator", is_staff=True))
    assert reader.post(f"/runs/{run.pk}/cancel/").status_code == 302
    run.job.refresh_from_db()
    assert run.job.status == "cancelled"


def test_get_never_changes_state(reader, made):
    assert reader.get("/papers/flashattention/run/").status_code == 405
    assert reader.get("/runs/1/cancel/").status_code == 405
    assert reader.post("/").status_code == 405


def test_pages_that_are_not_there(client):
    for address in ("/papers/nothing/", "/runs/999999/", "/nowhere/"):
        response = client.get(address)
        assert response.status_code == 404 and "Not found" in text(response)


def test_no_inline_script_or_style_and_a_strict_policy(client, made):
    run = measured.run(made, 1.25)
    for address in ("/", "/papers/flashattention/", "/runs/", f"/runs/{run.pk}/", "/accounts/login/"):
        response = client.get(address)
        page = response.content.decode()
        assert not re.search(r"<style|<script(?![^>]*(\bsrc=|application/ld\+json))|\sstyle=|\son\w+=", page), address
        assert "script-src 'self'" in response["Content-Security-Policy"]


def test_the_local_operator_has_a_cookie_of_this_start(client, settings, made):
    assert "Sign in" in text(client.get("/"))
    people.sign_in(client, settings, "local")
    assert "local operator" in text(client.get("/"))
    (cookie,) = (c for name, c in client.cookies.items() if name.startswith("claimcheck-"))
    assert cookie["httponly"] and cookie["samesite"] == "Strict" and settings.LOCAL_SECRET not in cookie.value
    settings.LOCAL_SECRET = "another start"
    assert "Sign in" in text(client.get("/"))
    settings.LOCAL_SECRET = ""
    assert "Sign in" in text(client.get("/")) and client.get("/enter/?key=").status_code == 403


def test_a_wrong_key_is_refused_with_the_way_in(client, settings, made):
    settings.LOCAL_SECRET = "known to the one who started it"
    for key in ("", "x", "é", "a" * 5000):
        answer = client.get("/enter/", {"key": key}, headers={"Host": "localhost"})
        assert answer.status_code == 403 and "manage.py up prints another one" in text(answer)
        assert not [name for name in answer.cookies if name.startswith("claimcheck-")]
    assert "open the address that manage.py up printed" in text(client.get("/accounts/login/"))


def test_forms_need_their_token(made, django_user_model):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(django_user_model.objects.create_user("reader"))
    assert strict.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu"}).status_code == 403


def test_a_bad_result_is_no_finished_run(made, tmp_path):
    from jobs.supervise import BadResult

    run = measured.run(made, 1.0)
    result = {"environment": {}, "seconds": 1, "peak_memory_mib": 1, "measurement": SPEC["measurement"]}
    cases = {
        "it left no rows": (None, result),
        "a row is not JSON": ("{", result),
        "cannot be read": ("{}\n", None),
        "expected results of measurement 0000": ("{}\n", result | {"measurement": "other"}),
    }
    for words, (rows, data) in cases.items():
        for name in ("rows.jsonl", "result.json"):
            (tmp_path / name).unlink(missing_ok=True)
        if rows is not None:
            (tmp_path / "rows.jsonl").write_text(rows)
        if data is not None:
            (tmp_path / "result.json").write_text(json.dumps(data))
        with pytest.raises(BadResult, match=words):
            runs.store(run.job, tmp_path, finished=True)


def test_a_killed_run_keeps_its_rows(made, tmp_path):
    run = measured.run(made, 1.0)
    (tmp_path / "rows.jsonl").write_text('{"n": 1, "x": NaN}\n{"n": 2')
    runs.store(run.job, tmp_path, finished=False)
    assert Run.objects.get(pk=run.pk).rows == [{"n": 1, "x": "NaN"}]


def test_health_is_honest(client):
    response = client.get("/health/")
    assert response.status_code == 503 and "Redis does not work" in text(response)
    assert "workers does not work none is heard" in text(response)


def test_an_identical_result_is_offered_before_it_is_measured_again(reader, made):
    address = "/papers/flashattention/run/"
    first = measured.run(made, 1.0)
    Job.objects.filter(pk=first.job_id).update(ended_at="2026-01-02T03:04:00Z")
    page = reader.post(address, {"size": "cpu", "device": "cpu"})
    assert page.status_code == 200 and f'href="/runs/{first.pk}/"' in page.content.decode()
    assert "Run it again" in text(page) and Run.objects.count() == 1
    assert reader.post(address, {"size": "cpu", "device": "cpu", "lengths": "3"}).status_code == 302
    assert reader.post(address, {"size": "cpu", "device": "cpu", "again": "yes"}).status_code == 302
    assert Run.objects.count() == 3


def test_a_run_that_no_connected_node_could_take_is_refused(reader, made):
    now = timezone.now()
    node = Node.objects.create(
        name="n", host="h", pid=1, device="cpu", device_name="c", offers=[], started_at=now, heartbeat_at=now
    )
    page = reader.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu"})
    assert page.status_code == 400 and "n: it has another version of the reproduction: restart its worker" in text(page)
    Node.objects.filter(pk=node.pk).update(offers=["flashattention@0000000000000000"])
    assert reader.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu"}).status_code == 302


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"memory_gib": 80}, "n: it has 24 GiB of memory, 80 are needed"),
        ({"capability": 9.0}, "n: its compute capability is 0, 9 is needed"),
    ],
)
def test_a_run_that_needs_a_larger_device_is_refused_before_it_is_queued(reader, made, needs, words):
    now = timezone.now()
    Node.objects.create(
        name="n", host="h", pid=1, device="cpu", device_name="c", memory_gib=24,
        offers=["flashattention@0000000000000000"], started_at=now, heartbeat_at=now,
    )  # fmt: skip
    made.spec["sizes"]["cpu"]["needs"] = needs
    made.save()
    page = reader.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu"})
    assert page.status_code == 400 and words in text(page)
    assert not Job.objects.exists()


def test_a_day_has_so_many_runs_and_our_own_faults_are_not_charged(reader, made, settings):
    settings.RUNS_PER_USER_A_DAY = 2
    ask = {"size": "cpu", "device": "cpu", "again": "yes"}
    assert [reader.post("/papers/flashattention/run/", ask).status_code for _ in range(3)] == [302, 302, 400]
    job = Job.objects.first()
    ended = {"status": "failed", "ended_at": timezone.now(), "code": "lost-worker", "reason": "silent"}
    Job.objects.filter(pk=job.pk).update(**ended)
    assert reader.post("/papers/flashattention/run/", ask).status_code == 302


def test_nobody_fills_the_queue(reader, made, settings):
    settings.WAITING_RUNS_PER_USER = 2
    answers = [reader.post("/papers/flashattention/run/", {"size": "cpu", "device": "cpu"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [302, 302, 400]
    assert "you have 2 runs waiting" in text(answers[2])


def test_a_plot_that_the_rows_have_nothing_for_is_left_out(client, made):
    """A plot of what only a GPU measures, on a page of a CPU's run."""
    run = measured.run(made, 1.25)
    spec = run.reproduction.spec
    spec["plots"] = [spec["plots"][0] | {"title": "Only on a GPU", "y": "tflops"}, *spec["plots"]]
    run.reproduction.save(update_fields=["spec"])
    page = client.get(f"/runs/{run.pk}/").content.decode()
    assert "Only on a GPU" not in page and f"/runs/{run.pk}/plots/1.svg" in page
    assert client.get(f"/runs/{run.pk}/plots/1.png").status_code == 200
    assert client.get(f"/runs/{run.pk}/plots/0.png").status_code == 404


def test_a_time_limit_is_said_as_the_nodes_that_could_take_the_run_have_it(reader, made):
    def limits() -> list[str]:
        page = reader.get("/papers/flashattention/").content.decode()
        return re.findall(r"cpu: reduced scale, (at most [^<]*)<", page)

    now = timezone.now()
    node = {"host": "h", "pid": 1, "device": "cpu", "started_at": now, "heartbeat_at": now, "offers": [made.requires]}
    assert limits() == ["at most 10.0 s"]
    Node.objects.create(name="one", time_factor=2.5, **node)
    assert limits() == ["at most 25.0 s"]
    Node.objects.create(name="two", time_factor=9, **node)
    assert limits() == ["at most 25.0 s to 1 min 30 s, by node"]
    Node.objects.filter(name="two").update(offers=["another"])
    assert limits() == ["at most 25.0 s"]
    Node.objects.filter(name="one").update(draining=True)
    assert limits() == ["at most 10.0 s"]


def test_a_packed_script_is_not_rewritten_as_if_it_were_text(client):
    """The script that draws plots goes out compressed; a browser refuses it with one byte changed."""
    address = reverse("plot_bundle", args=[drawing.BUNDLE_VERSION])
    packed = client.get(address, headers={"Accept-Encoding": "gzip"})
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == client.get(address, headers={"Accept-Encoding": "identity"}).content
