"""Multi-query attention (Shazeer 2019, arXiv:1911.02150): H query heads, one key head and one value head.

B batch, H query heads, G key heads (1, or H in the baseline), N queries, M keys, D head size, E model width. q
(B, H, N, D), k and v (B, 1, M, D) -> (B, H, N, D). Causal: query i sees keys j <= i + M - N, N <= M. The queries of
all heads are the rows of one matrix product a sequence, so that a step reads keys and values once and not H times.
"""

import torch
from torch import Tensor, nn

from kernels.attention.flash import attention_reference
from kernels.attention.tiles import visible


def multi_query_reference(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Multi-head attention with the one key and value head copied H times. Same arguments as the method."""
    heads = q.shape[1]
    return attention_reference(q, k.repeat(1, heads, 1, 1), v.repeat(1, heads, 1, 1), causal)


def multi_query_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """q (B, H, N, D), k and v (B, 1, M, D) -> (B, H, N, D): Section 3, no key is copied. ValueError for other shapes.

    Plain PyTorch, differentiable: the contribution is a layer, not a kernel.
    """
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError(f"causal: expected at most as many queries as keys, got {q.shape[2]} and {k.shape[2]}")
    if q.dim() != 4 or k.shape != v.shape or k.dim() != 4 or (*k.shape[:2], k.shape[3]) != (q.shape[0], 1, q.shape[3]):
        raise ValueError(f"expected q (B, H, N, D), k and v (B, 1, M, D); got {[tuple(x.shape) for x in (q, k, v)]}")
    scores = (q.flatten(1, 2) @ k[:, 0].mT).unflatten(1, q.shape[1:3]) * q.shape[3] ** -0.5
    return (_weights(scores, causal).flatten(1, 2) @ v[:, 0]).unflatten(1, q.shape[1:3])


def multi_head_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """The baseline, k and v (B, H, M, D): the same operations, a product for each head."""
    return _weights(q @ k.mT * q.shape[3] ** -0.5, causal) @ v


def _weights(scores: Tensor, causal: bool) -> Tensor:
    n, m = scores.shape[-2:]
    if causal and n > 1:
        see = visible(torch.arange(n, device=scores.device), torch.arange(m, device=scores.device), n, m)
        scores = scores.masked_fill(~see, -torch.inf)
    return scores.softmax(-1)


class Cache:
    """Keys and values (B, G, M, D) of one layer while it decodes, with room for `most` tokens."""

    def __init__(self, batch: int, heads: int, most: int, head_dim: int, like: Tensor):
        self.k, self.v = (like.new_empty(batch, heads, most, head_dim) for _ in range(2))
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k and v (B, G, N, D) of N more tokens; all that is kept."""
        end = self.length + k.shape[2]
        self.k[:, :, self.length : end], self.v[:, :, self.length : end] = k, v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]

    def reorder(self, parents: Tensor) -> None:
        """Row i goes on from what row parents[i] had: a step of a beam search."""
        self.k, self.v = self.k[parents], self.v[parents]


class Attention(nn.Module):
    """The layer, with one key and value head (`shared`) or with one for each query head, the baseline.

    q_h = x P_q[h], K = x P_k, V = x P_v, y = sum_h o_h P_o[h] (Sections 2 and 3).
    """

    def __init__(self, width: int, heads: int, head_dim: int, shared: bool = True):
        super().__init__()
        self.heads, self.kept, self.head_dim = heads, 1 if shared else heads, head_dim
        self.p_q = nn.Linear(width, heads * head_dim, bias=False)
        self.p_k, self.p_v = (nn.Linear(width, self.kept * head_dim, bias=False) for _ in range(2))
        self.p_o = nn.Linear(heads * head_dim, width, bias=False)
        self.attend = multi_query_attention if shared else multi_head_attention

    def forward(self, x: Tensor, causal: bool = True) -> Tensor:
        """x (B, N, E) -> (B, N, E), all tokens at once."""
        out = self.attend(self._split(self.p_q(x)), *self.keys(x), causal)
        return self.p_o(out.transpose(1, 2).flatten(2))

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """One more token: x (B, 1, E), after the tokens in `cache`, which keeps it."""
        return self.look(x, *cache.append(*self.keys(x)))

    def look(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """x (B, N, E) attends to keys and values that are there already, such as an encoder's."""
        out = self.attend(self._split(self.p_q(x)), k, v)
        return self.p_o(out.transpose(1, 2).flatten(2))

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, G, N, D) of tokens x (B, N, E)."""
        return self._split(self.p_k(x)), self._split(self.p_v(x))

    def new_cache(self, batch: int, most: int) -> Cache:
        """An empty cache for this layer."""
        return Cache(batch, self.kept, most, self.head_dim, self.p_k.weight)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
