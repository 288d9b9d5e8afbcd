"""From logits to the distribution that a decoder samples: temperature, then nucleus. V tokens."""

import torch
from torch import Tensor


def distribution(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Probabilities (..., V), float32, of `logits` (..., V).

    Temperature 0 is greedy: all of it on the first of the likeliest tokens. `top_p` keeps the smallest set of likeliest
    tokens that holds at least that much (Holtzman et al. 2020). ValueError for others.
    """
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(f"expected temperature >= 0 and 0 < top_p <= 1, got {temperature} and {top_p}")
    if temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float32).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    p = (logits.float() / temperature).softmax(-1)
    if top_p == 1:
        return p
    order = p.sort(dim=-1, descending=True)
    before = order.values.cumsum(-1) - order.values
    kept = order.values.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(p).scatter(-1, order.indices, kept / kept.sum(-1, keepdim=True))


def sample(p: Tensor, generator: torch.Generator | None = None) -> int:
    """One token of the distribution p (V,)."""
    return int(torch.multinomial(p, 1, generator=generator))
