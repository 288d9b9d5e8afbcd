"""Parameters typed by people: read, held to limits, refused in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reproductions.parameters import ParameterError, resolve, text

DEFAULTS = {"lengths": [128, 256], "heads": 2, "rate": 0.5, "dtype": "float32", "causal": True}
LIMITS = {
    "lengths": (1, 4096),
    "heads": (1, 64),
    "rate": (0, 1),
    "dtype": ["float32", "float16"],
    "causal": [True, False],
}


def test_texts_are_read_as_the_type_of_the_default():
    changes = {"lengths": "64, 128", "heads": "4", "rate": "0.25", "dtype": "float16", "causal": "no"}
    assert resolve(DEFAULTS, LIMITS, changes) == {
        "lengths": [64, 128], "heads": 4, "rate": 0.25, "dtype": "float16", "causal": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("lengths", "banana", "expected a whole number, got 'banana'"),
        ("lengths", "1,99999", "between 1 and 4096, separated by commas, got 99999"),
        ("lengths", ",".join(["1"] * 33), "1 to 32 values"),
        ("heads", "0", "a whole number between 1 and 64, got 0"),
        ("heads", "1.5", "expected a whole number"),
        ("rate", "nan", "between 0 and 1, got nan"),
        ("dtype", "int3", "one of float32, float16, got 'int3'"),
        ("causal", "perhaps", "expected yes or no"),
        ("nothing", "1", "no such parameter"),
    ],
)
def test_refusals_say_what_was_expected_and_what_came(name, typed, words):
    with pytest.raises(ParameterError) as caught:
        resolve(DEFAULTS, LIMITS, {name: typed})
    assert words in str(caught.value) and str(caught.value).startswith(name) and "\n" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(sorted(DEFAULTS)), st.text(max_size=20)))
def test_any_text_is_either_within_the_limits_or_refused(changes):
    try:
        found = resolve(DEFAULTS, LIMITS, changes)
    except ParameterError:
        return
    assert all(1 <= n <= 4096 for n in found["lengths"]) and 1 <= found["heads"] <= 64 and 0 <= found["rate"] <= 1


def test_limits_survive_json():
    """JSON makes a list of the pair (low, high)."""
    with pytest.raises(ParameterError):
        resolve({"heads": 2}, {"heads": [1, 64]}, {"heads": "65"})


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=8))
def test_what_is_written_is_read_again(lengths):
    assert resolve(DEFAULTS, LIMITS, {"lengths": text(lengths)})["lengths"] == lengths
