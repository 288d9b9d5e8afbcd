"""Whether what a decoding rule samples is distributed as its target: draws over a few symbols, and the test of them."""

import torch
from torch import Tensor

from kernels.decoding.tree import Tree
from kernels.decoding.verify import verify
from reproductions.lab.chi_square import chi_square
from reproductions.lab.speculating import Rule

SYMBOLS = 8


def small_vocabulary(lab, draws: int, width: int = 1, name: str = "a small vocabulary", rule: Rule | None = None):
    """Draw two tokens, again and again, by drafts two levels deep of `width` children a node, and judge them.

    Target and draft are random distributions over a few symbols, each given the symbol before it. A loop that yields
    one token is continued from the target, as the next loop would.
    """
    generator, rule = torch.Generator().manual_seed(lab.seed), rule or verify
    target, draft = ((1.5 * torch.randn(SYMBOLS, SYMBOLS, generator=generator)).softmax(-1) for _ in range(2))
    parents = [0] * width + [1 + i // width for i in range(width * width)]
    first = torch.multinomial(draft[0], draws * width, True, generator=generator).view(draws, width)
    second = torch.multinomial(draft[first.flatten()], width, True, generator=generator).view(draws, width * width)
    spare = torch.multinomial(target, draws, True, generator=generator)
    counts = torch.zeros(SYMBOLS * SYMBOLS)
    for i, tokens in enumerate(torch.cat([first, second], 1).tolist()):
        lab.progress("drawing", i, draws)
        before = torch.tensor([0, *tokens])
        path, token = rule(Tree(tokens, parents, draft[before[parents]]), target[before], generator)
        out = [*(tokens[node - 1] for node in path), token]
        counts[out[0] * SYMBOLS + (out[1] if len(out) > 1 else int(spare[out[0], i]))] += 1
    judge(lab, name, counts, (target[0][:, None] * target).flatten())


def judge(lab, name: str, counts: Tensor, p: Tensor) -> None:
    """A row: the chance of counts (n,) this far from the distribution p (n,), and their total variation."""
    statistic, degrees, chance = chi_square(counts, p)
    variation = 0.5 * (counts / counts.sum() - p).abs().sum().item()
    lab.row(draws=name, chi_square=statistic, degrees=degrees, chance=chance, total_variation=variation)
