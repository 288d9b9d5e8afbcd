"""Test what a joining node reports: its devices, its reproductions, how slow it is."""

import pytest

from jobs import node
from jobs.models import Node
from jobs.node import CannotJoin, given_time_factor, register

OFFERED = {
    "devices": [{"kind": "cpu", "name": "a CPU", "uuid": "", "memory_gib": 8, "capability": 0}],
    "specs": [],
    "versions": {},
}


def test_a_node_measures_how_slow_it_is_where_nobody_says(db, settings):
    settings.TIME_FACTOR = ""
    assert register("measured", "cpu", 0).time_factor >= 1
    assert node.ask_node().keys() == {"devices", "specs", "versions"}, "others do not pay for it"


def test_an_operator_says_how_slow_it_is(db, settings, monkeypatch):
    asked = []
    monkeypatch.setattr(node, "ask_node", lambda *, measure: asked.append(measure) or OFFERED)
    settings.TIME_FACTOR = "2.5"
    assert [register(name, name, 0).time_factor for name in ("cpu", "control")] == [2.5, 2.5] and asked == [False]
    settings.TIME_FACTOR = ""
    assert register("control", "control", 0).time_factor == 1


def test_pages_say_it(db, settings, client):
    settings.TIME_FACTOR = "2.5"
    register("control", "control", 0)
    assert "time limits × 2.5" in client.get("/nodes/").content.decode()
    Node.objects.update(time_factor=1)
    assert "time limits" not in client.get("/nodes/").content.decode()


@pytest.mark.parametrize("text", ["soon", "0.5", "-1", "nan", "inf", "1e999", "1,5"])
def test_what_is_no_factor_is_refused(settings, text):
    settings.TIME_FACTOR = text
    with pytest.raises(CannotJoin, match="TIME_FACTOR: expected a number of at least 1"):
        given_time_factor()
