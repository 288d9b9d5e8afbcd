"""A model's own text and the hidden states it had while writing it: what small heads are trained on.

B texts, P tokens of prompt, N in all, E width. Works that ask for the same share one preparation (prepared.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.decoding.sampling import distribution
from reproductions.lab.prepared import prepared
from reproductions.lab.reading import Reader


@dataclass
class Text:
    """`ids` (B, N), of which `ids[:, prompt:]` are the model's own.

    `states`: of a number of layers, the hidden states (B, N, E) after so many, before any norm, in float16. The last
    token was never read: its states are zero.
    """

    ids: Tensor
    states: dict[int, Tensor]
    prompt: int


def write(
    lab, model, prompts: Tensor, count: int, temperature: float = 0.0, layers: Sequence[int] = (), seed: int = 0
) -> Text:
    """`count` tokens after each of `prompts` (B, P), greedy or sampled, all texts in one batch, with progress."""
    found = prepared(
        _written, lab=lab, model=model, prompts=prompts, count=count, temperature=temperature, layers=list(layers),
        seed=seed,
    )  # fmt: skip
    return _text(found, layers, prompts.shape[1], lab.device)


def read(lab, model, ids: Tensor, layers: Sequence[int]) -> Text:
    """The states of texts that are given (B, N)."""
    found = prepared(_read, lab=lab, model=model, ids=ids, layers=list(layers))
    return _text(found, layers, ids.shape[1], lab.device)


def _text(found: dict[str, Tensor], layers: Sequence[int], prompt: int, device: str) -> Text:
    states = {layer: found[f"layer {layer}"].to(device) for layer in layers}
    return Text(found["ids"].to(device), states, prompt)


def _written(lab, model, prompts, count, temperature, layers, seed):
    """ids and states, token by token."""
    texts, given = prompts.shape
    generator = torch.Generator(prompts.device).manual_seed(seed)
    reader = Reader(model, given + count, texts)
    ids = torch.zeros(texts, given + count, dtype=torch.long, device=prompts.device)
    ids[:, :given] = prompts
    states = _empty(model, ids, layers)
    done = 0
    while done < given + count - 1:
        end = max(given, done + 1)
        last = _through(reader, ids[:, done:end], states, done)
        reader.keep(end - done)
        p = distribution(reader.logits(model.model.norm(last[:, -1])), temperature)
        ids[:, end] = torch.multinomial(p, 1, generator=generator)[:, 0]
        done = end
        lab.progress("writing", done, given + count - 1)
    return {"ids": ids} | _named(states)


def _read(lab, model, ids, layers):
    """States of `ids`, a text at a time; the last token is left out as in own text."""
    states = _empty(model, ids, layers)
    for i, text in enumerate(ids):
        reader = Reader(model, len(text))
        _through(reader, text[None, :-1], {layer: x[i : i + 1] for layer, x in states.items()}, 0)
        lab.progress("reading", i + 1, len(ids))
    return {"ids": ids} | _named(states)


def _empty(model, ids: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
    count = len(model.model.layers)
    if any(not 1 <= layer <= count for layer in layers):
        raise ValueError(f"layers: expected 1 to {count}, got {list(layers)}")
    shape = (*ids.shape, model.config.hidden_size)
    return {layer: torch.zeros(shape, dtype=torch.float16, device=ids.device) for layer in layers}


def _named(states: dict[int, Tensor]) -> dict[str, Tensor]:
    return {f"layer {layer}": x for layer, x in states.items()}


def _through(reader: Reader, ids: Tensor, states: dict[int, Tensor], at: int) -> Tensor:
    """Read `ids` (B, n), write the states asked for from position `at` on; the last layer's, un-normed."""
    hidden, done = reader.model.model.embed_tokens(ids), 0
    for layer in sorted({*states, len(reader.model.model.layers)}):
        hidden = reader.through(hidden, range(done, layer))
        done = layer
        if layer in states:
            states[layer][:, at : at + ids.shape[1]] = hidden.clamp(-65504, 65504).half()
    return hidden
