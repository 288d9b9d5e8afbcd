"""A language model that decodes from a pool of blocks: many requests at once, forks of one prompt, and beams."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.cache.paged import PAGE, BlockPool, BlockTable, PagedCache
from kernels.cache.streaming import rotate
from reproductions.lab import models
from reproductions.lab.serving import Memory, Request


def new_cache(model, blocks: int, order: Sequence[int] | None = None) -> PagedCache:
    """An empty pool of `blocks` for the model's layers, handed out in `order`."""
    config = model.config
    size = config.num_hidden_layers, config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    return PagedCache(BlockPool(blocks, PAGE, order), *size, device=model.device, dtype=model.dtype)


@torch.no_grad()
def feed(model, cache: PagedCache, tables: Sequence[BlockTable], ids: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Logits (B, V) after `ids` (B, N), the newest tokens of `tables`, which have grown by N for them already.

    `angles`: the model's rotary tables, as long as the longest text.
    """
    step = cache.step(tables, ids.shape[1])
    cos, sin = (x[step.places][:, None] for x in angles)

    def attend(layer, q, k, v):
        return cache.attend(layer, step, rotate(q, cos, sin), rotate(k, cos, sin), v)

    return model.lm_head(models.forward(model, ids, attend)[:, -1:])[:, 0].float()


def prefill(model, cache: PagedCache, prompt: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[BlockTable, Tensor]:
    """The table of a `prompt` (N,), and the logits (V,) after it."""
    table = BlockTable()
    cache.grow([table], len(prompt))
    return table, feed(model, cache, [table], prompt[None], angles)[0]


def branches(
    model, cache: PagedCache, prompts: Sequence[Tensor], tokens: int, width: int
) -> tuple[list[Tensor], Tensor]:
    """`width` greedy continuations of each prompt, which begin with its `width` likeliest tokens, all decoded together.

    Returns the texts, prompts included, and the logits (texts, tokens, V) from which each token after the first was
    chosen and one more would be.
    """
    angles = models.rotation(model, max(map(len, prompts)) + tokens)
    tables, texts = [], []
    for prompt in prompts:
        table, logits = prefill(model, cache, prompt, angles)
        tables += [table] + [cache.pool.fork(table) for _ in range(width - 1)]
        texts += [torch.cat([prompt, token[None]]) for token in logits.topk(width).indices]
    found = []
    for i in range(tokens):
        cache.grow(tables)
        found.append(feed(model, cache, tables, torch.stack([text[-1:] for text in texts]), angles))
        if i + 1 < tokens:
            chosen = found[-1].argmax(-1, keepdim=True)
            texts = [torch.cat(pair) for pair in zip(texts, chosen, strict=True)]
    for table in tables:
        cache.pool.drop(table)
    return texts, torch.stack(found, 1)


@dataclass
class Beams:
    """What a beam search of one prompt gave: its tokens (W, T), best first, their log likelihoods (W,), and the blocks
    it held, summed over its steps: `shared` as it was, `apart` had every beam kept its own."""

    tokens: Tensor
    scores: Tensor
    shared: int = 0
    apart: int = 0


def search(
    model,
    cache: PagedCache,
    prompts: Sequence[Tensor],
    lengths: Sequence[int],
    width: int,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Beams]:
    """Beam search of `width` from each prompt for as many tokens as `lengths` says, all prompts decoded together."""
    angles = models.rotation(model, max(len(p) + n for p, n in zip(prompts, lengths, strict=True)))
    found, tables = [], []
    for prompt in prompts:
        table, logits = prefill(model, cache, prompt, angles)
        scores, first = logits.log_softmax(-1).topk(width)
        found.append(Beams(first[:, None], scores))
        tables.append([table] + [cache.pool.fork(table) for _ in range(width - 1)])
    for step in range(1, max(lengths)):
        live = [i for i, length in enumerate(lengths) if step < length]
        rows = [table for i in live for table in tables[i]]
        cache.grow(rows)
        logits = feed(model, cache, rows, torch.cat([found[i].tokens[:, -1:] for i in live]), angles)
        for i, likely in zip(live, logits.log_softmax(-1).split(width), strict=True):
            tables[i] = _extend(cache.pool, found[i], tables[i], likely)
        for i in set(range(len(prompts))) - set(live):
            _drop(cache.pool, tables[i])
        if on_step:
            on_step(step, max(lengths))
    for left in tables:
        _drop(cache.pool, left)
    return found


def _extend(pool: BlockPool, beams: Beams, tables: list[BlockTable], likely: Tensor) -> list[BlockTable]:
    """Count what the beams hold, then let the best of their continuations (W, V) be the new beams."""
    beams.shared += len({block for table in tables for block in table.blocks})
    beams.apart += sum(len(table.blocks) for table in tables)
    width, vocabulary = likely.shape
    beams.scores, at = (beams.scores[:, None] + likely).flatten().topk(width)
    parents = at // vocabulary
    beams.tokens = torch.cat([beams.tokens[parents], at[:, None] % vocabulary], 1)
    forked = [pool.fork(tables[parent]) for parent in parents.tolist()]
    _drop(pool, tables)
    return forked


def _drop(pool: BlockPool, tables: list[BlockTable]) -> None:
    for table in tables:
        pool.drop(table)


class Engine:
    """What really runs the iterations of `serving.serve`: greedy decoding of prompts drawn from `ids` (M,)."""

    def __init__(self, model, ids: Tensor, longest: int):
        self.model, self.ids, self.angles = model, ids, models.rotation(model, longest)
        self.cache: PagedCache | None = None
        self.texts: dict[Request, Tensor] = {}

    def __call__(self, fresh: Sequence[Request], others: Sequence[Request], memory: Memory) -> float:
        """Seconds that one iteration took. Every request's tokens are kept in `texts`."""
        if self.cache is None or self.cache.pool is not memory.pool:
            self.cache = new_cache(self.model, memory.pool.blocks)
            self.cache.pool = memory.pool
        start = time.perf_counter()
        for request in fresh:
            text = self.texts.get(request, self.ids[: request.prompt])
            logits = feed(self.model, self.cache, [memory.tables[request]], text[None], self.angles)
            self.texts[request] = torch.cat([text, logits.argmax(-1)])
        if others:
            newest = torch.stack([self.texts[request][-1:] for request in others])
            tables = [memory.tables[request] for request in others]
            chosen = feed(self.model, self.cache, tables, newest, self.angles).argmax(-1, keepdim=True)
            for request, token in zip(others, chosen, strict=True):
                self.texts[request] = torch.cat([self.texts[request], token])
        if self.ids.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start
