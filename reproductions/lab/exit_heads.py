"""Exits of a causal model: small heads after some layers that share its LM head, trained on states that are kept.

E width, V tokens, M positions. The model is frozen. A head is a linear map beside the identity and a norm with its own
gains; before training it is the model's last norm, so an untrained exit sends its state straight to the LM head.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kernels.early_exit import depth
from kernels.early_exit.confidence import confidence
from reproductions.lab import caching, own_text
from reproductions.lab.prepared import prepared
from reproductions.spec import ParameterError

PROMPT = 16  # tokens that open a text
RATE, OTHERS = 3e-3, 4096


class Head(nn.Module):
    """states (..., E) after a layer -> what the LM head reads, (..., E)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.map, self.gain, self.eps = nn.Linear(width, width, bias=False), nn.Parameter(torch.ones(width)), eps
        nn.init.zeros_(self.map.weight)

    def forward(self, h: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        x = h + self.map(h)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.gain


def untrained(model, layers: Iterable[int]) -> dict[int, Head]:
    """A head for each of `layers`, as before training."""
    heads = {}
    for layer in layers:
        heads[layer] = Head(model.config.hidden_size, model.config.rms_norm_eps).to(model.device, model.dtype)
        heads[layer].gain.data.copy_(model.model.norm.weight)
    return heads


def material(
    lab, model, tokenizer, layers: Sequence[int], *, texts: int, held: int, tokens: int, corpus: int, corpus_tokens: int
) -> tuple[dict[str, own_text.Text], dict[str, own_text.Text], dict[str, own_text.Text]]:
    """What exits after `layers` need, with the last layer's states: to train on (`texts` of the model's own, greedy and
    sampled, after the openings of passages, and `corpus` passages of the novel), to choose by and to test (`held`)."""
    wanted = [*layers, len(model.model.layers)]
    if sorted({*wanted}) != wanted:
        raise ParameterError(f"exits: expected layers in order, each once, before the last, {wanted[-1]}; got {layers}")
    openings = caching.passages(tokenizer, lab.text(), texts + 2 * held, PROMPT, lab.device)
    own = {
        "sampled": own_text.write(lab, model, openings, tokens, 1.0, wanted, lab.seed),
        "greedy": own_text.write(lab, model, openings, tokens, 0.0, wanted, lab.seed),
    }
    passages = caching.passages(tokenizer, lab.text(), corpus, corpus_tokens, lab.device)
    cuts = slice(0, texts), slice(texts, texts + held), slice(texts + held, None)
    train, validation, test = ({kind: part(text, cut) for kind, text in own.items()} for cut in cuts)
    return train | {"novel": own_text.read(lab, model, passages, wanted)}, validation, test


def part(text: own_text.Text, cut: slice) -> own_text.Text:
    """Some of the texts."""
    return own_text.Text(text.ids[cut], {layer: x[cut] for layer, x in text.states.items()}, text.prompt)


def flat(texts: Iterable[own_text.Text], layers: Sequence[int], own: bool = False) -> tuple[dict[int, Tensor], Tensor]:
    """(states (M, E) by layer in float32, the tokens (M,) that came next) of every position that was read; `own` leaves
    out those whose next token is the prompt's."""
    starts = [max(text.prompt - 1, 0) if own else 0 for text in texts]
    pairs = list(zip(texts, starts, strict=True))
    states = {n: torch.cat([t.states[n][:, s:-1].flatten(0, 1) for t, s in pairs]).float() for n in layers}
    return states, torch.cat([t.ids[:, s + 1 :].flatten() for t, s in pairs])


def trained(
    lab, model, texts: Iterable[own_text.Text], layers: Sequence[int], *, steps: int, batch: int, seed: int = 0
) -> dict[int, Head]:
    """Heads for `layers`, each trained by the cross-entropy of the next token as the model's own distribution expects
    it, which is what ever more own text would come to; with progress, kept by content."""
    end = len(model.model.layers)
    states, after = flat(texts, [*layers, end])
    last = states.pop(end)
    named = {f"states {n}": x for n, x in states.items()}
    options = {"layers": list(layers), "steps": steps, "batch": batch, "seed": seed}
    found = prepared(_train, lab=lab, model=model, after=after, last=last, **options, **named)
    heads = untrained(model, layers)
    for layer, head in heads.items():
        head.load_state_dict({name: found[f"{layer} {name}"] for name in head.state_dict()})
    return heads


@dataclass
class Seen:
    """Of M positions, what each exit and at last the whole model, X in all, makes of them: its likeliest token, how
    sure it is, and the negative log likelihood of the token that came next, (X, M) each."""

    answers: Tensor
    confidence: Tensor
    nll: Tensor

    @property
    def agrees(self) -> Tensor:
        """Whether an exit's token is the whole model's, (X, M)."""
        return self.answers == self.answers[-1]


@torch.no_grad()
def see(model, heads: Mapping[int, Head], texts: Sequence[own_text.Text]) -> Seen:
    """At every position of the texts whose next token is the model's own."""
    last = len(model.model.layers)
    states, after = flat(texts, [*heads, last], own=True)
    parts = []
    for layer, x in states.items():
        head = heads.get(layer, model.model.norm)
        for rows, wanted in zip(x.split(256), after.split(256), strict=True):
            logits = model.lm_head(head(rows.to(model.dtype))).float()
            nll = cross_entropy(logits, wanted, reduction="none")
            parts.append(torch.stack([logits.argmax(-1).double(), confidence(logits).double(), nll.double()]))
    found = torch.cat(parts, 1).unflatten(1, (len(states), -1))
    return Seen(found[0].long(), found[1], found[2])


def leave(seen: Seen, thresholds: Tensor) -> Tensor:
    """How many exits a position tries by `thresholds` (X - 1,), (M,): at the last, the whole model, all leave."""
    return depth.first(seen.confidence >= torch.cat([thresholds, thresholds.new_zeros(1)])[:, None])


def _train(lab, model, after: Tensor, last: Tensor, layers: list[int], steps: int, batch: int, seed: int,
           **states: Tensor) -> dict[str, Tensor]:  # fmt: skip
    """Each step's softmax runs over the likeliest tokens and the next ones of its batch, and random others. The rate
    falls from 3e-3 to 0 in a straight line."""
    weight, last = model.lm_head.weight.float(), model.model.norm(last)
    likeliest = torch.cat([(part @ weight.T).topk(8, 1).indices for part in last.split(512)])
    heads, made = untrained(model, layers), dict[str, Tensor]()
    for i, (layer, head) in enumerate(heads.items()):
        head.float()
        draw = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            chosen = torch.randint(len(after), (batch,), generator=draw).to(after.device)
            others = torch.randint(len(weight), (OTHERS,), generator=draw).to(after.device)
            rows = weight[torch.cat([likeliest[chosen].flatten(), after[chosen], others]).unique()]
            wanted = (last[chosen] @ rows.T).softmax(-1)
            optimiser.zero_grad()
            cross_entropy(head(states[f"states {layer}"][chosen]) @ rows.T, wanted).backward()
            optimiser.step()
            lab.progress(f"training the exit after layer {layer}", i * steps + step + 1, len(layers) * steps)
        made |= {f"{layer} {name}": x for name, x in head.state_dict().items()}
    return made
