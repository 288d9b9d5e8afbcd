"""The one decode loop: a drafter proposes a chain or a tree, the model reads it in one pass, a rule accepts a part.

Without a drafter it is plain decoding. V tokens, E width, M drafts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from kernels.decoding.sampling import distribution, sample
from kernels.decoding.tree import Tree
from kernels.decoding.verify import verify
from reproductions.lab.reading import Reader

Rule = Callable[[Tree, Tensor, torch.Generator | None], tuple[list[int], int]]


class Drafter(Protocol):
    """Whatever proposes tokens."""

    def draft(self, ids: list[int], states: Tensor, generator: torch.Generator | None) -> Tree:
        """Drafts below ids[-1]. `states` (n, E): the model's normed hidden states at the n positions that it has read
        since the last call, the ones before ids[-1]; the last of them gave ids[-1]. The first call of a text has all
        of its prompt, so `len(states) == len(ids) - 1` says that a new text begins."""


@dataclass
class Decoded:
    """`tokens` after the prompt. Of each call of the model after the prompt's: how many drafts it was given, how many
    it accepted (it always adds one token of its own), and the seconds of drafting and of the call."""

    tokens: list[int]
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    draft_s: list[float] = field(default_factory=list)
    call_s: list[float] = field(default_factory=list)

    @property
    def per_call(self) -> float:
        """Tokens that a call yields, mean."""
        return sum(self.accepted) / len(self.accepted) + 1 if self.accepted else 1.0

    @property
    def seconds(self) -> float:
        """Of everything after the prompt."""
        return sum(self.draft_s) + sum(self.call_s)


def decode(
    reader: Reader,
    prompt: list[int],
    count: int,
    drafter: Drafter | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    rule: Rule = verify,
) -> Decoded:
    """`count` tokens after `prompt`, B = 1; the first comes from reading the prompt. Greedy at temperature 0.

    The reader's cache needs room for the prompt, `count` tokens and one tree. What ends a text is left to the caller.
    """
    choose = partial(distribution, temperature=temperature, top_p=top_p)
    reader.cache.cut(0)
    states = reader.read(prompt)[0]
    reader.keep(len(prompt))
    found = Decoded([sample(choose(reader.logits(states[-1])), generator)])
    while len(found.tokens) < count:
        began = _now(states)
        ids = [*prompt, *found.tokens]
        tree = drafter.draft(ids, states, generator) if drafter else Tree([], [])
        between = _now(states)
        hidden = reader.read([ids[-1], *tree.tokens], tree.parents)[0]
        path, token = rule(tree, choose(reader.logits(hidden)), generator)
        reader.keep([0, *path])
        states = hidden[[0, *path]]
        found.tokens += [*(tree.tokens[node - 1] for node in path), token]
        found.drafted.append(len(tree))
        found.accepted.append(len(path))
        found.draft_s.append(between - began)
        found.call_s.append(_now(states) - between)
    del found.tokens[count:]
    return found


def _now(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def distinct(tokens: list[int], n: int = 4) -> float:
    """The share of `n`-grams that are not repetitions: 1 for a text that never repeats itself, near 0 for a loop."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def repeats_from(tokens: list[int], n: int = 4) -> int:
    """How many tokens come before the first `n`-gram that was there already; all of them if none was."""
    seen: set[tuple] = set()
    for i in range(len(tokens) - n + 1):
        gram = tuple(tokens[i : i + n])
        if gram in seen:
            return i
        seen.add(gram)
    return len(tokens)


def differs(reader: Reader, prompt: list[int], plain: list[int], found: list[int], tie: float = 1e-3) -> bool:
    """Whether greedy text `found` is another than `plain`, and not for a tie of the model's two likeliest tokens.

    Passes of another shape round otherwise: where the first two tokens that differ have logits closer than `tie`, the
    model itself does not say which is right.
    """
    at = next((i for i, (a, b) in enumerate(zip(plain, found, strict=True)) if a != b), None)
    if at is None:
        return False
    reader.cache.cut(0)
    logits = reader.logits(reader.read([*prompt, *plain[:at]])[0, -1])
    return bool(logits.max() - logits[[plain[at], found[at]]].min() > tie)
