"""Test what a joining node reports: its devices, its reproductions, how slow it is."""

import pytest

from jobs import node
from jobs.models import Node
from jobs.node import CannotJoin, given_time_factor, register
from reproductions import __main__ as command_line

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


def test_a_measured_factor_has_a_bound_and_the_page_says_when_it_is_reached(db, settings, client, monkeypatch):
    monkeypatch.setattr(node, "ask_node", lambda *, measure: OFFERED | {"time_factor": 300.0})
    settings.TIME_FACTOR = ""
    assert register("cpu", "cpu", 0).time_factor == node.MOST_MEASURED
    assert "time limits × 10, the most that is measured" in client.get("/nodes/").content.decode()
    settings.TIME_FACTOR = "300"
    assert register("cpu", "cpu", 0).time_factor == 300
    assert "time limits × 300<" in client.get("/nodes/").content.decode()


@pytest.mark.parametrize(("tries", "factor"), [([3.5, 1.4, 2.0], 1.4), ([1.3, 1.0, 9.9], 1.0), ([1.0, 9.9, 9.9], 1.0)])
def test_the_least_of_a_few_tries_is_how_slow_a_machine_is(monkeypatch, tries, factor):
    monkeypatch.setattr(command_line, "TRY_AGAIN_S", 0)
    assert command_line._least(iter(tries).__next__) == factor


@pytest.mark.parametrize("text", ["soon", "0.5", "-1", "nan", "inf", "1e999", "1,5"])
def test_what_is_no_factor_is_refused(settings, text):
    settings.TIME_FACTOR = text
    with pytest.raises(CannotJoin, match="TIME_FACTOR: expected a number of at least 1"):
        given_time_factor()
