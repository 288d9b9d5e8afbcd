"""A model read token by token with caches that let tokens go: losses, and what was kept."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.cache.kept import KeptCache
from reproductions.lab import models
from reproductions.spec import ParameterError

Maker = Callable[[Tensor, Tensor], KeptCache]


@dataclass
class Reading:
    """Of texts (B, N): `losses` (B, N - start - 1) of the tokens after `start`, in nats; the most and the mean that a
    head held after a step from `start` on, as shares of the text."""

    losses: Tensor
    most: float
    mean: float


@torch.no_grad()
def steps(model, ids: Tensor, makers: Iterable[Maker]) -> Iterator[tuple[Tensor, list[list[KeptCache]]]]:
    """Read `ids` (B, N) one token at a time, as a decoder would, by every policy: `makers` say what makes a layer's
    cache from (cos, sin). The policies share each pass through the weights, as one batch.

    Yields, after each token but the last, the normed states (policies, B, E) and the caches by policy and layer.
    """
    count, texts = ids.shape[1], len(ids)
    cos, sin = models.rotation(model, count)
    caches = [[make(cos, sin) for _ in model.model.layers] for make in makers]

    def attend(layer, q, k, v):
        parts = zip(caches, *(x.split(texts) for x in (q, k, v)), strict=True)
        return torch.cat([of[layer].attend(*one) for of, *one in parts])

    for i in range(count - 1):
        hidden = models.forward(model, ids[:, i : i + 1].repeat(len(caches), 1), attend)
        yield hidden[:, 0].unflatten(0, (len(caches), texts)), caches


@torch.no_grad()
def read(
    model, ids: Tensor, makers: Mapping[str, Maker], start: int, on_token: Callable[[int, int], None] | None = None
) -> dict[str, Reading]:
    """Read `ids` (B, N) by every policy, named. `on_token(done, of)`."""
    last, losses = ids.shape[1] - 1, list[Tensor]()
    held: dict[str, list[float]] = {name: [] for name in makers}
    for i, (hidden, caches) in enumerate(steps(model, ids, makers.values())):
        if i >= start:
            for name, layers in zip(makers, caches, strict=True):
                held[name].append(sum(cache.tokens for cache in layers) / len(layers) / last)
            logits, wanted = model.lm_head(hidden).float(), ids[:, i + 1].repeat(len(makers))
            nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted, reduction="none")
            losses.append(nll.view(len(makers), -1))
        if on_token:
            on_token(i + 1, last)
    found = zip(makers, torch.stack(losses, 2), held.values(), strict=True)
    return {name: Reading(each, max(shares), sum(shares) / len(shares)) for name, each, shares in found}


def compare(lab, model, ids: Tensor, makers: Mapping[str, Maker], start: int, block: int) -> dict[str, Reading]:
    """Read `ids` by every policy, with progress; a row for each `block` of tokens of a text: method, block, nll."""
    readings = read(model, ids, makers, start, lambda done, of: lab.progress("reading", done, of))
    for name, reading in readings.items():
        for text, losses in enumerate(reading.losses):
            for i, part in enumerate(losses.split(block)):
                lab.row(method=name, block=f"{text}.{i}", nll=part.mean().item())
    return readings


def passages(tokenizer, text: str, count: int, length: int, device: str) -> Tensor:
    """`count` pieces of `length` tokens, spread over the text: (count, length). ParameterError if one is shorter."""
    step = len(text) // count
    pieces = [text[i * step : i * step + 12 * length] for i in range(count)]
    ids = [tokenizer(piece, return_tensors="pt").input_ids[0, :length] for piece in pieces]
    if short := [len(piece) for piece in ids if len(piece) < length]:
        raise ParameterError(f"expected {count} pieces of {length} tokens each, one of this text has {short[0]}")
    return torch.stack(ids).to(device)
