"""Training of exits on a text encoder: fine-tuning with a loss of any of them, or on features of a frozen one.

L layers, B texts, E width, C outputs; `h` (L, B, E) is what the exits read (encoders.states).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kernels.early_exit import depth
from reproductions.lab import encoders


class Ramps(nn.Module):
    """A linear classifier after each layer: h (L, B, E) -> logits (L, B, C)."""

    def __init__(self, layers: int, width: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers, width, outputs))
        self.bias = nn.Parameter(torch.zeros(layers, 1, outputs))

    def forward(self, h: Tensor) -> Tensor:
        """h (L, B, E) -> (L, B, C)."""
        return torch.baddbmm(self.bias, h, self.weight)

    def one(self, i: int, h: Tensor) -> Tensor:
        """The exit after layer i alone: h (B, E) -> (B, C)."""
        return torch.addmm(self.bias[i], h, self.weight[i])


def classify(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each exit, summed: logits (L, B, C), labels (B,)."""
    every = cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return every.view(len(logits), -1).mean(1).sum()


def answer(model, ramps: Ramps, ids: Tensor, mask: Tensor, leaves: Callable[[Tensor], bool]) -> tuple[Tensor, int]:
    """Run one text layer by layer until `leaves` says so of an off-ramp's logits: (logits (1, C), layers run)."""
    return depth.run_until(
        encoders.layers(model, mask),
        model.embeddings(input_ids=ids),
        lambda i, x: ramps.one(i, encoders.pooled(x, mask)),
        lambda i, x, logits: leaves(logits),
    )


def answer_without(model, ramps: Ramps, ids: Tensor, mask: Tensor) -> Tensor:
    """Run one text through all layers and the last off-ramp alone, as without early exits: logits (1, C)."""
    x = model.embeddings(input_ids=ids)
    for layer in encoders.layers(model, mask):
        x = layer(x)
    return ramps.one(len(ramps.weight) - 1, encoders.pooled(x, mask))


def _schedule(optimiser, step: int, steps: int) -> None:
    """A tenth of the steps to warm up, then down to nothing in a straight line."""
    warm = max(1, steps // 10)
    part = (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * part


def _batches(texts: Sequence[str], batch: int, steps: int, draw: torch.Generator) -> list[Tensor]:
    """`steps` batches of texts, each text once an epoch, those of like length together."""
    found: list[Tensor] = []
    while len(found) < steps:
        pools = torch.randperm(len(texts), generator=draw).split(8 * batch)
        cuts = [part for pool in pools for part in pool[_by_length(texts, pool)].split(batch)]
        found += [cuts[i] for i in torch.randperm(len(cuts), generator=draw)]
    return found[:steps]


def _by_length(texts: Sequence[str], pool: Tensor) -> list[int]:
    return sorted(range(len(pool)), key=lambda i: len(texts[pool[i]]))


def finetune(
    model,
    tokenizer,
    heads: nn.Module,
    texts: Sequence[str],
    labels: Tensor,
    loss: Callable[[int, Tensor, Tensor], Tensor],
    *,
    steps: int,
    batch: int,
    longest: int,
    seed: int,
    rate: float = 1e-4,
    head_rate: float = 1e-2,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Train the whole encoder and `heads` in place with AdamW: `loss(step, h, labels)` of a batch, steps from 0. The
    batches and the dropout depend on `seed` alone. `on_step(done)`."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        groups = [
            {"params": list(model.parameters()), "peak": rate},
            {"params": list(heads.parameters()), "peak": head_rate},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
        model.train()
        for step, chosen in enumerate(_batches(texts, batch, steps, torch.Generator().manual_seed(seed))):
            ids, mask = encoders.tokens(tokenizer, [texts[i] for i in chosen], longest, model.device)
            _schedule(optimiser, step, steps)
            optimiser.zero_grad()
            loss(step, encoders.states(model, ids, mask), labels[chosen.to(labels.device)]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            if on_step:
                on_step(step + 1)
        model.eval()


def fit(
    heads: nn.Module,
    h: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    batch: int,
    seed: int,
    rate: float = 1e-2,
) -> None:
    """Train `heads` in place on features `h` (L, B, E) of a frozen encoder: `loss(h, labels)` of a batch."""
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW([{"params": list(heads.parameters()), "peak": rate}], weight_decay=0.01)
    for step in range(steps):
        chosen = torch.randint(h.shape[1], (batch,), generator=draw).to(h.device)
        _schedule(optimiser, step, steps)
        optimiser.zero_grad()
        loss(h[:, chosen], labels[chosen]).backward()
        optimiser.step()


def second_stage(
    ramps: Ramps, heads: nn.Module, h: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor], **options: int
) -> None:
    """`fit` of `heads`, `ramps` among them, on features of the frozen encoder; the last off-ramp stays as it is."""
    last = [p.detach()[-1].clone() for p in (ramps.weight, ramps.bias)]
    fit(heads, h, labels, loss, **options)
    for p, kept in zip((ramps.weight, ramps.bias), last, strict=True):
        p.data[-1] = kept


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's correlation of x and y (B,); 0 where one of them does not vary."""
    found = torch.corrcoef(torch.stack([x, y]).double())[0, 1].item()
    return found if found == found else 0.0
