"""Greedy decoding that stops at an exit, on the layers of a real model; what the deeper layers' caches get instead.

B = 1. Two ways to fill the keys and values that a token which left early did not write. "copy": its state at the exit
stands for that of every deeper layer (LITE, and others before it). "recompute": the token is read again together with
the next one, and with the one after that, until a pass goes through all layers (EE-LLM's KV recomputation).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.cache.streaming import rotate
from kernels.early_exit.confidence import confidence
from reproductions.lab.exit_heads import Head
from reproductions.lab.reading import Reader
from reproductions.lab.speculating import distinct

WAYS = ("copy", "recompute")


@dataclass
class Exited:
    """`tokens` after the prompt; of all but the first, which the prompt gave, the layers that ran for each, and the
    seconds of all."""

    tokens: list[int]
    depths: list[int] = field(default_factory=list)
    seconds: float = 0.0


class ExitDecoder:
    """`model` with `heads` after some of its layers. A token leaves at the first whose confidence is at least its
    threshold, by layer; above 1 none does."""

    def __init__(self, model, heads: Mapping[int, Head], thresholds: Mapping[int, float], way: str, capacity: int,
                 most: int = 8):  # fmt: skip
        if way not in WAYS:
            raise ValueError(f"way: expected one of {', '.join(WAYS)}, got {way!r}")
        self.reader, self.heads, self.thresholds = Reader(model, capacity), heads, thresholds
        self.way, self.most, self.layers = way, most, len(model.model.layers)
        self.waiting: list[int] = []  # tokens whose deep keys and values are missing, the last ones of the text

    @torch.no_grad()
    def decode(self, prompt: list[int], count: int) -> Exited:
        """`count` tokens after `prompt`, which is read through all layers."""
        self.reader.cache.cut(0)
        self.waiting = []
        states = self.reader.read(prompt)[0]
        self.reader.keep(len(prompt))
        found = Exited([int(self.reader.logits(states[-1]).argmax())])
        began = self._now()
        while len(found.tokens) < count:
            token, depth = self.step(found.tokens[-1])
            found.tokens.append(token)
            found.depths.append(depth)
        found.seconds = self._now() - began
        return found

    def _now(self) -> float:
        if self.reader.cache.k.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(self, token: int) -> tuple[int, int]:
        """Read one more token: (the next one, the layers that ran)."""
        cache = self.reader.cache
        end, again = cache.length + 1, self.waiting if self.way == "recompute" else []
        cache.start = cache.length - len(again)
        ids = torch.tensor([[*again, token]], device=cache.k.device)
        hidden, done = self.reader.model.model.embed_tokens(ids), 0
        for layer in sorted(self.heads) if len(again) < self.most else []:
            hidden, done = self.reader.through(hidden, range(done, layer)), layer
            logits = self.reader.logits(self.heads[layer](hidden[0, -1]))
            if confidence(logits) >= self.thresholds[layer]:
                break
        else:
            hidden, done = self.reader.through(hidden, range(done, self.layers)), self.layers
            logits = self.reader.logits(self.reader.model.model.norm(hidden[0, -1]))
        if self.way == "copy":
            self._copy(hidden, done)
        self.waiting = [*again, token] if self.way == "recompute" and done < self.layers else []
        cache.cut(end)
        return int(logits.argmax()), done

    def _copy(self, hidden: Tensor, done: int) -> None:
        """Keys and values of the layers that did not run, from the state at the exit."""
        cache, model = self.reader.cache, self.reader.model.model
        cos, sin = model.rotary_emb(hidden, torch.tensor([[cache.start]], device=hidden.device))
        half = cos.shape[-1] // 2
        for i in range(done, self.layers):
            own, x = model.layers[i].self_attn, model.layers[i].input_layernorm(hidden)
            k, v = (f(x).unflatten(-1, (-1, own.head_dim)).transpose(1, 2) for f in (own.k_proj, own.v_proj))
            cache.update(rotate(k, cos[0, :, :half], sin[0, :, :half]), v, i)


@torch.no_grad()
def faithful(decoder: ExitDecoder, prompt: list[int], tokens: list[int]) -> float:
    """The share of `tokens` that the whole model would have chosen after the same beginning."""
    reader = decoder.reader
    reader.cache.cut(0)
    states = reader.read([*prompt, *tokens[:-1]])[0, len(prompt) - 1 :]
    return sum(a == b for a, b in zip(reader.logits(states).argmax(-1).tolist(), tokens, strict=True)) / len(tokens)


def measured(decoder: ExitDecoder, prompt: list[int], found: Exited) -> dict[str, float]:
    """Of a text that `decoder` wrote: ms a token after the prompt, the share of layers left out, the share of tokens
    that the whole model would have chosen, and of different 4-grams."""
    left_out = 1 - sum(found.depths) / len(found.depths) / decoder.layers
    return {
        "token_ms": found.seconds * 1000 / len(found.depths),
        "left_out": left_out,
        "faithful": faithful(decoder, prompt, found.tokens),
        "distinct": distinct(found.tokens),
    }
