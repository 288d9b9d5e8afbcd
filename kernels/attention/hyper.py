"""HyperAttention (Han et al. 2023, arXiv:2310.05869): attention in near-linear time, by sorted blocks and samples.

B batch, H heads, N queries, M keys, D head size, b block, m samples. q (B, H, N, D), k and v (B, H, M, D) ->
(B, H, N, D). Queries and keys are hashed by the signs of a few projections, sorted by the hash in Gray-code order, and
attend exactly inside blocks of the sorted order (Algorithm 1). What lies outside is estimated from m keys drawn at
random, pairs of the own block left out (Algorithm 2); the two are merged by their normalisers. Causal (Algorithm 4):
the two halves on the diagonal in the same way, and the square below it without a mask.
The reference is `attention_reference` of flash.py. No kernel of its own: the paper calls an exact one on the blocks.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention.tiles import visible, wide

SLICE = 2**20  # scores that are held at a time, for each head


@dataclass(frozen=True)
class Budget:
    """What the approximation may spend: keys a block and samples a query (0 leaves that part out), hash bits; and how
    it sorts, "lsh", "random" or "none". Shorter causal parts than `exact_below` are attended exactly."""

    block: int = 256
    samples: int = 256
    bits: int = 7
    order: str = "lsh"
    exact_below: int = 4096

    def __post_init__(self):
        if min(self.block, self.samples) < 0 or not self.block + self.samples or self.bits < 1 or self.exact_below < 1:
            raise ValueError(f"expected block, samples >= 0, not both 0, and bits, exact_below >= 1, got {self}")
        if self.order not in ("lsh", "random", "none"):
            raise ValueError(f"order: expected 'lsh', 'random' or 'none', got {self.order!r}")


def hash_rank(x: Tensor, directions: Tensor) -> Tensor:
    """Bin of each row of x (..., N, D): the signs along `directions` (D, r), read as a Gray code, so that bins side by
    side differ in one sign. (..., N), 0 to 2^r - 1."""
    rank = ((x @ directions > 0) * 2 ** torch.arange(directions.shape[1], device=x.device)).sum(-1)
    shift = 1
    while shift < directions.shape[1]:
        rank = rank ^ (rank >> shift)
        shift *= 2
    return rank


def hyper_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    budget: Budget | None = None,
    causal: bool = False,
    scale: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Approximate attention; differentiable. Hashes and samples come from `generator`.

    Causal attention wants N = M. ValueError says what was expected of shapes.
    """
    agree = q.dim() == 4 and k.shape == v.shape and (*k.shape[:2], *k.shape[3:]) == (*q.shape[:2], q.shape[3])
    if not agree or not q.numel() * k.numel():
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"expected q (B, H, N, D), k and v (B, H, M, D) with N, M >= 1, got {shapes}")
    if causal and q.shape != k.shape:
        raise ValueError(f"causal: expected as many queries as keys, got {q.shape[2]} and {k.shape[2]}")
    budget = budget or Budget()
    scaled = q.to(wide(q.dtype) if q.device.type == "cpu" else q.dtype) * (
        q.shape[-1] ** -0.5 if scale is None else scale
    )
    attend = _causal if causal else _square
    return attend(scaled, k.to(scaled.dtype), v.to(scaled.dtype), budget, generator)[0].to(q.dtype)


Part = tuple[Tensor, Tensor]  # output (..., N, D) and log of the normaliser (..., N, 1)


def _causal(q: Tensor, k: Tensor, v: Tensor, budget: Budget, generator) -> Part:
    n = q.shape[2]
    if n < max(2, budget.exact_below):
        return _exact(q, k, v, causal=True)
    half = n // 2
    first = _causal(q[:, :, :half], k[:, :, :half], v[:, :, :half], budget, generator)
    last = _causal(q[:, :, half:], k[:, :, half:], v[:, :, half:], budget, generator)
    below = _square(q[:, :, half:], k[:, :, :half], v[:, :, :half], budget, generator)
    merged = _merge(last, below)
    return torch.cat([first[0], merged[0]], 2), torch.cat([first[1], merged[1]], 2)


