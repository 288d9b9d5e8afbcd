"""Formats of logs, in a process of their own: no message begins a line, and errors that nobody caught are records."""

import json
import os
import subprocess
import sys

import pytest

from tests.installation import ROOT

EVIL = "a\nb\r2026-01-01 00:00:00 CRITICAL root: forged\u2028c\x85d\x1b[31me\udce9"
PROCESS = """
import logging, os, sys, threading, warnings
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()
from config import logs
logs.take_over(os.environ.get("LOG_FORMAT", "plain"))
evil = ascii_evil
with logs.known(job=7):
    logging.getLogger("jobs").info("said %s", evil, extra={"request": evil, "node": "n"})
try:
    raise ValueError(evil)
except ValueError:
    logging.getLogger("jobs").exception("failed")
warnings.warn(evil)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
if "LOG_FORMAT" in os.environ:
    print("printed", 3, end="")
    print(evil.encode("utf-8", "replace").decode(), file=sys.stderr)
raise RuntimeError(evil)
""".replace("ascii_evil", ascii(EVIL))


def output(**env: str) -> list[str]:
    command = [sys.executable, "-c", PROCESS]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 1 and not done.stdout
    return done.stderr.split("\n")[:-1]


def test_each_record_is_one_object():
    lines = output(LOG_FORMAT="json")
    assert all(line.isascii() for line in lines)
    records = [json.loads(line) for line in lines]
    assert records[0]["message"] == f"said {EVIL}" and (records[0]["job"], records[0]["node"]) == (7, "n")
    assert "request" not in records[0] and "job" not in records[1]
    assert records[1]["message"] == "failed" and "ValueError" in records[1]["exc_info"]
    logged = [(record["logger"], record["level"]) for record in records]
    assert ("py.warnings", "WARNING") in logged and ("printed.stderr", "WARNING") in logged
    uncaught = [record["message"] for record in records if record["logger"] == "config.logs"]
    assert any("ZeroDivisionError" in said for said in uncaught) and any("RuntimeError" in said for said in uncaught)
    assert any(record["message"] == "printed 3" and record["level"] == "INFO" for record in records)


def test_each_line_of_a_plain_log_begins_with_a_time_or_belongs_to_the_one_before():
    lines = output()
    heads = [line for line in lines if not line.startswith("    ")]
    assert len(heads) == 5 and all(line[:4].isdigit() for line in heads), heads
    assert "forged" in heads[0] and all(line.isprintable() for line in lines)
    assert any("ZeroDivisionError" in line for line in heads) and any("RuntimeError" in line for line in heads)


@pytest.mark.parametrize(("name", "expected"), [("LOG_FORMAT", "plain or json"), ("METRICS", "operators or public")])
def test_a_setting_that_cannot_be_is_told_in_a_line(name, expected):
    command = [sys.executable, "manage.py", "worker"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {name: "xml"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"{name}: expected {expected}, got 'xml'\n")
