"""What the tests of the pages share."""

import shutil
import subprocess

import pytest

from reproductions.models import Reproduction
from tests.installation import ROOT
from tests.site import measured
from tests.site.people import person


@pytest.fixture
def made(catalogue) -> Reproduction:
    """A small reproduction of FlashAttention."""
    return measured.reproduction()


@pytest.fixture
def reader(client):
    """The client, signed in as a reader."""
    client.force_login(person("reader"))
    return client


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory):
    """A library with which a process has a wrong clock (tests/wrong_clock.c), compiled."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler on this machine")
    path = tmp_path_factory.mktemp("clock") / "wrong_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, ROOT / "tests" / "wrong_clock.c", "-ldl"], check=True)
    return path
