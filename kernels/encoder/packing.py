"""Packed batches (ByteTransformer, Zhai et al. 2022, arXiv:2210.03052, Section III.D): only real tokens, row by row.

B sequences padded to S, of L_b tokens each, T = sum L_b rows in all, E width. (B, S, E) <-> (T, E).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where each packed row lies: `offsets` (B + 1,) of the sequences, `rows` (T,) in the padded matrix (B S)."""

    lengths: tuple[int, ...]
    padded: int
    offsets: Tensor
    rows: Tensor

    @classmethod
    def of(cls, lengths: list[int], padded: int, device: str | torch.device = "cpu") -> "Packing":
        """From the lengths, by their prefix sum; once a batch. ValueError if one is not 1 to `padded`."""
        if not lengths or min(lengths) < 1 or max(lengths) > padded:
            raise ValueError(f"expected lengths from 1 to {padded}, got {lengths}")
        given = torch.tensor(lengths, device=device)
        offsets = torch.cat([given.new_zeros(1), given.cumsum(0)])
        there = torch.arange(padded, device=device) < given[:, None]
        return cls(tuple(lengths), padded, offsets.int(), there.flatten().nonzero()[:, 0])

    @property
    def share(self) -> float:
        """Real tokens of all places: alpha."""
        return len(self.rows) / (len(self.lengths) * self.padded)

    def pack(self, x: Tensor) -> Tensor:
        """(B, S, ...) -> (T, ...)."""
        return x.flatten(0, 1)[self.rows]

    def unpack(self, x: Tensor) -> Tensor:
        """(T, ...) -> (B, S, ...), padding 0."""
        out = x.new_zeros(len(self.lengths) * self.padded, *x.shape[1:])
        out[self.rows] = x
        return out.unflatten(0, (len(self.lengths), self.padded))

    @property
    def mask(self) -> Tensor:
        """(B, 1, 1, S), true where a key is real: what padded attention needs."""
        there = torch.zeros(len(self.lengths) * self.padded, dtype=torch.bool, device=self.rows.device)
        there[self.rows] = True
        return there.view(len(self.lengths), 1, 1, self.padded)
