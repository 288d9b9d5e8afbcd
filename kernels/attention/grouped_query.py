"""Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245), and multi-head layers converted to it.

B batch, H query heads, G groups (H = G * R), N queries, M keys, D head size, E model width. Heads g R .. (g + 1) R - 1
share key and value head g: q (B, H, N, D), k and v (B, G, M, D) -> (B, H, N, D). G = H is multi-head attention, G = 1
multi-query. Causal: query i sees keys j <= i + M - N, N <= M.
"""

import torch
from torch import Tensor, nn

from kernels.attention.flash import attention_reference
from kernels.attention.multi_query import Attention
from kernels.attention.tiles import visible

CONVERSIONS = ("mean", "first", "random")  # Section 2.1, and Figure 4


def grouped_query_reference(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Multi-head attention with each key and value head copied R times. Same arguments as the method."""
    repeat = q.shape[1] // k.shape[1]
    return attention_reference(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), causal)


def grouped_query_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """q (B, H, N, D), k and v (B, G, M, D) -> (B, H, N, D): the queries of a group are rows of one matrix product.

    Plain PyTorch, differentiable: the contribution is a layer and its conversion. ValueError for other shapes.
    """
    shapes = [tuple(x.shape) for x in (q, k, v)]
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape or k.shape[::3] != q.shape[::3]:
        raise ValueError(f"expected q (B, H, N, D), k and v (B, G, M, D); got {shapes}")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"expected a number of query heads that the groups divide, got {q.shape[1]} and {k.shape[1]}")
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError(f"causal: expected at most as many queries as keys, got {q.shape[2]} and {k.shape[2]}")
    (_, h, n, d), g = q.shape, k.shape[1]
    scores = (q.unflatten(1, (g, h // g)).flatten(2, 3) @ k.mT).unflatten(2, (h // g, n)) * d**-0.5
    if causal and n > 1:
        m = k.shape[2]
        see = visible(torch.arange(n, device=q.device), torch.arange(m, device=q.device), n, m)
        scores = scores.masked_fill(~see, -torch.inf)
    return (scores.softmax(-1).flatten(2, 3) @ v).unflatten(2, (h // g, n)).flatten(1, 2)


class GroupedAttention(Attention):
    """The layer with G key and value heads: x (B, N, E) -> (B, N, E)."""

    def __init__(self, width: int, heads: int, head_dim: int, groups: int):
        if groups < 1 or heads % groups:
            raise ValueError(f"groups: expected a divisor of {heads} heads, got {groups}")
        super().__init__(width, heads, head_dim)
        self.kept, self.attend = groups, grouped_query_attention
        self.p_k, self.p_v = (nn.Linear(width, groups * head_dim, bias=False) for _ in range(2))


def pool(weight: Tensor, head_dim: int, groups: int, how: str = "mean") -> Tensor:
    """The projection (G * D, E) of G groups from one (H * D, E) of H heads, by one of CONVERSIONS.

    "mean" of the heads of a group, its "first" head, or "random": drawn anew as a linear layer is. ValueError.
    """
    if how not in CONVERSIONS:
        raise ValueError(f"how: expected one of {', '.join(CONVERSIONS)}, got {how!r}")
    heads = weight.unflatten(0, (-1, head_dim))
    if groups < 1 or len(heads) % groups:
        raise ValueError(f"groups: expected a divisor of {len(heads)} heads, got {groups}")
    grouped = heads.unflatten(0, (groups, -1))
    if how == "random":
        fresh = nn.Linear(weight.shape[1], groups * head_dim, bias=False)
        return fresh.weight.detach().to(weight)
    return (grouped.mean(1) if how == "mean" else grouped[:, 0]).flatten(0, 1)


@torch.no_grad()
def convert(layer: Attention, groups: int, how: str = "mean") -> GroupedAttention:
    """A layer of `groups` groups from one with more: queries and output as they are, keys and values pooled."""
    width = layer.p_q.in_features
    new = GroupedAttention(width, layer.heads, layer.head_dim, groups).to(layer.p_q.weight)
    new.p_q.weight.copy_(layer.p_q.weight)
    new.p_o.weight.copy_(layer.p_o.weight)
    for mine, old in ((new.p_k, layer.p_k), (new.p_v, layer.p_v)):
        mine.weight.copy_(pool(old.weight, layer.head_dim, groups, how))
    return new
