"""A file that unfolds to more than it seems is refused before it takes the memory, and takes down nothing else."""

import json
import os
import subprocess
import sys

import pytest
from django.core.management import call_command

from exports import papers
from tests.exports import made_papers as made
from tests.exports.bombs import BOMBS, GIB, chain, chained, content, nested, object_stream, page_tree, run_lengths

SLUGS = ["awq", "cachegen", "fastgen", "flashattention", "flashattention-2", "flexgen", "gptq", "gqa", "h2o", "mamba",
         "orca"]  # fmt: skip
MEASURE = """
import json, os, resource, sys, django
own = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()
from pathlib import Path
from exports import papers
peaks = [own()]  # `ru_maxrss` of this process begins with the tests' own
told = {path: papers.look(Path(path)) for path in sys.argv[1:]}
peaks += [own(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
print(json.dumps([told, *peaks]))
"""
OWN_KIB = 30 * 1024  # by which the process that asks may grow
LIMIT_KIB = papers.MEMORY_MIB * 1024 + 100 * 1024  # what a check may take, with the code that does it


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """DATA_DIR with a bomb for each of the works, and one paper that is sound."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "papers").mkdir()
    for slug, make in zip(SLUGS, BOMBS.values(), strict=True):
        data = make()
        assert len(data) < GIB / 100
        (folder / "papers" / f"{slug}.pdf").write_bytes(data)
    (folder / "papers" / "rwkv.pdf").write_bytes(made.data(made.paper("Sound")))
    return folder


def test_a_check_takes_little_memory_whatever_the_file(shelf):
    paths = [str(shelf / "papers" / f"{slug}.pdf") for slug in (*SLUGS, "rwkv")]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True,
                          env=os.environ | {"DATA_DIR": str(shelf)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, before, after, child = json.loads(done.stdout.splitlines()[-1])
    *bombs, sound = (told[path]["reason"] for path in paths)
    reasons = dict(zip(BOMBS, bombs, strict=True))
    assert "unfolds" in reasons["object_stream"]
    assert sound == "" and all(reasons.values()), reasons
    assert after - before < OWN_KIB and child < LIMIT_KIB, (before, after, child)


def test_what_the_asking_process_holds_is_not_the_files(tmp_path):
    (path := tmp_path / "h2o.pdf").write_bytes(made.data(made.paper("x"))[:1500])
    held = bytearray(os.urandom(2**20) * (papers.MEMORY_MIB + 100))
    assert "its file is broken" in papers.look(path)["reason"] and held


def test_a_bomb_refuses_its_paper_and_not_the_bundle(shelf, settings, tmp_path, catalogue):
    settings.DATA_DIR = shelf
    some = [slug for slug, name in zip(SLUGS, BOMBS, strict=True) if name in ("chained", "object_stream", "chain")]
    call_command("bundle", "--kind=private", f"--query=works={','.join(some)},rwkv", "-o", str(tmp_path / "b.pdf"))
    told = json.loads((tmp_path / "b.json").read_text())
    assert told["counts"]["papers"] == 1 and told["counts"]["stubs"] == len(some)
    assert all(work["stub"].startswith("its file ") for work in told["works"] if work["work"] != "rwkv")


@pytest.mark.parametrize("make", [content, chained, run_lengths, object_stream, page_tree, nested, chain])
def test_the_same_file_is_bound_when_it_is_small(tmp_path, make):
    """So each is refused for its size, not for how it is written."""
    small = 20 if make in (page_tree, nested, chain) else 2**20
    (tmp_path / "small.pdf").write_bytes(make(small))
    assert papers.look(tmp_path / "small.pdf")["reason"] == ""
