"""The pool of blocks and the buddy system under any sequence of calls, and attention by the tables they make."""

import random
from functools import partial

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from kernels.attention.grouped_query import grouped_query_reference
from kernels.cache.buddy import BuddyAllocator, OutOfRoom
from kernels.cache.paged import BlockPool, BlockTable, OutOfBlocks, PagedCache
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact

BLOCKS, PAGE = 12, 4


class PoolMachine(RuleBasedStateMachine):
    """Texts of known tokens in a pool: written by the tables, copied where asked, and read back by the tables."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(BLOCKS, PAGE, random.Random(0).sample(range(BLOCKS), BLOCKS))
        self.memory = [[None] * PAGE for _ in range(BLOCKS)]
        self.texts: dict[BlockTable, list[int]] = {}
        self.written = 0

    tables = Bundle("tables")

    @rule(target=tables)
    def new(self):
        table = BlockTable()
        self.texts[table] = []
        return table

    @rule(table=tables, tokens=st.integers(0, 9))
    def grow(self, table, tokens):
        before = list(self.pool.free), list(self.pool.counts), list(table.blocks), table.length
        wanted = self.pool.wanted(table, tokens)
        try:
            copies = self.pool.grow(table, tokens)
        except OutOfBlocks:
            assert wanted > len(before[0])
            assert before == (self.pool.free, self.pool.counts, table.blocks, table.length)
            return
        assert len(before[0]) - len(self.pool.free) == wanted
        for old, new in copies:
            self.memory[new] = list(self.memory[old])
        for place in range(before[3], table.length):
            self.written += 1
            self.texts[table].append(self.written)
            self.memory[table.blocks[place // PAGE]][place % PAGE] = self.written

    @rule(target=tables, table=tables)
    def fork(self, table):
        other = self.pool.fork(table)
        self.texts[other] = list(self.texts[table])
        return other

    @rule(table=consumes(tables))
    def drop(self, table):
        self.pool.drop(table)
        del self.texts[table]
        assert (table.blocks, table.length) == ([], 0)

    @invariant()
    def nothing_leaks_and_counts_are_right(self):
        named = [block for table in self.texts for block in table.blocks]
        assert self.pool.counts == [named.count(block) for block in range(BLOCKS)]
        assert sorted([*self.pool.free, *set(named)]) == list(range(BLOCKS))
        assert self.pool.used == len(set(named))

    @invariant()
    def every_text_reads_as_it_was_written(self):
        for table, text in self.texts.items():
            assert table.length == len(text) and len(table.blocks) == -(-len(text) // PAGE)
            assert [self.memory[table.blocks[i // PAGE]][i % PAGE] for i in range(len(text))] == text


class BuddyMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.size = 53
        self.buddy = BuddyAllocator(self.size)
        self.empty = {size: set(offsets) for size, offsets in self.buddy.free.items()}

    chunks = Bundle("chunks")

    @rule(target=chunks, units=st.integers(1, 20))
    def take(self, units):
        wanted = 1 << (units - 1).bit_length()
        try:
            offset = self.buddy.take(units)
        except OutOfRoom:
            assert not any(offsets for size, offsets in self.buddy.free.items() if size >= wanted)
            return None
        assert self.buddy.taken[offset] == wanted and offset % wanted == 0
        return offset

    @rule(offset=consumes(chunks))
    def release(self, offset):
        if offset is not None:
            self.buddy.release(offset)

    @invariant()
    def every_unit_is_in_one_chunk(self):
        chunks = [(offset, size) for size, offsets in self.buddy.free.items() for offset in offsets]
        chunks += list(self.buddy.taken.items())
        units = sorted(unit for offset, size in chunks for unit in range(offset, offset + size))
        assert units == list(range(self.size))
        if not self.buddy.taken:
            assert self.buddy.free == self.empty


TestPool, TestBuddy = PoolMachine.TestCase, BuddyMachine.TestCase
TestPool.settings = TestBuddy.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_samples_share_their_prompt_and_copy_only_its_last_block():
    pool, prompt = BlockPool(20, PAGE), BlockTable()
    pool.grow(prompt, 10)  # two full blocks and a half
    samples = [prompt, *(pool.fork(prompt) for _ in range(3))]
    assert pool.used == 3
    copies = [pool.grow(sample) for sample in samples]
    assert [len(one) for one in copies] == [1, 1, 1, 0]  # the last one has the original to itself
    assert pool.used == 2 + 4 and {tuple(sample.blocks[:2]) for sample in samples} == {tuple(prompt.blocks[:2])}
    for sample in samples:
        pool.drop(sample)
    assert pool.used == 0


@pytest.mark.parametrize("impl", ["torch", "triton"])
def test_attention_over_forks_is_that_of_contiguous_texts(impl):
    torch.manual_seed(0)
    layers, g, h, d = 2, 2, 4, 16
    pool = BlockPool(30, PAGE, torch.randperm(30).tolist())
    cache = PagedCache(pool, layers, g, d, DEVICE)
    past = {}  # of each table: its keys and values (2, layers, G, N, D)
    tables = []
    for n in (6, 1, 8):
        table = BlockTable()
        cache.grow([table], n)
        past[table] = torch.randn(2, layers, g, n, d, device=DEVICE)
        step = cache.step([table], n)
        for layer in range(layers):
            q, (k, v) = torch.randn(1, h, n, d, device=DEVICE), past[table][:, layer, None]
            found = cache.attend(layer, step, q, k, v, impl)
            assert_exact([found], partial(grouped_query_reference, causal=True), (q, k, v))
        tables += [table, pool.fork(table)]
        past[tables[-1]] = past[table]
    for _ in range(3):
        new = torch.randn(2, layers, len(tables), g, 1, d, device=DEVICE)
        cache.grow(tables)
        step = cache.step(tables)
        for i, table in enumerate(tables):
            past[table] = torch.cat([past[table], new[:, :, i]], 3)
        for layer in range(layers):
            q = torch.randn(len(tables), h, 1, d, device=DEVICE)
            found = cache.attend(layer, step, q, *new[:, layer], impl)
            for i, table in enumerate(tables):
                one = slice(i, i + 1)
                assert_exact([found[one]], grouped_query_reference, (q[one], *past[table][:, layer, None]))
    assert cache.copied == 2  # of 6 and of 1 token; a full block needs none


def test_what_is_refused():
    with pytest.raises(ValueError, match="expected at least 1 block of at least 1 token, got 0 of 4"):
        BlockPool(0, 4)
    with pytest.raises(ValueError, match="order: expected each of 0 to 2 once"):
        BlockPool(3, 4, [0, 0, 1])
    pool, table = BlockPool(2, 4), BlockTable()
    with pytest.raises(OutOfBlocks, match="expected 3 free blocks, got 2"):
        pool.grow(table, 9)
    with pytest.raises(ValueError, match="block 1: expected one in use, got a free one"):
        pool.release(1)
    pool.grow(table, 8)
    with pytest.raises(OutOfBlocks, match="expected 1 free block, got 0"):
        pool.take()
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        BuddyAllocator(0)
    buddy = BuddyAllocator(6)
    with pytest.raises(ValueError, match="units: expected at least 1, got 0"):
        buddy.take(0)
    with pytest.raises(OutOfRoom, match="expected a free chunk of 8"):
        buddy.take(5)
    with pytest.raises(ValueError, match="offset 1: expected a chunk that was taken"):
        buddy.release(1)
