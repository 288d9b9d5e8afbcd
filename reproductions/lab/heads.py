"""Small heads on a frozen model's last hidden state, which name the tokens after the next one: trained, kept, used.

T positions, E width, A tokens ahead, R rows of the vocabulary projection. Blockwise parallel decoding and Medusa share
this; their heads are in kernels/decoding/.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from kernels.decoding.tree import Tree, chain
from reproductions.lab.own_text import Text
from reproductions.lab.prepared import prepared


class Heads(Protocol):
    """What is trained: `heads(states, ahead)` and `heads.loss(states, targets, table, draw)`, as in blockwise.py."""

    def __call__(self, states: Tensor, ahead: int | None = None) -> Tensor: ...

    def loss(self, states: Tensor, targets: Tensor, table: Tensor, draw: torch.Generator) -> Tensor: ...


def examples(model, text: Text, ahead: int, own: bool = True) -> tuple[Tensor, Tensor]:
    """(normed last states (T, E), the tokens after the next one (T, A)) of each place of `text` that has so many.

    `own`: only of what the model wrote. The state at place t gives token t + 1; the first target is token t + 2.
    """
    first, last = (text.prompt - 1 if own else 0), text.ids.shape[1] - 1 - ahead
    places = range(first, last)
    states = model.model.norm(text.states[len(model.model.layers)][:, first:last].to(model.dtype))
    targets = torch.stack([text.ids[:, t + 2 : t + 2 + ahead] for t in places], 1)
    return states.flatten(0, 1), targets.flatten(0, 1)


def trained(
    lab,
    model,
    kind: type[nn.Module],
    states: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch: int = 256,
    rate: float = 2e-3,
) -> tuple[nn.Module, Tensor]:
    """(`kind(E, A)` trained on examples, the R tokens that it may name: those among the targets); kept, by content.

    The projection is the model's own, frozen. AdamW, a tenth of the steps to warm up, then falling to zero.
    """
    words = targets.unique()
    table = model.lm_head.weight[words].float()
    found = prepared(
        _trained, lab=lab, kind=kind, states=states.float(), targets=torch.searchsorted(words, targets), table=table,
        steps=steps, batch=batch, rate=rate, seed=lab.seed,
    )  # fmt: skip
    heads = kind(states.shape[1], targets.shape[1])
    heads.load_state_dict(found)
    return heads.to(lab.device, model.dtype).eval().requires_grad_(False), words


def _trained(lab, kind, states, targets, table, steps, batch, rate, seed):
    """The weights. The order of the batches and the start depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = kind(states.shape[1], targets.shape[1]).to(states.device)
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=rate, weight_decay=0.01)
    for step in falling(optimiser, rate, steps):
        lab.progress("training heads", step, steps)
        index = torch.randint(len(states), (batch,), generator=draw).to(states.device)
        optimiser.zero_grad()
        heads.loss(states[index], targets[index], table, draw).backward()
        optimiser.step()
    return heads.state_dict()


def falling(optimiser: torch.optim.Optimizer, rate: float, steps: int) -> Iterator[int]:
    """Steps 0 .. steps - 1, before each of which the rate is set: a tenth of them to warm up, then falling to zero."""
    warm = max(1, steps // 10)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min((step + 1) / warm, (steps - step) / (steps - warm + 1))
        yield step


class ChainDrafter:
    """Drafts the likeliest token of each of the first `ahead` heads, as a chain."""

    def __init__(self, model, heads: Heads, words: Tensor, ahead: int):
        self.heads, self.words, self.ahead = heads, words, ahead
        self.table = model.lm_head.weight[words]

    @torch.no_grad()
    def draft(self, ids: list[int], states: Tensor, generator=None) -> Tree:
        """From the state that gave ids[-1]."""
        scores = self.heads(states[-1], self.ahead) @ self.table.mT
        return chain(self.words[scores.argmax(-1)].tolist())


@torch.no_grad()
def ranks(heads: Heads, words: Tensor, table: Tensor, states: Tensor, targets: Tensor, most: int) -> Tensor:
    """(T, A): where each target stands among a head's likeliest tokens, from 0; `most` where it is not among them."""
    parts = []
    for s, t in zip(states.split(512), targets.split(512), strict=True):
        top = words[(heads(s) @ table.mT).topk(most, -1).indices]  # (n, A, most)
        hit = top == t[..., None]
        parts.append(torch.where(hit.any(-1), hit.float().argmax(-1), most))
    return torch.cat(parts)


def blocks(right: Tensor) -> list[int]:
    """Tokens of each call of blockwise decoding along one text: right (n, A) says which head would be right where.

    A call takes the model's own next token and the drafts that are right up to the first that is not.
    """
    found, place = [], 0
    while place < len(right):
        wrong = (~right[place]).nonzero()
        found.append(1 + (int(wrong[0]) if len(wrong) else right.shape[1]))
        place += found[-1]
    return found
