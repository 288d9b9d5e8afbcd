"""What the tests of the catalogue share."""

import pytest

from tests.catalog.arxiv_server import Paper, serve
from tests.catalog.arxiv_works import OLD, SINKS


@pytest.fixture
def arxiv(settings):
    """The local server, with two papers and a pause short enough for tests."""
    with serve() as server:
        server.papers |= {SINKS: Paper("Sinks: a paper", 4), OLD: Paper("An old paper", 2)}
        settings.ARXIV_API_URL, settings.ARXIV_OAI_URL = server.environment.values()
        settings.ARXIV_GAP_S = 0.02
        settings.CELERY_BROKER_URL = "memory://"
        yield server
