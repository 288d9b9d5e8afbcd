"""Prompt lookup: drafts copied from where the text's last words stood before (Leviathan et al. 2023, Section 3.6)."""

from kernels.decoding.tree import Tree, chain


def look_up(ids: list[int], count: int, longest: int = 3) -> list[int]:
    """Up to `count` tokens that followed the latest earlier occurrence of the last `longest`, or fewer, tokens."""
    for n in range(min(longest, len(ids) - 1), 0, -1):
        key = ids[-n:]
        for start in range(len(ids) - n - 1, -1, -1):
            if ids[start : start + n] == key:
                return ids[start + n : start + n + count]
    return []


class PromptLookup:
    """A drafter (see reproductions/lab/speculating.py) that needs no model: a chain of at most `count` copies."""

    def __init__(self, count: int, longest: int = 3):
        self.count, self.longest = count, longest

    def draft(self, ids: list[int], states, generator=None) -> Tree:
        """What followed when the last words were last said."""
        return chain(look_up(ids, self.count, self.longest))
