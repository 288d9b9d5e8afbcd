"""Do tokens that mattered in the first half of a text cover those that matter later, and may the others be dropped?

Scissorhands (Liu et al. 2023) in a real model read token by token. Persistence is set beside the share of tokens that
were pivotal at all, which is what chance would give; once as the paper counts, and once without the nearest keys of
each query, since every token is looked at by its neighbours. What differs from the paper: a 135M model, grouped heads
(counts are added over a group), texts of hundreds of tokens, and one budget for all layers (the paper gives later ones
more). A budget is the size of the full buffer: between compressions the cache swings between half of it and all of it.

Changed after a result was seen, to save time: texts of 288 tokens for 320, and of 128 for 192 where all policies stand
side by side. Since a review found them missing or wrong: persistence counted as the paper does, in one text of 1024
tokens in place of four of 288 (longer texts raise ratio and share), and the claim's "only" judged at 30 %.
"""

import torch

from kernels.cache.kept import FullCache, RandomCache, WindowCache
from kernels.cache.persistence import PersistentCache, QuantisedPersistentCache, persistence
from kernels.cache.streaming import rotate
from reproductions.lab import caching, models, policies
from reproductions.spec import Check, Difference, Mean, ParameterError, Ratio, Size, Untested, line


def _against(of: str, to: str) -> Ratio:
    return Ratio("nll", of=of, to=to, pair="block", transform="exp")


NEAREST, RECENT = 8, 10
ALL, FAR = "all keys", f"all but the {NEAREST} nearest"
CHECKS = [
    *(check for keys, words in ((ALL, ""), (FAR, ", without the nearest keys")) for check in (
        Check("persistence", Mean("ratio", where={"threshold": 1.0, "keys": keys}), at_least=0.95,
              label="ratio" + words, because="the stated ratio"),
        Check("persistence", Mean("share", where={"threshold": 1.0, "keys": keys}), at_most=0.5,
              label="share of pivotal tokens" + words, because="much smaller than the sequence, read as at most half"),
        Check("persistence", Difference("found", of="ratio", to="share", by="what", pair="layer",
                                        where={"threshold": 1.0, "keys": keys}),
              above=0.0, because="an effect: more than chance, which gives the share", label="above chance" + words),
    )),
    Untested("compression-5x", "needs OPT-66B and its accuracy on Winogrande and MathQA", needs="cuda"),
    Check("lm-perplexity-2x", _against("scissorhands 50 %", "full"), at_most=1.02, label="unchanged at 50 %",
          because="held: at most 2 % higher, a tolerance of ours, since the paper gives no figure"),
    Check("lm-perplexity-2x", _against("scissorhands 30 %", "full"), above=1.02, label="only down to 50 %",
          because="only: at 30 % it is no longer held, by the same tolerance"),
    Check("lm-perplexity-2x", _against("random 50 %", "scissorhands 50 %"), above=1.0, label="better than chance",
          because="an effect: persistence chooses better than chance at the same budget"),
    Check("quant-compatible", _against("scissorhands 50 %, 4 bits", "scissorhands 50 %"), at_most=1.0057,
          because="twice the stated difference, accuracies of 0.706 and 0.704, on a log scale, read on perplexity"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=120, model=models.DEFAULT, whole=48, texts=2, tokens=48, start=24, budgets=[50, 30],
                  block=6, beside=1, beside_tokens=40, beside_budgets=[50]),
    "cpu": Size(limit_s=300, model=models.DEFAULT, whole=1024, texts=4, tokens=288, start=144, budgets=[50, 30, 20],
                block=24, beside=2, beside_tokens=128, beside_budgets=[20, 50]),
    "full": Size(limit_s=3600, model=models.DEFAULT, whole=2048, texts=16, tokens=2048, start=1024,
                 budgets=[50, 30, 20], block=64, beside=8, beside_tokens=1024, beside_budgets=[10, 20, 50]),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "whole": (40, 8192), "texts": (1, 64),
          "tokens": (32, 8192),
          "start": (8, 8000), "budgets": (5, 100), "block": (2, 512), "beside": (1, 64), "beside_tokens": (40, 8192),
          "beside_budgets": (10, 100)}  # fmt: skip
