"""Parameters that are within their limits but do not go together: refused in one line, not by a traceback."""

import pytest

from reproductions.lab import Lab
from reproductions.papers import berxit, ee_llm, fastgen, h2o, lite, scissorhands, vllm
from reproductions.spec import ParameterError


@pytest.mark.parametrize(
    ("paper", "changes", "words"),
    [
        (h2o, {"start": 40}, "start: expected at most tokens - 2 = 38, got 40"),
        (scissorhands, {"start": 47}, "start: expected at most tokens - 2 = 46, got 47"),
        (fastgen, {"prompt": 18}, "prompt: expected at most tokens - 2 = 16, got 18"),
        (vllm, {"engine_longest": 65}, "engine_longest: expected at most engine_slots, 64, got 65"),
        (lite, {"exits": [27, 12]}, "exits: expected layers in order, each once, before the last, 30; got"),
        (lite, {"exits": [10, 10]}, "exits: expected layers in order"),
        (ee_llm, {"exits": [79]}, "exits: expected layers in order"),
        (berxit, {"train": 4000}, r"expected train \+ 2 test of at most \d+ texts, got 4000 and 10"),
    ],
)
def test_it_is_one_line(paper, changes, words, tmp_path):
    with pytest.raises(ParameterError, match=words):
        paper.run(Lab(tmp_path), **paper.SIZES["smoke"].parameters | changes)


def test_requests_of_which_none_waits_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="requests: expected so many that some wait for 4800 slots, got 20"):
        vllm._saturated(Lab(tmp_path), 4800, 20, 0)
