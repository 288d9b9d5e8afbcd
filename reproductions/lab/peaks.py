"""Whether a time falls along a size and then rises again: each end beside the best size that lies short of it."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

LARGEST, SHORT_OF_IT = "the largest", "the best of the smaller"
SMALLEST, BEYOND_IT = "the smallest", "the best of the larger"


def ends(times: Mapping[int, Sequence[float]]) -> Iterator[dict]:
    """Rows `end`, `of`, `end_ms` and `size` from `times`: milliseconds of the same prompts, by size.

    The best size for a prompt is the one with the least median over the other prompts, so that a figure does not choose
    what it is compared with. A single size has no rows.
    """
    sizes = sorted(times)
    for end, best, own, others in ((LARGEST, SHORT_OF_IT, sizes[-1], sizes[:-1]),
                                   (SMALLEST, BEYOND_IT, sizes[0], sizes[1:])):  # fmt: skip
        for i in range(len(times[own]) if others else 0):
            elsewhere = {size: median([*times[size][:i], *times[size][i + 1 :]]) for size in others}
            chosen = min(elsewhere, key=lambda size, ms=elsewhere: ms[size])
            yield {"end": end, "of": i, "size": own, "end_ms": times[own][i]}
            yield {"end": best, "of": i, "size": chosen, "end_ms": times[chosen][i]}
