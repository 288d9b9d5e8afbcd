"""python -m reproductions, as a person types it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from reproductions import spec
from tests.waiting import allowed

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ("run", "streaming-llm", "--size", "smoke")
QUICK = ("run", "online-softmax", "--size", "smoke")  # seconds, without a language model


def reproductions(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "reproductions", *words], cwd=ROOT, capture_output=True, text=True, timeout=allowed(300)
    )


def test_list_names_every_work_and_its_question():
    done = reproductions("list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == spec.slugs()


def test_list_and_show_as_json():
    described = json.loads(reproductions("list", "--json").stdout)
    assert [d["slug"] for d in described] == spec.slugs()
    assert json.loads(reproductions("show", "streaming-llm", "--json").stdout)["sizes"]["cpu"]["limit_s"] > 0


def test_show_tells_checks_and_sizes():
    shown = reproductions("show", "streaming-llm").stdout
    assert "window-collapses" in shown and "needs a CUDA GPU" in shown and "tokens=" in shown


def test_run_writes_everything_that_is_needed_to_judge_it_again(tmp_path):
    out = tmp_path / "result.json"
    done = reproductions(*QUICK, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "exactness" in done.stdout and ": replicated" in done.stdout
    result = json.loads(out.read_text())
    work = spec.load("online-softmax")
    verdicts = spec.judge(work.checks, result["rows"], device="cpu", scale="reduced")
    assert [vars(v) for v in verdicts] == result["verdicts"]
    assert (
        result["measurement"] == spec.measurement_of(work.slug)
        and result["parameters"] == work.sizes["smoke"].parameters
    )
    for name in ("torch", "triton", "python", "cpu", "host", "packages_hash", "device_name", "threads"):
        assert result["environment"][name], name


def test_run_in_a_terminal_shows_progress_and_a_table():
    """A real terminal, since the bar and the table appear only there."""
    main, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "reproductions", *QUICK], cwd=ROOT, stdout=child, stderr=child,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "160"},
    )  # fmt: skip
    os.close(child)
    seen = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    assert process.wait() == 0
    shown = seen.decode(errors="replace")
    assert "━" in shown and "columns" in shown, "the progress bar with its stage"
    assert "accesses-softmax" in shown and "outcome" in shown, "the table"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((*SMOKE, "--set", "tokens=banana"), "error: tokens: expected a whole number, got 'banana'"),
        ((*SMOKE, "--set", "tokens=1"), "error: tokens: expected a whole number between"),
        ((*SMOKE, "--set", "nothing=1"), "error: nothing: no such parameter, expected one of"),
        ((*SMOKE, "--set", "banana"), "error: --set: expected NAME=VALUE, got 'banana'"),
        ((*SMOKE, "--out", "/nowhere/result.json"), "error: --out: expected a file in an existing folder"),
        (("run", "streaming-llm", "--size", "huge"), "error: size: expected one of smoke, cpu, full, got 'huge'"),
        (("run", "nothing"), "error: no reproduction 'nothing'; there are: "),
        (("show", "nothing"), "error: no reproduction 'nothing'; there are: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, line):
    done = reproductions(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(line) and len(done.stderr.splitlines()) == 1, done.stderr


def test_parameters_that_do_not_go_together_are_refused_by_the_work_itself():
    done = reproductions(*SMOKE, "--set", "tokens=128", "cache=128")
    assert done.returncode == 2
    assert done.stderr.startswith("error: tokens: expected more than") and "Traceback" not in done.stderr


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_one_line():
    done = reproductions(*SMOKE, "--device", "cuda")
    assert done.returncode == 1 and done.stderr == "error: this machine's torch sees no CUDA GPU\n"
