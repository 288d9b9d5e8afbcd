"""One pass over the tokens, sublinear space (Addanki et al. 2023, arXiv:2311.14652): attention outputs from sketches.

n tokens, d head size, g degree, t = C(d + g, g) features, k entries to recover. Attention with scale 1/d is replaced
by its Taylor polynomial: exp(q.k / d) ~ U(q).U(k) with monomial features U. Keys and values pass once and leave
p = sum U(k) (t), and the sketches Psi U(K) (buckets, t) and Psi V (buckets, d). Queries pass once and leave
Phi D^-1 U(Q) (rows, buckets, 1 + bits, t), D_ii = U(q_i).p. Their product sketches the output D^-1 A V, and a k-sparse
approximation of each of its columns is read off that, without a look at all n rows. Psi is a CountSketch; Phi is one
with counters for each bit of the row's number, which name the heavy row of a bucket. No kernel: a theory paper.
"""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

PRIME = 2**31 - 1


def polynomial_features(x: Tensor, degree: int) -> Tensor:
    """U(x) for rows x (n, d): (n, t), so that U(x).U(y) is the Taylor polynomial of exp(x.y / d) of that degree."""
    d, parts = x.shape[1], [torch.ones_like(x[:, :1])]
    for size in range(1, degree + 1):
        picks = torch.tensor(list(combinations_with_replacement(range(d), size)), device=x.device)
        repeats = [math.prod(math.factorial(n) for n in torch.bincount(pick).tolist()) for pick in picks.cpu()]
        weight = torch.tensor([(many * d**size) ** -0.5 for many in repeats], dtype=x.dtype, device=x.device)
        parts.append(x[:, picks].prod(-1) * weight)
    return torch.cat(parts, 1)


def sketched_reference(q: Tensor, k: Tensor, v: Tensor, chunk: int = 1024) -> Tensor:
    """Exact attention with scale 1/d, queries `chunk` at a time: q, k, v (n, d) -> (n, d)."""
    return torch.cat([(part @ k.mT / q.shape[1]).softmax(-1) @ v for part in q.split(chunk)])


@dataclass(frozen=True)
class Hash:
    """4-wise independent: a random cubic modulo a prime, `rows` of them (rows, 4)."""

    cubic: Tensor

    @classmethod
    def draw(cls, rows: int, generator: torch.Generator) -> "Hash":
        """From the generator."""
        return cls(torch.randint(1, PRIME, (rows, 4), generator=generator))

    def __call__(self, i: Tensor) -> Tensor:
        """(rows, len(i)), below PRIME."""
        found = torch.zeros(len(self.cubic), len(i), dtype=torch.int64)
        for column in self.cubic.unbind(1):
            found = (found * (i % PRIME) + column[:, None]) % PRIME
        return found


