"""What every test shares. The environment is set here, before Django's settings or Triton are imported."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "BIND", "PORT"):
    os.environ.pop(name, None)
ROOT = Path(__file__).resolve().parent.parent
# Each test process has its own database and scratch; the language model, read once in 20 s, is kept between runs.
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="claimcheck-tests-")
(ROOT / "data" / "models").mkdir(parents=True, exist_ok=True)
(Path(os.environ["DATA_DIR"]) / "models").symlink_to(ROOT / "data" / "models")

from django.core.management import call_command  # noqa: E402

from tests import browser  # noqa: E402
from tests.installation import Installation, postgres  # noqa: E402


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker) -> None:
    """The catalogue is loaded once; `catalogue` loads it again after a test that emptied the tables."""
    with django_db_blocker.unblock():
        call_command("load_catalog", verbosity=0)


@pytest.fixture
def catalogue(db) -> None:
    """The list and its claims, in the database."""
    from catalog.models import Work

    if not Work.objects.exists():
        call_command("load_catalog", verbosity=0)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An empty installation: its own data folder and environment; everything it started is ended."""
    made = Installation(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server's address, from a pip package."""
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """A real headless browser; skipped loudly without one."""
    path = browser.find()
    if path is None:
        pytest.skip("no browser on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=browser.arguments())
        yield launched
        launched.close()


def pytest_terminal_summary(terminalreporter) -> None:
    """A suite without a browser must not look like one with it."""
    if browser.find() is None:
        terminalreporter.section("NO BROWSER: THE BROWSER TESTS DID NOT RUN", sep="!", red=True, bold=True)
