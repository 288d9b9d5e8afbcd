"""What every test shares. The environment is set earlier, by tests/environment.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from tests import browser
from tests.installation import Installation, postgres
from tests.waiting import allowed


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
        yield Patient(launched)
        launched.close()


class Patient:
    """A browser whose pages wait as long as this machine needs."""

    def __init__(self, browser):
        self._browser = browser

    def new_context(self, **options):
        """Playwright's own."""
        return self._patient(self._browser.new_context(**options))

    def new_page(self, **options):
        """Playwright's own, in a context of its own."""
        return self._patient(self._browser.new_page(**options))

    def _patient(self, opened):
        opened.set_default_timeout(allowed(30) * 1000)
        return opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits for another process or has a limit: `-m waits` takes just those, for a busy machine."""
    for item in items:
        fixtures, names = set(getattr(item, "fixturenames", ())), vars(getattr(item, "module", object))
        if fixtures & {"chromium", "installation"} or names.keys() & {"allowed", "eventually", "Installation"}:
            item.add_marker("waits")


def pytest_terminal_summary(terminalreporter) -> None:
    """A suite without a browser must not look like one with it."""
    if browser.find() is None:
        terminalreporter.section("NO BROWSER: THE BROWSER TESTS DID NOT RUN", sep="!", red=True, bold=True)
