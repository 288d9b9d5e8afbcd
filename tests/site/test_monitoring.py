"""One `up` that logs JSON, as an operator and Prometheus see it: its logs, its request ids, its /metrics."""

import json
import re
import sys
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from email.message import Message

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.installation import ROOT, Installation, eventually
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("up")
FORGED = '/nowhere%0A{"level":"CRITICAL","message":"forged"}'


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A running installation that logs JSON, in which a run has finished."""
    made = Installation(tmp_path_factory.mktemp("monitoring"), LOG_FORMAT="json")
    made.up()
    made.wait_for(made.submit("online-softmax", "smoke"), "finished", "failed")
    yield made
    made.stop()


def ask(up: Installation, path: str, **headers: str) -> tuple[int, Message, str]:
    """(status, headers, text) for a visitor who has nothing but these headers."""
    request = urllib.request.Request(up.url + path, headers=headers)
    try:
        with urllib.request.build_opener().open(request, timeout=allowed(30)) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def cookie(up: Installation) -> str:
    return "; ".join(f"{c.name}={c.value}" for c in up.jar)


def lines(up: Installation, name: str) -> list[dict]:
    """The records of a process; fails on a line that is none."""
    return [json.loads(line) for line in (up.data / "logs" / f"{name}.log").read_text().splitlines()]


def value(text: str, name: str, **labels: str) -> float:
    """A sample of an exposition."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise AssertionError(f"no {name} {labels} in {text}")


def test_every_line_of_every_log_is_an_object_and_tells_a_runs_life(up):
    logs = {path.stem: lines(up, path.stem) for path in (up.data / "logs").glob("*.log") if path.stem != "redis"}
    assert {"web", "control", "worker-cpu"} <= logs.keys()
    for name, records in logs.items():
        assert records, name
        for record in records:
            assert {"time", "level", "logger", "message"} <= record.keys(), record
            assert datetime.fromisoformat(record["time"]).utcoffset() == timedelta(0)
    life = [record["message"] for record in logs["worker-cpu"] if record.get("job") and record.get("node")]
    assert any("attempt 1" in said for said in life) and any("finished" in said for said in life), logs["worker-cpu"]
    assert any("Serving on" in record["message"] for record in logs["web"]), "the web server's own"


def test_a_request_has_a_line_and_its_answer_the_id(up):
    _, headers, _ = ask(up, "/papers/flashattention/?q=private+words")
    (record,) = eventually(
        lambda: [r for r in lines(up, "web") if r.get("request_id") == headers["X-Request-ID"]], "it"
    )
    assert (record["method"], record["route"], record["status"]) == ("GET", "paper", 200) and record["ms"] > 0
    assert record["path"] == "/papers/flashattention/" and record["user_id"] is None
    up.page("/nodes/")
    assert eventually(
        lambda: [r for r in lines(up, "web") if r.get("route") == "nodes" and r["user_id"]], "the operator"
    )


def test_a_refusal_carries_the_id_of_its_request(up):
    _, headers, _ = ask(up, "/nowhere-at-all/")
    found = eventually(
        lambda: [r for r in lines(up, "web") if r.get("request_id") == headers["X-Request-ID"]][1:], "both lines"
    )
    assert "Not Found" in found[0]["message"] and found[0]["logger"] == "django.request"


def test_no_secret_and_no_private_word_is_in_any_log(up):
    key, text = up.address.partition("=")[2], "cc_" + "s" * 40
    for path in (
        f"/enter/?key={key}x", "/collections/shared/openseverything/", "/accounts/reset/MQ/openspassword/",
        "/?q=myprivateword&collection=linkkey0123", "/collections/shared/openseverything", f"/{text}/",
    ):  # fmt: skip
        ask(up, path, Authorization=f"Bearer {text}")
    ask(up, "/api/v1/collections/1?key=linkkey0123", Authorization=f"Bearer {text}")
    _, headers, _ = ask(up, "/last/")
    eventually(lambda: [r for r in lines(up, "web") if r.get("request_id") == headers["X-Request-ID"]], "the last line")
    written = "".join(path.read_text() for path in (up.data / "logs").glob("*.log"))
    assert "/collections/shared/…" in written.encode().decode("unicode_escape", "replace")
    for secret in (key, text, "openseverything", "openspassword", "myprivateword", "linkkey0123", cookie(up)):
        assert secret not in written


