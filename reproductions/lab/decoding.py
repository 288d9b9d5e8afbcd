"""A decoder with random weights, to time generation: one token at a time, greedy or with a beam.

Its attention is whatever layers it is given; they keep a cache and have `keys`, `look`, `step` and `new_cache` as
those of kernels/attention/multi_query.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reproductions.lab.training import Block


def step(block: Block, x: Tensor, cache) -> Tensor:
    """One more token through a block: x (B, 1, E) -> (B, 1, E); `cache` keeps its key and value."""
    x = x + block.attention.step(block.norms[0](x), cache)
    return x + block.feed(block.norms[1](x))


class Decoder(nn.Module):
    """`blocks` with a cache each, and after each block one of `across`, which looks at an encoder's output."""

    def __init__(self, width: int, vocabulary: int, blocks: Sequence[Block], across: Sequence[nn.Module]):
        super().__init__()
        self.embed, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary, bias=False)
        self.blocks, self.across = nn.ModuleList(blocks), nn.ModuleList(across)

    @torch.no_grad()
    def generate(self, source: Tensor, tokens: int, beam: int = 1) -> Tensor:
        """The tokens (B * beam, T) that follow token 0 given `source` (B, N, E): greedy, or the best of a beam."""
        rows = source.shape[0] * beam
        caches = [block.attention.new_cache(rows, tokens) for block in self.blocks]
        seen = [layer.keys(source.repeat_interleave(beam, 0)) for layer in self.across]
        found = source.new_zeros(rows, tokens + 1, dtype=torch.long)
        score = source.new_zeros(source.shape[0], beam).index_fill(1, torch.arange(1, beam).to(source.device), -1e4)
        for i in range(tokens):
            x = self.embed(found[:, i : i + 1])
            for block, layer, cache, keys in zip(self.blocks, self.across, caches, seen, strict=True):
                x = step(block, x, cache)
                x = x + layer.look(x, *keys)
            logits = self.head(x[:, 0])
            if beam == 1:
                found[:, i + 1] = logits.argmax(-1)
                continue
            total = score.view(-1, 1) + logits.float().log_softmax(-1)
            score, at = total.view(-1, beam * logits.shape[1]).topk(beam)
            parents = at // logits.shape[1] + torch.arange(0, rows, beam, device=at.device)[:, None]
            found = found[parents.flatten()]
            found[:, i + 1] = (at % logits.shape[1]).flatten()
            for cache in caches:
                cache.reorder(parents.flatten())
        return found[:, 1:]
