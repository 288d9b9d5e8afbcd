"""Contiguous chunks from a pool by the buddy system: what paging is held against (Kwon et al. 2023, Section 6.1).

A chunk has a power of two of units and lies at a multiple of its size. Halves are split off larger chunks as needed and
joined again when both are free. A pool of any size starts as the powers of two that it is the sum of, largest first.
"""


class OutOfRoom(Exception):
    """No free chunk is large enough; nothing was changed."""


class BuddyAllocator:
    """`size` units."""

    def __init__(self, size: int):
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        self.size = size
        self.free: dict[int, set[int]] = {1 << i: set() for i in range(size.bit_length())}  # chunk size -> offsets
        self.taken: dict[int, int] = {}  # offset -> chunk size
        start = 0
        for chunk in reversed(self.free):
            if size & chunk:
                self.free[chunk].add(start)
                start += chunk

    @property
    def used(self) -> int:
        """Units in chunks that were taken."""
        return sum(self.taken.values())

    def take(self, units: int) -> int:
        """The offset of a chunk for `units`, the smallest power of two that holds them. OutOfRoom."""
        if units < 1:
            raise ValueError(f"units: expected at least 1, got {units}")
        wanted = 1 << (units - 1).bit_length()
        chunk = next((one for one, offsets in self.free.items() if one >= wanted and offsets), None)
        if chunk is None:
            raise OutOfRoom(f"expected a free chunk of {wanted}, got none")
        offset = min(self.free[chunk])
        self.free[chunk].remove(offset)
        while chunk > wanted:
            chunk //= 2
            self.free[chunk].add(offset + chunk)
        self.taken[offset] = chunk
        return offset

    def release(self, offset: int) -> None:
        """Give a chunk back; ValueError if none was taken there."""
        if offset not in self.taken:
            raise ValueError(f"offset {offset}: expected a chunk that was taken")
        chunk = self.taken.pop(offset)
        while offset ^ chunk in self.free[chunk]:
            self.free[chunk].remove(offset ^ chunk)
            offset, chunk = min(offset, offset ^ chunk), 2 * chunk
        self.free[chunk].add(offset)
