"""What the tests of the pages share."""

import pytest

from reproductions.models import Reproduction
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
