"""Whether a time falls and rises again: shapes that are known, and that no figure chooses its own peer."""

import pytest

from reproductions.lab import peaks
from reproductions.papers import blockwise_parallel_decoding, medusa
from tests.reproductions.judging import outcomes


class Rows:
    """As a laboratory keeps them."""

    def __init__(self, rows):
        self.rows = lambda: rows


@pytest.mark.parametrize(
    ("ms", "rises", "falls"),
    [
        ((52.0, 31.0, 25.0, 26.3), "replicated", "replicated"),  # the paper's shape: 1.9, 3.2, 4.0, 3.8 times
        ((60.0, 70.0, 80.0, 90.0), "contradicted", "replicated"),  # slower from the start: no peak
        ((90.0, 80.0, 70.0, 60.0), "replicated", "contradicted"),  # ever faster: none either
    ],
)
def test_a_peak_is_found_where_there_is_one(ms, rises, falls):
    times = {2 * n + 2: [x * (1 + i / 1000) for i in range(6)] for n, x in enumerate(ms)}
    lab = Rows(list(peaks.ends(times)))
    for checks, claim, labels in (
        (blockwise_parallel_decoding.CHECKS, "wallclock", ("rises to a peak", "then falls")),
        (medusa.CHECKS, "sparse-tree", ("a larger tree is faster", "too large a tree is slower")),
    ):
        found = outcomes(checks, lab)
        assert [found[claim, label] for label in labels] == [rises, falls]


def test_the_best_of_a_prompt_is_chosen_on_the_others():
    """Of two equal sizes, each lucky once, the lucky figure is not what is compared with."""
    rows = list(peaks.ends({1: [1.0, 9.0, 5.0], 2: [9.0, 1.0, 5.0], 3: [7.0, 7.0, 7.0]}))
    assert [row["end_ms"] for row in rows if row["end"] == peaks.SHORT_OF_IT][:2] == [9.0, 9.0]


def test_one_size_has_no_ends():
    assert list(peaks.ends({4: [1.0, 2.0]})) == []
