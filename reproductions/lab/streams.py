"""Requests as a server sees them, answered by the model itself; and a feature drafter that can learn along them.

The answers are the target's own at temperature 1, which is what speculative sampling gives with any draft: so all
drafts serve the same stream. B requests at once of N tokens, the first P the prompt; A = N - P - 1 drafted tokens: the
first of an answer comes from reading the prompt. E width, V tokens, all of which the drafter may name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from kernels.decoding.online import OnlineDraft
from reproductions.lab import own_text
from reproductions.lab.drafters import FeatureLayer
from reproductions.lab.heads import falling
from reproductions.lab.prepared import prepared

RATE = 1e-3


@dataclass
class Batch:
    """`inputs`: (the target's normed states (B, N - 2, E), the tokens after them (B, N - 2)); of the A places where a
    draft is asked for: `states` (B, A, E), from which the target says what comes, and `tokens` (B, A), what came."""

    model: nn.Module
    inputs: tuple[Tensor, Tensor]
    states: Tensor
    tokens: Tensor

    @torch.no_grad()
    def target(self, where: Tensor) -> Tensor:
        """The target's distributions (m, V) where `where` (B, A) is true."""
        return self.model.lm_head(self.states[where]).float().softmax(-1)


def batches(model, text: own_text.Text, size: int) -> Iterator[Batch]:
    """`text` in batches of `size` requests, in order."""
    of, first = len(model.model.layers), text.prompt
    for ids, states in zip(text.ids.split(size), text.states[of].split(size), strict=True):
        with torch.no_grad():
            states = model.model.norm(states[:, :-1].to(model.dtype))
        yield Batch(model, (states[:, :-1].float(), ids[:, 1:-1]), states[:, first:], ids[:, first + 1 :])


def online(model, layer: FeatureLayer, interval: int, steps: int) -> OnlineDraft:
    """`layer` as a draft that learns. It goes on from the layer's weights and changes them."""
    return OnlineDraft(partial(log_q, model, layer), layer.parameters(), interval, steps, RATE)


def log_q(model, layer: FeatureLayer, states: Tensor, ids: Tensor, where: Tensor) -> Tensor:
    """Log-probabilities (m, V) of the drafts for the places where `where` (B, A) is true, the last A of the inputs."""
    angles = model.model.rotary_emb(states[:1], torch.arange(states.shape[1], device=states.device)[None])
    guess = layer(states, model.model.embed_tokens(ids).detach().float(), angles)
    guess = guess[:, -where.shape[1] :][where]
    return (guess @ model.lm_head.weight.detach().float().mT).log_softmax(-1)


def warm(lab, model, prompts: Tensor, tokens: int, steps: int, places: int) -> FeatureLayer:
    """A drafter's layer that has learnt from `tokens` tokens of the model's own after each of `prompts` (B, P), in
    `steps` steps of `places` places drawn at random; kept, by content."""
    top = len(model.model.layers)
    text = own_text.write(lab, model, prompts, tokens, 1.0, [top], lab.seed)
    layer = FeatureLayer(model).float()
    found = prepared(_warmed, lab=lab, model=model, ids=text.ids, states=text.states[top], prompt=text.prompt,
                     steps=steps, places=places, seed=lab.seed)  # fmt: skip
    layer.load_state_dict(found)
    return layer.to(model.device)


def _warmed(lab, model, ids, states, prompt, steps, places, seed, size=8):
    """The layer's weights."""
    layer = FeatureLayer(model).float()
    draft, order = online(model, layer, len(ids), 0), torch.Generator().manual_seed(seed)
    for step in falling(draft.optimiser, RATE, steps):
        lab.progress("warming up the draft", step, steps)
        some = torch.randperm(len(ids), generator=order)[:size].to(ids.device)
        text = own_text.Text(ids[some], {len(model.model.layers): states[some]}, prompt)
        batch = next(batches(model, text, size))
        where = torch.zeros(batch.tokens.numel(), dtype=torch.bool)
        where[torch.randperm(len(where), generator=order)[:places]] = True
        where = where.view(batch.tokens.shape).to(ids.device)
        draft.kept = [(batch.inputs, where, batch.target(where))]
        draft.step()
    return layer.state_dict()
