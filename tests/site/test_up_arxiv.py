"""A curator presses the button in a real installation: the control process syncs, and the paper's page shows it."""

import re

import pytest

from tests.catalog.arxiv_server import Paper, serve

pytestmark = pytest.mark.xdist_group("up")


def test_sync_by_the_control_process(installation):
    with serve() as arxiv:
        sinks = Paper("Efficient Streaming Language Models with Attention Sinks", 4, abstract="Deploying zyzzogetons.")
        arxiv.papers["2309.17453"] = sinks
        installation.env |= arxiv.environment | {"ARXIV_GAP_S": "0.2"}
        installation.up()
        token = installation.token("/arxiv/")
        installation.page("/jobs/start/arxiv/", {"csrfmiddlewaretoken": token, "work": "streaming-llm"})
        job = re.sub(r"^https?://[^/]+", "", installation.last_url)
        assert installation.wait_for(job, "finished", "failed") == "finished"
        assert "asked for 1;" in installation.page(job)
        page = installation.page("/papers/streaming-llm/")
        assert "Deploying zyzzogetons." in page and "CC BY 4.0" in page and "Version 4" in page
        assert "/papers/streaming-llm/" in installation.page("/?q=zyzzogetons")

        arxiv.faults = [(403, "")]
        arxiv.papers.clear()
        installation.page("/jobs/start/arxiv/", {"csrfmiddlewaretoken": installation.token("/arxiv/")})
        job = re.sub(r"^https?://[^/]+", "", installation.last_url)
        assert installation.wait_for(job, "finished", "failed") == "failed"
        page = installation.page(job)
        assert "source-failed" in page and "nothing is fetched from arXiv until" in page
        assert "nothing is fetched from arXiv until" in installation.page("/arxiv/")
