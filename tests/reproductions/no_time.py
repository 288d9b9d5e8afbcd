"""A model that takes no time and always says token 5, and a drafter that is told what to do: for breaks of decoding."""

import time

import torch

from kernels.decoding.tree import chain
from reproductions.lab.reading import Reader

VOCABULARY = 16


def stub(monkeypatch) -> None:
    """Every Reader reads at once, and its model is sure of token 5."""
    always = torch.zeros(VOCABULARY)
    always[5] = 100
    monkeypatch.setattr(Reader, "__init__", lambda self, *_: setattr(self, "cache", Cache()))
    monkeypatch.setattr(Reader, "read", read)
    monkeypatch.setattr(Reader, "keep", lambda self, path: None)
    monkeypatch.setattr(Reader, "logits", lambda self, hidden: always.expand(*hidden.shape[:-1], -1))


def another_text(monkeypatch, paper) -> None:
    """Whatever the paper's runs decode with a drafter has another second token."""
    normal = paper.decode

    def decode(*given, **options):
        found = normal(*given, **options)
        if len(given) > 3:  # reader, prompt, count, drafter
            found.tokens[1] += 1
        return found

    monkeypatch.setattr(paper, "decode", decode)


def read(self, ids, parents=None, seconds=0.0):
    """States of nothing."""
    time.sleep(seconds)
    return torch.zeros(1, len(ids), 1)


class Cache:
    """Nothing is kept."""

    capacity = 1000

    def cut(self, length):
        """Nothing to cut."""


class Drafts:
    """`count` drafts, the first `good(count)` of which are right, after `seconds(count)`."""

    def __init__(self, count, good, seconds):
        self.count, self.good, self.seconds = count, good, seconds

    def draft(self, ids, states, generator=None):
        time.sleep(self.seconds(self.count))
        good = self.good(self.count)
        return chain([5] * good + [7] * (self.count - good))