def _square(q: Tensor, k: Tensor, v: Tensor, budget: Budget, generator) -> Part:
    """Every query to every key: blocks of the sorted order, and samples of the rest."""
    if budget.block >= k.shape[2]:
        return _exact(q, k, v)
    if not budget.block:
        return _sampled(q, k, v, None, budget.samples, generator)
    queries, keys = _orders(q, k, budget, generator)
    count = math.ceil(k.shape[2] / budget.block)
    own = tuple(place.argsort(-1) * count // place.shape[-1] for place in (queries, keys))  # the block of each row
    blocks = _blocks(_at(q, queries), _at(k, keys), _at(v, keys), count)
    back = queries.argsort(-1)
    found = _at(blocks[0], back), _at(blocks[1], back)
    return _merge(found, _sampled(q, k, v, own, budget.samples, generator)) if budget.samples else found


def _orders(q: Tensor, k: Tensor, budget: Budget, generator) -> tuple[Tensor, Tensor]:
    """The order of the queries (B, H, N) and of the keys (B, H, M)."""
    if budget.order == "lsh":
        directions = torch.randn(q.shape[3], budget.bits, device=q.device, generator=generator).to(q.dtype)
        ranks = [hash_rank(x.detach(), directions) for x in (q, k)]
    elif budget.order == "random":
        ranks = [torch.rand(x.shape[:3], device=x.device, generator=generator) for x in (q, k)]
    else:
        ranks = [torch.zeros(x.shape[:3], device=x.device) for x in (q, k)]
    queries, keys = (rank.argsort(stable=True, dim=-1) for rank in ranks)
    return queries, keys


def _at(x: Tensor, rows: Tensor) -> Tensor:
    """x (B, H, N, E) at rows (B, H, K): (B, H, K, E)."""
    return x.gather(2, rows[..., None].expand(-1, -1, -1, x.shape[3]))


def _blocks(q: Tensor, k: Tensor, v: Tensor, count: int) -> Part:
    """Exact attention of the i-th of `count` equal runs of queries to the i-th run of keys; the last row of a run that
    is shorter than the longest is repeated, and repeated keys are masked."""
    (qs, once), (at, there) = _runs(q.shape[2], count, q.device), _runs(k.shape[2], count, q.device)
    parts = []
    for some in _slices(count, qs.shape[1] * at.shape[1]):
        s = q[:, :, qs[some]] @ k[:, :, at[some]].mT
        parts.append(_finish(s.masked_fill(~there[some, None, :], -torch.inf), v[:, :, at[some]]))
    (out, norm), kept = _joined(parts), once.flatten()
    return out.flatten(2, 3)[:, :, kept], norm.flatten(2, 3)[:, :, kept]


def _runs(n: int, count: int, device) -> tuple[Tensor, Tensor]:
    """Rows of each of `count` runs of 0 .. n-1, (count, longest), and which of them are no repetition."""
    run = torch.arange(n, device=device) * count // n
    starts = torch.searchsorted(run, torch.arange(count, device=device))
    ends = torch.searchsorted(run, torch.arange(count, device=device), right=True)
    rows = starts[:, None] + torch.arange(math.ceil(n / count), device=device)
    return rows.clamp(max=n - 1).minimum((ends - 1).clamp_min(0)[:, None]), rows < ends[:, None]


def _sampled(q: Tensor, k: Tensor, v: Tensor, own: Part | None, samples: int, generator) -> Part:
    """Every query to `samples` keys, drawn alike and with replacement, each standing for M / samples of them."""
    b, h, m, _ = k.shape
    drawn = torch.randint(m, (b, h, samples), device=k.device, generator=generator)
    keys, values, parts = _at(k, drawn), _at(v, drawn), []
    for rows in _slices(q.shape[2], samples):
        s = q[:, :, rows] @ keys.mT + math.log(m / samples)
        if own is not None:
            s = s.masked_fill(own[0][:, :, rows, None] == own[1].gather(2, drawn)[..., None, :], -torch.inf)
        parts.append(_finish(s, values))
    return _joined(parts)


def _exact(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Part:
    """Every query to every key, or to those before it."""
    (n, m), parts = (q.shape[2], k.shape[2]), []
    for rows in _slices(n, m):
        s = q[:, :, rows] @ k.mT
        if causal:
            i, j = torch.arange(n, device=q.device)[rows], torch.arange(m, device=q.device)
            s = s.masked_fill(~visible(i, j, n, m), -torch.inf)
        parts.append(_finish(s, v))
    return _joined(parts)


def _slices(n: int, width: int) -> list[slice]:
    """0 .. n-1 in runs of so many rows that no more than SLICE scores, `width` a row, are held."""
    step = max(1, SLICE // width)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _joined(parts: list[Part]) -> Part:
    return torch.cat([out for out, _ in parts], 2), torch.cat([norm for _, norm in parts], 2)


def _finish(s: Tensor, v: Tensor) -> Part:
    """Softmax of the scores times v; a row that sees nothing gives 0 and a normaliser of 0, whose log is -inf."""
    top = s.detach().amax(-1, keepdim=True)
    empty = top == -torch.inf
    top = top.masked_fill(empty, 0)
    p = torch.exp(s - top)
    total = p.sum(-1, keepdim=True).masked_fill(empty, 1)
    return p @ v / total, (total.log() + top).masked_fill(empty, -torch.inf)


def _merge(one: Part, two: Part) -> Part:
    """Two parts of a row's keys, weighted by their normalisers."""
    norm = torch.logaddexp(one[1], two[1])
    return torch.exp(one[1] - norm) * one[0] + torch.exp(two[1] - norm) * two[0], norm
