"""A key-value cache that can go back: one allocation for all layers, and a counter of what is kept.

L layers, B sequences of one length, G key heads, C slots, D head size. Keys come as the model's layers make them
(transformers' layers: already rotated) and are never moved but by `keep`. Cutting is a change of the counter, not a
copy. A pass over N new tokens writes their slots in each layer, from `length` on, and is then taken or partly taken.
"""

import torch
from torch import Tensor


class ContiguousCache:
    """Keys and values (L, B, G, C, D). Passed to a layer of transformers as its cache: `update` is that interface.

    `length` slots are kept; a layer that reads N tokens writes slots `start` .. `start + N - 1`, where `start` is
    `length` unless it is set for a pass that fills earlier slots of deeper layers.
    """

    def __init__(self, layers: int, batch: int, heads: int, capacity: int, dim: int, dtype=torch.float32, device="cpu"):
        shape = layers, batch, heads, capacity, dim
        self.k, self.v = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.length = self.start = 0

    @property
    def capacity(self) -> int:
        """How many tokens fit."""
        return self.k.shape[3]

    def update(self, k: Tensor, v: Tensor, layer: int, *_, **__) -> tuple[Tensor, Tensor]:
        """Write k and v (B, G, N, D) of new tokens; returns all up to them, (B, G, start + N, D), without a copy.

        ValueError when they do not fit.
        """
        end = self.start + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"cache: {end} tokens do not fit into {self.capacity} slots")
        self.k[layer, :, :, self.start : end] = k
        self.v[layer, :, :, self.start : end] = v
        return self.k[layer, :, :, :end], self.v[layer, :, :, :end]

    def keep(self, path: list[int]) -> None:
        """Of the tokens written since the last `keep`, those at `path` (increasing) stay, moved to the front."""
        if path != list(range(len(path))):
            index = torch.tensor(path, device=self.k.device) + self.length
            for x in (self.k, self.v):
                x[:, :, :, self.length : self.length + len(path)] = x.index_select(3, index)
        self.cut(self.length + len(path))

    def cut(self, length: int) -> None:
        """Keep the first `length` slots."""
        if not 0 <= length <= self.capacity:
            raise ValueError(f"length: expected 0 to {self.capacity}, got {length}")
        self.length = self.start = length
