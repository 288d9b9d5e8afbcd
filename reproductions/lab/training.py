"""Small byte-level language models for the works that train one: blocks around any attention layer, and a short fit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

BYTES = 256


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x), on x (B, N, E)."""

    def __init__(self, width: int, attention: nn.Module, hidden: int):
        super().__init__()
        self.attention, self.norms = attention, nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, E) -> (B, N, E)."""
        x = x + self.attention(self.norms[0](x))
        return x + self.feed(self.norms[1](x))


class ByteModel(nn.Module):
    """Next-byte logits (B, N, 256) of bytes (B, N), positions learned, around `blocks`."""

    def __init__(self, width: int, context: int, blocks: Sequence[nn.Module]):
        super().__init__()
        self.embed, self.place = nn.Embedding(BYTES, width), nn.Embedding(context, width)
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(width)
        self.head = nn.Linear(width, BYTES, bias=False)
        for table in (self.embed, self.place):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, N) -> (B, N, 256)."""
        x = self.embed(ids) + self.place.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def parameters(module: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in module.parameters())


def corpus(text: str, device: str) -> tuple[Tensor, Tensor]:
    """(training, validation) bytes of a text: its first nine tenths and the rest."""
    ids = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long().to(device)
    cut = len(ids) * 9 // 10
    return ids[:cut], ids[cut:]


def loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean negative log likelihood (nats a byte) of ids[:, 1:] given what comes before."""
    return nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def fit(
    model: nn.Module,
    data: Tensor,
    *,
    steps: int,
    batch: int,
    context: int,
    seed: int,
    rate: float = 3e-3,
    on_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train `model` in place: AdamW, a tenth of the steps to warm up; the batches depend on `seed` alone.

    `on_step(done)` is called before the first step and after each.
    """
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    warm = max(1, steps // 10)
    for step in range(steps):
        if on_step:
            on_step(step)
        starts = torch.randint(len(data) - context - 1, (batch,), generator=draw)
        ids = torch.stack([data[s : s + context + 1] for s in starts.tolist()])
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / warm)
        optimiser.zero_grad()
        loss(model, ids).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    if on_step:
        on_step(steps)
    return model


@torch.no_grad()
def validate(model: nn.Module, data: Tensor, context: int, blocks: int) -> float:
    """Mean loss over the first `blocks` pieces of `data`, each `context` bytes long: nats a byte."""
    ids = data[: blocks * (context + 1)].view(blocks, context + 1)
    return sum(loss(model, part).item() * len(part) for part in ids.split(64)) / blocks
