"""Small byte-level models that differ in nothing but how they are told positions."""

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, scaled_dot_product_attention

from kernels.position.rotary import rotary, tables
from reproductions.lab import training

HEADS = 8
SCHEMES = ("rotary", "sinusoidal", "learned", "none")


class Attention(nn.Module):
    """Causal attention on x (B, N, E), softmax or linear (elu + 1), rotary or not."""

    def __init__(self, width: int, rotates: bool, linear: bool):
        super().__init__()
        self.project, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.rotates, self.linear = rotates, linear

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, E) -> (B, N, E)."""
        q, k, v = self.project(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.linear:
            q, k = elu(q) + 1, elu(k) + 1
        turned = (
            rotary(q, k, *tables(torch.arange(x.shape[1], device=x.device), q.shape[-1])) if self.rotates else (q, k)
        )
        if self.linear:
            total = (q @ k.mT).tril().sum(-1, keepdim=True)
            found = (turned[0] @ turned[1].mT).tril() @ v / total
        else:
            found = scaled_dot_product_attention(*turned, v, is_causal=True)
        return self.out(found.transpose(1, 2).flatten(2))


def model(width: int, layers: int, context: int, scheme: str, attention: str) -> training.ByteModel:
    """A model by `scheme`, one of SCHEMES, with "softmax" or "linear" attention.

    Sinusoids are added at the size that embeddings start with, as the two stand to each other in a Transformer; five,
    fifteen and fifty times as large, these small models learned more slowly.
    """
    attend = [Attention(width, scheme == "rotary", attention == "linear") for _ in range(layers)]
    made = training.ByteModel(width, context, [training.Block(width, one, 4 * width) for one in attend])
    if scheme != "learned":
        cos, sin = tables(torch.arange(context), width)
        added = torch.stack([sin, cos], -1).flatten(1) * 0.02 if scheme == "sinusoidal" else torch.zeros(1, width)
        made.place.weight.requires_grad_(False).copy_(added.expand_as(made.place.weight))
    return made