PLOTS = [
    line("Persistence by layer", x="layer", y="found", color="what", where={"threshold": 1.0, "keys": ALL}, log=(),
         y_title="share of the first half's tokens"),
    line("Persistence by layer, without the nearest keys", x="layer", y="found", color="what",
         where={"threshold": 1.0, "keys": FAR}, log=(), y_title="share of the first half's tokens"),
    line("Perplexity against the budget", x="budget", y="perplexity", color="policy", log=("y",),
         x_title="budget, % of the text", y_title="perplexity"),
    *policies.PLOTS,
]  # fmt: skip


def run(lab, model, whole, texts, tokens, start, budgets, block, beside, beside_tokens, beside_budgets):
    if start > tokens - 2:
        raise ParameterError(f"start: expected at most tokens - 2 = {tokens - 2}, got {start}")
    lm, tokenizer = lab.model(model)
    ids = caching.passages(tokenizer, lab.text(), texts, tokens, lab.device)
    names = {"full": ("full", 100), f"scissorhands {budgets[0]} %, 4 bits": ("scissorhands, 4 bits", budgets[0])}
    for budget in budgets:
        names |= {f"{policy} {budget} %": (policy, budget) for policy in ("scissorhands", "window", "random")}
    lab.progress("persistence", 0, tokens)
    _persistence(lab, lm, caching.passages(tokenizer, lab.text(), 1, whole, lab.device))
    _perplexity(lab, lm, ids, names, start, block)
    policies.side_by_side(lab, lm, tokenizer, beside, beside_tokens, beside_budgets)
    lab.progress("done", tokens, tokens)


def _persistence(lab, lm, ids):
    """Of each layer, the mean over heads and texts, by how far above 1/t a token counts as pivotal."""
    cos, sin = models.rotation(lm, ids.shape[1])

    def attend(layer, q, k, v):
        groups = q.shape[1] // k.shape[1]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin).repeat_interleave(groups, 1)
        scores = q @ k.mT * q.shape[-1] ** -0.5
        ahead = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
        p = scores.masked_fill(ahead, -torch.inf).softmax(-1)
        for keys, nearest in ((ALL, 0), (FAR, NEAREST)):
            for threshold in (1.0, 4.0):
                ratio, share = (x.nanmean().item() for x in persistence(p, threshold, nearest))
                lab.row(layer=layer, threshold=threshold, keys=keys, ratio=ratio, share=share)
                for what, found in (("ratio", ratio), ("share", share)):
                    lab.row(layer=layer, threshold=threshold, keys=keys, what=what, found=found)
        return p @ v.repeat_interleave(groups, 1)

    models.forward(lm, ids, attend)


def _maker(policy, size, device):
    """What makes one layer's cache for `caching.read`."""
    draw = torch.Generator(device).manual_seed(0)
    return {
        "full": FullCache,
        "scissorhands": lambda cos, sin: PersistentCache(size, cos, sin, RECENT),
        "scissorhands, 4 bits": lambda cos, sin: QuantisedPersistentCache(size, cos, sin, RECENT),
        "window": lambda cos, sin: WindowCache(size, cos, sin),
        "random": lambda cos, sin: RandomCache(size, cos, sin, RECENT, draw),
    }[policy]


def _perplexity(lab, lm, ids, names, start, block):
    """Losses in the second part, each block of tokens of a text a row."""
    sizes = {name: max(2 * RECENT + 2, ids.shape[1] * budget // 100) for name, (_, budget) in names.items()}
    makers = {name: _maker(policy, sizes[name], ids.device) for name, (policy, _) in names.items()}
    for name, reading in caching.compare(lab, lm, ids, makers, start, block).items():
        policy, budget = names[name]
        lab.row(method=name, policy=policy, budget=budget, perplexity=reading.losses.mean().exp().item(),
                most=reading.most, mean=reading.mean)  # fmt: skip
