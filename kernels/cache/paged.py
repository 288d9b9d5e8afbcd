"""PagedAttention's cache (Kwon et al. 2023, arXiv:2309.06180): blocks of P tokens from one pool, found by block tables.

A sequence takes a block when its last one is full, so it wastes less than a block. Every block counts the tables that
name it: `fork` copies a table and no keys, and a table that writes into a block it shares gets its own copy first
(copy-on-write). `BlockPool` is the bookkeeping alone; `PagedCache` holds the keys and values, and what it attends with
is kernels/attention/paged.py. B sequences, H query heads, G key heads, N new tokens, D head size, A blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.attention.paged import paged_attention

PAGE = 16  # the paper's own block size


class OutOfBlocks(Exception):
    """The pool has too few free blocks; the message says how many were wanted. Nothing was changed."""


@dataclass(eq=False)
class BlockTable:
    """The blocks of one sequence in order, and how many tokens they hold."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0


class BlockPool:
    """`blocks` blocks of `page` tokens. `order`: in which they are handed out, at first; ascending unless given."""

    def __init__(self, blocks: int, page: int = PAGE, order: Sequence[int] | None = None):
        if blocks < 1 or page < 1:
            raise ValueError(f"expected at least 1 block of at least 1 token, got {blocks} of {page}")
        order = range(blocks) if order is None else order
        if sorted(order) != list(range(blocks)):
            raise ValueError(f"order: expected each of 0 to {blocks - 1} once, got {list(order)[:8]}")
        self.blocks, self.page = blocks, page
        self.free = list(reversed(order))  # the next one last
        self.counts = [0] * blocks

    @property
    def used(self) -> int:
        """Blocks that a table names."""
        return self.blocks - len(self.free)

    def take(self) -> int:
        """A free block, counted once. OutOfBlocks."""
        if not self.free:
            raise OutOfBlocks("expected 1 free block, got 0")
        block = self.free.pop()
        self.counts[block] = 1
        return block

    def release(self, block: int) -> None:
        """One table less names `block`; the last one frees it. ValueError if none did."""
        if self.counts[block] == 0:
            raise ValueError(f"block {block}: expected one in use, got a free one")
        self.counts[block] -= 1
        if self.counts[block] == 0:
            self.free.append(block)

    def wanted(self, table: BlockTable, tokens: int = 1) -> int:
        """How many free blocks `tokens` more take, a copy of a shared last block included."""
        return -(-(table.length + tokens) // self.page) - len(table.blocks) + self._copies(table, tokens)

    def grow(self, table: BlockTable, tokens: int = 1) -> list[tuple[int, int]]:
        """Room for `tokens` more. Returns the (from, to) blocks to copy before they are written: one or none.

        OutOfBlocks before anything is changed.
        """
        if (wanted := self.wanted(table, tokens)) > len(self.free):
            raise OutOfBlocks(f"expected {wanted} free blocks, got {len(self.free)}")
        copies = []
        if self._copies(table, tokens):
            copies = [(table.blocks[-1], self.take())]
            self.release(table.blocks[-1])
            table.blocks[-1] = copies[0][1]
        table.length += tokens
        while len(table.blocks) * self.page < table.length:
            table.blocks.append(self.take())
        return copies

    def fork(self, table: BlockTable) -> BlockTable:
        """A second sequence with the same past, at no cost."""
        for block in table.blocks:
            self.counts[block] += 1
        return BlockTable(list(table.blocks), table.length)

    def drop(self, table: BlockTable) -> None:
        """The sequence is done: its table is emptied, and what nobody else names is free."""
        for block in table.blocks:
            self.release(block)
        table.blocks, table.length = [], 0

    def _copies(self, table: BlockTable, tokens: int) -> bool:
        """Whether the next token goes into a block that another table names too."""
        return tokens > 0 and table.length % self.page > 0 and self.counts[table.blocks[-1]] > 1


@dataclass(frozen=True)
class Step:
    """Where the N newest tokens of B sequences go: `slots` and `places` in the text (B, N), and what paged attention
    reads by: `table` (B, T) and `lengths` (B,)."""

    slots: Tensor
    places: Tensor
    table: Tensor
    lengths: Tensor


class PagedCache:
    """Keys and values of all layers; a block number names the same tokens in each. Keys are kept as they come."""

    def __init__(
        self,
        pool: BlockPool,
        layers: int,
        groups: int,
        head_dim: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.pool, self.copied = pool, 0
        shape = layers, pool.blocks, pool.page, groups, head_dim
        self.k, self.v = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))

    def grow(self, tables: Sequence[BlockTable], tokens: int = 1) -> None:
        """Room for `tokens` more in each, shared blocks copied first. OutOfBlocks: some may have grown."""
        for table in tables:
            for old, new in self.pool.grow(table, tokens):
                self.k[:, new], self.v[:, new] = self.k[:, old], self.v[:, old]
                self.copied += 1

    def step(self, tables: Sequence[BlockTable], tokens: int = 1) -> Step:
        """The newest `tokens` of each, which it has room for already."""
        page, device = self.pool.page, self.k.device
        longest = max(len(table.blocks) for table in tables)
        rows = [table.blocks + [0] * (longest - len(table.blocks)) for table in tables]
        table = torch.tensor(rows, dtype=torch.int32, device=device)
        lengths = torch.tensor([one.length for one in tables], dtype=torch.int32, device=device)
        places = lengths[:, None].long() + torch.arange(-tokens, 0, device=device)
        return Step(table.gather(1, places // page).long() * page + places % page, places, table, lengths)

    def attend(self, layer: int, step: Step, q: Tensor, k: Tensor, v: Tensor, impl: str = "auto") -> Tensor:
        """Write k and v (B, G, N, D) of the new tokens; attention of q (B, H, N, D) over each one's past."""
        for pool, new in ((self.k, k), (self.v, v)):
            pool[layer].flatten(0, 1)[step.slots] = new.transpose(1, 2)
        return paged_attention(q, self.k[layer], self.v[layer], step.table, step.lengths, causal=True, impl=impl)
