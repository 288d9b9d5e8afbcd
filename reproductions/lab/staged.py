"""A small transformer in four stages with exits, and its gradients: what stage-wise back-propagation is tried on."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

VOCABULARY, WEIGHTS = 32, (0.25, 0.5, 1.0)


def build(width: int) -> nn.ModuleList:
    """(stages, norms of the exits): the inner two stages and the last have an exit, which shares the embedding."""
    parts: list[nn.Module] = [
        nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True) for _ in range(4)
    ]
    parts[0] = nn.Sequential(nn.Embedding(VOCABULARY, width), parts[0])
    return nn.ModuleList([nn.ModuleList(parts), nn.ModuleList(nn.LayerNorm(width) for _ in WEIGHTS)])


def gradients(way: Callable, model: nn.ModuleList, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Of every parameter, one after the other, by `way` of kernels/early_exit/stages.py: for next-token losses of `ids`
    (B, N) at each exit."""
    parts, norms = own = copy.deepcopy(model).to(dtype)
    table = parts[0][0].weight

    def exit_loss(norm, weight):
        return lambda x: weight * cross_entropy((norm(x[:, :-1]) @ table.T).flatten(0, 1), ids[:, 1:].flatten())

    way(parts, ids, [None, *(exit_loss(norm, w) for norm, w in zip(norms, WEIGHTS, strict=True))])
    return torch.cat([p.grad.flatten() for p in own.parameters()])
