"""The paper's algorithms element by element, over a memory that counts: what is counted is what makes the result.

`Memory` holds the vectors in slow memory; whatever an algorithm keeps in local variables is a register and costs
nothing. V is the length of x. (Milakov & Gimelshein 2018, Algorithms 1 to 4.)
"""

import math
from bisect import insort
from collections.abc import Callable, Sequence


class Memory:
    """Vectors in slow memory, by name; every element loaded or stored is counted."""

    def __init__(self, x: Sequence[float]):
        self._vectors = {"x": list(x), "y": [0.0] * len(x)}
        self.length, self.accesses = len(x), 0

    def load(self, name: str, i: int) -> float:
        """One element."""
        self.accesses += 1
        return self._vectors[name][i]

    def store(self, name: str, i: int, value: float) -> None:
        """One element."""
        self.accesses += 1
        self._vectors[name][i] = value

    def result(self, name: str = "y") -> list[float]:
        """A whole vector, uncounted: the experimenter's look, not the algorithm's."""
        return list(self._vectors[name])


def naive(memory: Memory) -> None:
    """Algorithm 1: y = exp(x) / sum exp(x)."""
    d = 0.0
    for i in range(memory.length):
        d += math.exp(memory.load("x", i))
    for i in range(memory.length):
        memory.store("y", i, math.exp(memory.load("x", i)) / d)


def safe(memory: Memory) -> None:
    """Algorithm 2: a pass for the maximum, one for the normaliser, one for the result."""
    m, d = -math.inf, 0.0
    for i in range(memory.length):
        m = max(m, memory.load("x", i))
    for i in range(memory.length):
        d += math.exp(memory.load("x", i) - m)
    for i in range(memory.length):
        memory.store("y", i, math.exp(memory.load("x", i) - m) / d)


def step(m: float, d: float, x: float) -> tuple[float, float]:
    """One element more in the pair (m, d): Algorithm 3, lines 4 and 5."""
    top = max(m, x)
    return top, d * math.exp(m - top) + math.exp(x - top)


def online(memory: Memory) -> None:
    """Algorithm 3: maximum and normaliser in one pass."""
    m, d = -math.inf, 0.0
    for i in range(memory.length):
        m, d = step(m, d, memory.load("x", i))
    for i in range(memory.length):
        memory.store("y", i, math.exp(memory.load("x", i) - m) / d)


def keep(kept: list[tuple[float, int]], value: float, i: int, k: int) -> None:
    """Insert into the K largest so far, held in registers."""
    insort(kept, (-value, i))
    del kept[k:]


def topk(memory: Memory, k: int) -> list[tuple[float, int]]:
    """The K largest of y with their places, one pass."""
    kept: list[tuple[float, int]] = []
    for i in range(memory.length):
        keep(kept, memory.load("y", i), i, k)
    return [(-value, i) for value, i in kept]


def then_topk(method: Callable[[Memory], None]) -> Callable[[Memory, int], list[tuple[float, int]]]:
    """A softmax to memory, then top-k from there."""

    def run(memory: Memory, k: int) -> list[tuple[float, int]]:
        method(memory)
        return topk(memory, k)

    return run


def fused(memory: Memory, k: int) -> list[tuple[float, int]]:
    """Algorithm 4: normaliser and top-k in one pass; the K results are not counted, as in the paper."""
    m, d = -math.inf, 0.0
    kept: list[tuple[float, int]] = []
    for i in range(memory.length):
        x = memory.load("x", i)
        m, d = step(m, d, x)
        keep(kept, x, i, k)
    return [(math.exp(-value - m) / d, i) for value, i in kept]
