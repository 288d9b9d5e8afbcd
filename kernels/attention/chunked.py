"""Self-attention in O(sqrt n) memory (Rabe and Staats 2021, arXiv:2112.05682): exact attention, chunk by chunk.

B batch, H heads, N queries, M keys, D head size. q (B, H, N, D), k and v (B, H, M, D) -> (B, H, N, D). Chunks of
queries are worked off one after the other; within one, every chunk of keys leaves a summary (sum of e^(s - m) v, sum of
e^(s - m), its maximum m), and the summaries are rescaled to their common maximum and divided at the end (Section 3).
The summary is recomputed in the backward pass, and the maximum is a constant there: the gradient is still exact.
The reference is `attention_reference` of flash.py, the standard attention of the paper. No kernel: the paper has none.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kernels.attention.tiles import wide

QUERY_CHUNK, KEY_CHUNK = 1024, 4096  # the paper's defaults


def lazy_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Section 2: one key at a time, a running numerator, denominator and maximum. Memory: one number a query."""
    q = q.to(wide(q.dtype)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    numerator, denominator = torch.zeros_like(q), torch.zeros_like(q[..., :1])
    top = torch.full_like(denominator, -torch.inf)
    for j in range(k.shape[2]):
        s = (q * k[:, :, j : j + 1]).sum(-1, keepdim=True)
        higher = torch.maximum(top, s)
        fade, weight = torch.exp(top - higher), torch.exp(s - higher)
        numerator = numerator * fade + weight * v[:, :, j : j + 1]
        denominator, top = denominator * fade + weight, higher
    return (numerator / denominator).to(v.dtype)


def _summary(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one chunk of keys, for one chunk of scaled queries: (B, H, n, D), (B, H, n, 1) and (B, H, n, 1)."""
    s = q @ k.to(q.dtype).mT
    top = s.detach().amax(-1, keepdim=True)
    p = s.sub_(top).exp_()
    return p @ v.to(q.dtype), p.sum(-1, keepdim=True), top


def chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_chunk: int = QUERY_CHUNK,
    key_chunk: int = KEY_CHUNK,
    scale: float | None = None,
) -> Tensor:
    """Exact attention that holds one `query_chunk` x `key_chunk` of scores and M / key_chunk summaries at a time.

    With `key_chunk` = sqrt(M) that is O(sqrt M) (Section 3). ValueError says what was expected of shapes and chunks.
    """
    if q.dim() != 4 or k.shape != v.shape or (*k.shape[:2], k.shape[3:]) != (*q.shape[:2], q.shape[3:]):
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"expected q (B, H, N, D), k and v (B, H, M, D), got {shapes}")
    if min(query_chunk, key_chunk) < 1 or not k.shape[2]:
        raise ValueError(f"expected chunks and keys >= 1, got {query_chunk}, {key_chunk} and {k.shape[2]} keys")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    keys = list(zip(k.split(key_chunk, 2), v.split(key_chunk, 2), strict=True))
    out = torch.empty_like(q)
    for first in range(0, q.shape[2], query_chunk):
        rows = slice(first, first + query_chunk)
        out[:, :, rows] = _one_chunk(q[:, :, rows], keys, scale)
    return out


def _one_chunk(q: Tensor, keys: list[tuple[Tensor, Tensor]], scale: float) -> Tensor:
    scaled = q.to(wide(q.dtype)) * scale
    found = [checkpoint(_summary, scaled, *chunk, use_reentrant=False) for chunk in keys]
    values, weights, tops = (torch.stack(part) for part in zip(*found, strict=True))
    fade = torch.exp(tops - tops.amax(0))
    return ((values * fade).sum(0) / (weights * fade).sum(0)).to(q.dtype)
