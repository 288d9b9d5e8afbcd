"""Every cache policy on the same texts at the same budgets: the figures that stand on the page of each such work.

Perplexity is one number; beside it stand the divergence from the dense model, how often both name the same next token,
and whether a number told early in a text is found again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.cache.heavy_hitters import HeavyHitterCache
from kernels.cache.kept import FullCache, RandomCache, WindowCache
from kernels.cache.persistence import PersistentCache
from kernels.cache.sinks import SinkCache
from reproductions.lab import caching
from reproductions.spec import line

NAMES = ("Ahab", "Ishmael", "Queequeg", "Starbuck", "Stubb", "Flask", "Tashtego", "Daggoo")
POLICIES = ("window", "sinks", "heavy hitters", "persistence", "random and recent")
ASKED, TOLD_AT = 5, 8  # tokens of a number with its space; where it is told
X: dict[str, Any] = {"x": "kept", "color": "beside", "log": (), "x_title": "budget, % of the text"}
PLOTS = [
    line("All policies: perplexity over the dense model's", y="ratio", y_title="ratio", **X),
    line("All policies: divergence from the dense model", y="kl", y_title="nats a token", **X),
    line("All policies: the same next token as the dense model", y="agreement", y_title="share of tokens", **X),
    line("All policies: a number told early is found again", y="found_again", y_title="share of its tokens", **X),
]


def maker(policy: str, budget: int, device: str) -> caching.Maker:
    """What makes a layer's cache of `budget` tokens. Half of it is recent where a policy has a recent part."""
    draw = torch.Generator(device).manual_seed(0)
    makers: dict[str, caching.Maker] = {
        "full": FullCache,
        "window": partial(WindowCache, budget),
        "sinks": partial(SinkCache, budget),
        "heavy hitters": partial(HeavyHitterCache, budget),
        "persistence": lambda cos, sin: PersistentCache(budget, cos, sin, budget // 4),
        "random and recent": partial(RandomCache, budget, recent=budget // 2, generator=draw),
    }
    return makers[policy]


def needles(tokenizer, ids: Tensor) -> Tensor:
    """Texts (B, N) with a number told near the start and asked for at the end; the last `ASKED` tokens answer."""
    found = []
    for i, text in enumerate(ids.tolist()):
        draw = torch.Generator().manual_seed(i)
        number = "".join(map(str, torch.randint(1, 10, (4,), generator=draw).tolist()))
        told = tokenizer(f" The secret number of {NAMES[i % len(NAMES)]} is {number}.").input_ids
        asked = tokenizer(f" The secret number of {NAMES[i % len(NAMES)]} is {number}").input_ids
        body = text[: len(text) - len(told) - len(asked)]
        found.append([*body[:TOLD_AT], *told, *body[TOLD_AT:], *asked])
    return torch.tensor(found, device=ids.device)


@torch.no_grad()
def side_by_side(
    lab,
    model,
    tokenizer,
    texts: int,
    tokens: int,
    budgets: list[int],
    more: Mapping[str, Callable[[Tensor], Sequence[caching.Maker]]] | None = None,
) -> None:
    """Read `texts` pieces of the book and as many with a number in them, by every policy and budget (% of `tokens`).

    `more`: further policies, which find their own budgets; from the ids of the texts, what makes a cache a point.
    One row a policy and budget: `beside`, `kept`, `ratio`, `kl`, `agreement` over the second half of the plain pieces,
    `found_again` over the answers of the others. `kept` of a further policy is the most that it held in that half.
    """
    pieces = caching.passages(tokenizer, lab.text(), 2 * texts, tokens, lab.device)
    ids = torch.cat([pieces[:texts], needles(tokenizer, pieces[texts:])])
    points = [(policy, maker(policy, max(10, tokens * budget // 100), lab.device), budget)
              for policy in POLICIES for budget in budgets]  # fmt: skip
    points += [(policy, make, 0) for policy, makers in (more or {}).items() for make in makers(ids)]
    start, measured, held = tokens // 2, [], list[list[float]]()
    for i, (hidden, caches) in enumerate(caching.steps(model, ids, [FullCache, *(make for _, make, _ in points)])):
        lab.progress("all policies", i, tokens)
        if i >= start:
            measured.append(_measures(model.lm_head(hidden).float(), ids[:, i + 1]))
            held.append([sum(cache.tokens for cache in layers) / len(layers) for layers in caches[1:]])
    of_full, *others = torch.stack(measured, 3).unbind(1)  # each (4, B, steps): losses, right, divergence, agreement
    most = [100 * max(each) / (tokens - 1) for each in zip(*held, strict=True)]
    found = [(policy, budget or own, m) for (policy, _, budget), own, m in zip(points, most, others, strict=True)]
    for policy, kept, m in found + [(policy, 100, of_full) for policy in dict.fromkeys(point[0] for point in points)]:
        losses, right, kl, agrees = m
        lab.row(beside=policy, kept=kept, ratio=(losses[:texts] - of_full[0, :texts]).mean().exp().item(),
                kl=kl[:texts].mean().item(), agreement=agrees[:texts].mean().item(),
                found_again=right[texts:, -ASKED:].mean().item())  # fmt: skip


def _measures(logits: Tensor, wanted: Tensor) -> Tensor:
    """(4, policies, B), of which the first is the dense model: loss, right, divergence from it, the same likeliest."""
    log_p, best = logits.log_softmax(-1), logits.argmax(-1)
    losses = -log_p.gather(-1, wanted.expand(len(logits), -1)[..., None])[..., 0]
    divergence = (log_p[0].exp() * (log_p[0] - log_p)).sum(-1)
    return torch.stack([losses, (best == wanted).float(), divergence, (best == best[0]).float()])