def test_nobody_forges_a_line(up):
    for path in (
        FORGED,
        FORGED.replace("%0A", "%0D"),
        FORGED.replace("%0A", "%C2%85"),
        FORGED.replace("%0A", "%E2%80%A8"),
    ):
        ask(up, path, Host="localhost")
    assert not [record for record in lines(up, "web") if record["level"] == "CRITICAL"]


def test_metrics_are_for_operators(up):
    status, headers, text = ask(up, "/metrics")
    assert status == 401 and headers["Content-Type"] == "application/problem+json" and json.loads(text)["detail"]
    assert ask(up, "/metrics", Authorization="Bearer wrong")[0] == 401
    for name, staff, expected in (("reader", False, 403), ("prometheus", True, 200)):
        code = f"""
from django.contrib.auth.models import User
from readers import tokens
print("token:", tokens.create(User.objects.create({name!r}, is_staff={staff}), name="t", scope="read")[1])
""".replace("create('", "create(username='")
        token = re.search(r"token: (\S+)", up.manage("shell", "-c", code).stdout).group(1)
        status, headers, _ = ask(up, "/metrics", Authorization=f"Bearer {token}")
        assert status == expected, name
    assert headers["Content-Type"].startswith("text/plain")
    assert ask(up, "/metrics", Cookie=cookie(up))[0] == 200, "the local operator"


def test_metrics_tell_what_there_is(up):
    text = ask(up, "/metrics", Cookie=cookie(up))[2]
    ended = {"kind": "run", "status": "finished"}
    assert value(text, "claimcheck_jobs_ended_total", **ended) == 1
    assert value(text, "claimcheck_jobs_ended_total", kind="run", code="disk-full", fault="platform") == 0
    assert value(text, "claimcheck_nodes", device="cpu", state="able") == 1
    assert value(text, "claimcheck_jobs", device="cpu", status="queued") == 0
    assert value(text, "claimcheck_queue_oldest_age_seconds", device="cpu") == 0
    assert value(text, "claimcheck_database_up") == value(text, "claimcheck_redis_up") == 1
    assert value(text, "claimcheck_sweep_age_seconds") < allowed(60)
    assert value(text, "claimcheck_disk_free_bytes", disk="data") > 2**20
    assert value(text, "claimcheck_request_duration_seconds_count", route="paper", method="GET", status="2xx") >= 1
    assert value(text, "process_resident_memory_bytes") > 2**20
    assert value(text, "claimcheck_build_info", version=r"0.1.0") == 1
    routes = {s.labels["route"] for f in text_string_to_metric_families(text) for s in f.samples if "route" in s.labels}
    assert not [route for route in routes if "/" in route or "nowhere" in route], routes


def test_names_keep_to_the_conventions_and_the_documents_name_what_there_is(up):
    text = ask(up, "/metrics", Cookie=cookie(up))[2]
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in families.items():
        assert family.documentation and family.type != "unknown", name
        assert (family.type == "counter") == any(s.name.endswith("_total") for s in family.samples), name
        assert not re.search(r"(_ms|_mib|_kib|_minutes)$", name)
    names = {sample.name for family in families.values() for sample in family.samples}
    told = set(re.findall(r"\bclaimcheck_\w+", (ROOT / "docs" / "operations.md").read_text()))
    assert told and told <= names | families.keys(), told - names
    ours = {name for name in families if name.startswith("claimcheck_") and not name.endswith("_created")}
    assert ours <= {t.removesuffix("_total") for t in told}


def test_without_its_database_metrics_still_say_so(tmp_path):
    made = Installation(tmp_path, DATABASE_URL="postgres://nobody@127.0.0.1:1/none", METRICS="public")
    try:
        made.start(sys.executable, "-m", "config.serve", f"--listen=127.0.0.1:{made.port}")
        eventually(lambda: made.status("/health/live") == 200, "the web server answers")
        status, _, text = ask(made, "/metrics")
        assert status == 200 and value(text, "claimcheck_database_up") == 0 == value(text, "claimcheck_redis_up")
    finally:
        made.stop()