class Sketches:
    """The state of the stream: all that is kept of n tokens is `floats` numbers. Computed on a CPU, in float64."""

    def __init__(self, n: int, d: int, degree: int, rows: int, buckets: int, value_buckets: int, seed: int = 0):
        if min(n, d, degree, rows, buckets, value_buckets) < 1:
            raise ValueError("expected n, d, degree, rows, buckets and value_buckets >= 1")
        draw = torch.Generator().manual_seed(seed)
        self.degree, self.buckets, self.value_buckets = degree, buckets, value_buckets
        self.bits = max(1, (n - 1).bit_length())
        self.place, self.sign = Hash.draw(rows, draw), Hash.draw(rows, draw)
        self.value_place, self.value_sign = Hash.draw(1, draw), Hash.draw(1, draw)
        t = math.comb(d + degree, degree)
        self.total = torch.zeros(t, dtype=torch.float64)
        self.keys = torch.zeros(value_buckets, t, dtype=torch.float64)
        self.values = torch.zeros(value_buckets, d, dtype=torch.float64)
        self.queries = torch.zeros(rows, buckets, 1 + self.bits, t, dtype=torch.float64)

    @property
    def floats(self) -> int:
        """Numbers kept."""
        return sum(x.numel() for x in (self.total, self.keys, self.values, self.queries))

    def see_keys(self, k: Tensor, v: Tensor, first: int) -> None:
        """Keys and values (m, d) of the tokens from number `first` on."""
        features, i = polynomial_features(k.double(), self.degree), torch.arange(first, first + len(k))
        place, sign = self.value_place(i)[0] % self.value_buckets, _signs(self.value_sign(i))[0, :, None]
        self.total += features.sum(0)
        self.keys.index_add_(0, place, sign * features)
        self.values.index_add_(0, place, sign * v.double())

    def see_queries(self, q: Tensor, first: int) -> None:
        """Queries (m, d) of the tokens from number `first` on; after all keys. ValueError if a normaliser is not
        positive: the degree is too low for such scores."""
        features, i = polynomial_features(q.double(), self.degree), torch.arange(first, first + len(q))
        norms = features @ self.total
        if not (norms > 0).all():
            raise ValueError(f"expected positive normalisers, got {norms.min().item():.3g}: raise the degree")
        weighted = features / norms[:, None]
        places, signs = self.place(i) % self.buckets, _signs(self.sign(i))
        counters = torch.cat([torch.ones(1, len(i), dtype=torch.bool), self._bits_of(i)])
        for row, (place, sign) in enumerate(zip(places, signs, strict=True)):
            which, token = counters.nonzero(as_tuple=True)
            at = torch.stack([place[token] * (1 + self.bits) + which, token])
            size = (self.buckets * (1 + self.bits), len(i))
            phi = torch.sparse_coo_tensor(at, sign[token], size, check_invariants=False)
            self.queries[row] += torch.sparse.mm(phi, weighted).view(self.buckets, 1 + self.bits, -1)

    def recover(self, k: int, product: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A k-sparse approximation of each column of the output: rows (d, k) and values (d, k), the rest is 0.

        Each bucket names the row whose bits its counters spell; the largest estimates, medians over the sketch's rows,
        are kept. Takes time by the size of the sketch. A column with fewer candidates is filled with zeros in row 0.
        `product` (t, d): U(K)^T V itself, where somebody kept it, in place of its sketch.
        """
        sketch = self.queries @ (
            self.keys.mT @ self.values if product is None else product
        )  # (rows, buckets, 1 + bits, d)
        whole, bits = sketch[:, :, 0], sketch[:, :, 1:]
        spelt = bits.abs() > (whole[:, :, None] - bits).abs()
        named = (spelt * (2 ** torch.arange(self.bits))[None, None, :, None]).sum(2)  # (rows, buckets, d)
        found = torch.zeros(whole.shape[2], k, dtype=torch.int64), torch.zeros(whole.shape[2], k, dtype=torch.float64)
        for column in range(whole.shape[2]):
            candidates = named[:, :, column].unique()
            estimates = self._estimate(whole[:, :, column], candidates)
            top = estimates.abs().topk(min(k, len(candidates))).indices
            found[0][column, : len(top)], found[1][column, : len(top)] = candidates[top], estimates[top]
        return found

    def _estimate(self, whole: Tensor, i: Tensor) -> Tensor:
        places, signs = self.place(i) % self.buckets, _signs(self.sign(i))
        return (whole.gather(1, places) * signs).median(0).values

    def _bits_of(self, i: Tensor) -> Tensor:
        return (i[None] >> torch.arange(self.bits)[:, None] & 1).bool()


def _signs(hashed: Tensor) -> Tensor:
    return (hashed % 2 * 2 - 1).double()


def sketched_attention(
    q: Tensor, k: Tensor, v: Tensor, entries: int, sketches: Sketches, chunk: int = 4096
) -> tuple[Tensor, Tensor]:
    """Rows (d, entries) and values of a sparse approximation of each column of attention with scale 1/d.

    q, k, v (n, d) pass through `sketches` in chunks, as a stream would. ValueError for other shapes.
    """
    if q.dim() != 2 or not q.shape == k.shape == v.shape:
        raise ValueError(f"expected q, k and v (n, d), got {', '.join(str(tuple(x.shape)) for x in (q, k, v))}")
    for first in range(0, len(k), chunk):
        sketches.see_keys(k[first : first + chunk], v[first : first + chunk], first)
    for first in range(0, len(q), chunk):
        sketches.see_queries(q[first : first + chunk], first)
    return sketches.recover(entries)
