"""FlashAttention's memory accesses, counted (arXiv:2205.14135, Sections 2 to 3.2, Appendix B).

`SlowMemory` stands for the GPU's memory: what an algorithm works on it must load, what it wants kept it must store, and
every element that moves is counted. One head: Q, K, V, O are (N, D). `fast` is the size M of fast memory in elements;
what a tile computes in local variables is in fast memory and costs nothing. The algorithms do their arithmetic, so what
is counted is what makes the result.
"""

import math

import torch
from torch import Tensor


class SlowMemory:
    """Matrices by name; loads and stores are counted in elements."""

    def __init__(self, **matrices: Tensor):
        self._matrices = {name: matrix.clone() for name, matrix in matrices.items()}
        self.accesses = 0

    def create(self, name: str, *shape: int, fill: float | None = None) -> None:
        """A new matrix, filled at the cost of storing it; unfilled, it costs nothing and reads as NaN."""
        value, cost = (math.nan, 0) if fill is None else (fill, math.prod(shape))
        self._matrices[name] = next(iter(self._matrices.values())).new_full(shape, value)
        self.accesses += cost

    def load(self, name: str, rows: slice, cols: slice = slice(None)) -> Tensor:
        """A copy of a block."""
        block = self._matrices[name][rows, cols].clone()
        self.accesses += block.numel()
        return block

    def store(self, name: str, block: Tensor, rows: slice, cols: slice = slice(None)) -> None:
        """A block back to its place."""
        self._matrices[name][rows, cols] = block
        self.accesses += block.numel()

    def shape(self, name: str) -> tuple[int, int]:
        """(rows, columns): costs nothing."""
        rows, cols = self._matrices[name].shape
        return rows, cols

    def result(self, name: str) -> Tensor:
        """A whole matrix, uncounted: the experimenter's look, not the algorithm's."""
        return self._matrices[name]


def blocks(length: int, size: int) -> list[slice]:
    """`length` cut into slices of `size`."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _product(memory: SlowMemory, out: str, a: str, b: str, fast: int, turn_a=False, turn_b=False, scale=1.0) -> None:
    """out = scale * a @ b by square tiles as large as fast memory allows, a or b transposed on the way."""
    tile = max(1, math.isqrt(fast // 3))
    n, inner = memory.shape(a)[::-1] if turn_a else memory.shape(a)
    m = memory.shape(b)[0 if turn_b else 1]
    for rows in blocks(n, tile):
        for cols in blocks(m, tile):
            total: Tensor | float = 0.0
            for mid in blocks(inner, tile):
                left = memory.load(a, mid, rows).T if turn_a else memory.load(a, rows, mid)
                right = memory.load(b, cols, mid).T if turn_b else memory.load(b, mid, cols)
                total = total + left @ right
            memory.store(out, total * scale, rows, cols)


def _by_rows(memory: SlowMemory, out: str, compute, fast: int, *names: str) -> None:
    """out = compute(*names), as many whole rows at a time as fit; a single row counts once even where it does not."""
    n, m = memory.shape(out)
    for rows in blocks(n, max(1, fast // (m * (len(names) + 1)))):
        memory.store(out, compute(*(memory.load(name, rows) for name in names)), rows)


def standard_forward(memory: SlowMemory, fast: int) -> None:
    """Algorithm 0: S = Q K^T, P = softmax(S) and O = P V, each from memory to memory; P stays for the backward pass."""
    (n, d), (m, _) = memory.shape("Q"), memory.shape("K")
    for name, shape in (("S", (n, m)), ("P", (n, m)), ("O", (n, d))):
        memory.create(name, *shape)
    _product(memory, "S", "Q", "K", fast, turn_b=True, scale=d**-0.5)
    _by_rows(memory, "P", lambda s: s.softmax(1), fast, "S")
    _product(memory, "O", "P", "V", fast)


def standard_backward(memory: SlowMemory, fast: int) -> None:
    """Algorithm 3: dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(P * dP)), dQ = dS K, dK = dS^T Q."""
    (n, d), (m, _) = memory.shape("Q"), memory.shape("K")
    for name, shape in (("dP", (n, m)), ("dS", (n, m)), ("dQ", (n, d)), ("dK", (m, d)), ("dV", (m, d))):
        memory.create(name, *shape)
    _product(memory, "dV", "P", "dO", fast, turn_a=True)
    _product(memory, "dP", "dO", "V", fast, turn_b=True)
    _by_rows(memory, "dS", lambda p, dp: p * (dp - (p * dp).sum(1, keepdim=True)), fast, "P", "dP")
    _product(memory, "dQ", "dS", "K", fast, scale=d**-0.5)
    _product(memory, "dK", "dS", "Q", fast, turn_a=True, scale=d**-0.5)


def block_sizes(fast: int, d: int) -> tuple[int, int]:
    """(Br, Bc), the rows of Q and of K in a tile: Algorithm 1, line 1."""
    bc = math.ceil(fast / (4 * d))
    return min(bc, d), bc


def flash_forward(memory: SlowMemory, fast: int) -> None:
    """Algorithm 1: K and V block by block, over all of Q for each; O, l and m go back and forth."""
    (n, d), (m, _) = memory.shape("Q"), memory.shape("K")
    br, bc = block_sizes(fast, d)
    memory.create("O", n, d, fill=0.0)
    memory.create("l", n, 1, fill=0.0)
    memory.create("m", n, 1, fill=-math.inf)
    for cols in blocks(m, bc):
        k, v = memory.load("K", cols), memory.load("V", cols)
        for rows in blocks(n, br):
            q, o, total, top = (memory.load(name, rows) for name in ("Q", "O", "l", "m"))
            s = q @ k.T * d**-0.5
            own = s.amax(1, keepdim=True)
            p = torch.exp(s - own)
            higher = torch.maximum(top, own)
            fade, rise = torch.exp(top - higher), torch.exp(own - higher)
            grown = fade * total + rise * p.sum(1, keepdim=True)
            memory.store("O", (total * fade * o + rise * (p @ v)) / grown, rows)
            memory.store("l", grown, rows)
            memory.store("m", higher, rows)


def flash_backward(memory: SlowMemory, fast: int) -> None:
    """Algorithm 4 (Appendix B): tiles computed again from Q, K, l and m; dQ goes back and forth."""
    (n, d), (m, _) = memory.shape("Q"), memory.shape("K")
    br, bc = block_sizes(fast, d)
    memory.create("dQ", n, d, fill=0.0)
    memory.create("dK", m, d)
    memory.create("dV", m, d)
    for cols in blocks(m, bc):
        k, v = memory.load("K", cols), memory.load("V", cols)
        dk, dv = torch.zeros_like(k), torch.zeros_like(v)
        for rows in blocks(n, br):
            q, o, do, dq, total, top = (memory.load(name, rows) for name in ("Q", "O", "dO", "dQ", "l", "m"))
            p = torch.exp(q @ k.T * d**-0.5 - top) / total
            dv += p.T @ do
            ds = p * (do @ v.T - (do * o).sum(1, keepdim=True)) * d**-0.5
            memory.store("dQ", dq + ds @ k, rows)
            dk += ds.T @ q
        memory.store("dK", dk, cols)
        memory.store("dV", dv, cols)
