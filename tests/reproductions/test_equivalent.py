"""Earlier measurements that count as the present one."""

import yaml

from reproductions import equivalent, spec


def test_a_chain_leads_to_the_present_and_keeps_what_is_said_of_timings(tmp_path):
    entries = [
        {"because": "names", "works": {"h2o": {"before": "a", "after": "b"}, "rope": {"before": "a", "after": "z"}}},
        {"because": "a stopwatch", "timings": "earlier stopwatch", "works": {"h2o": {"before": "b", "after": "c"}}},
        {"because": "names again", "works": {"h2o": {"before": "c", "after": "d"}}},
        {"because": "a way that led elsewhere", "works": {"h2o": {"before": "b", "after": "x"}}},
    ]
    file = tmp_path / "equivalent.yaml"
    file.write_text(yaml.safe_dump(entries))
    said = "earlier stopwatch"
    assert equivalent.earlier("h2o", "d", file) == {"c": "", "b": said, "a": said}
    assert equivalent.earlier("h2o", "b", file) == {"a": ""}, "nothing later counts"
    assert equivalent.earlier("rope", "d", file) == {}
    assert equivalent.earlier("h2o", "d", tmp_path / "none.yaml") == {}


def test_what_ships_says_why_and_names_works():
    for entry in yaml.safe_load(equivalent.FILE.read_text()):
        assert entry["because"] and entry["base"] and set(entry["works"]) <= set(spec.slugs())
