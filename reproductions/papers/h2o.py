"""At a 20 % KV budget, does keeping heavy hitters and recent tokens hold quality where a recent-only cache fails?

H2O (Zhang et al. 2023) in a real model read token by token, all policies side by side on the same texts. What differs
from the paper: perplexity of a 135M model on a novel, not accuracy of OPT-30B on tasks; scores are summed over the
query heads that share a key head, of which this model has few; a step's time is that of attention over all or a fifth
of the context, not FlexGen's with its offloading, and without the scores and evictions of H2O.

Changed after results were seen, since a review found them wrong: sparsity, which grows with the text, is that of one
of 2048 tokens, as OPT reads, in place of three of 288, and "both together match the full cache" is judged.
"""

from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.cache.heavy_hitters import HeavyHitterCache
from kernels.cache.kept import FullCache, RandomCache, WindowCache
from kernels.cache.sinks import SinkCache
from kernels.cache.streaming import rotate
from reproductions.lab import caching, models, policies
from reproductions.spec import Check, Mean, ParameterError, Ratio, Size, Untested, line

EFFECT = "an effect: {}"


def _against(of: str, to: str) -> Ratio:
    return Ratio("nll", of=of, to=to, pair="block", transform="exp")


CHECKS = [
    Check("beats-local", _against("local 20 %", "h2o 20 %"), above=1.0,
          because=EFFECT.format("better than the recent tokens alone")),
    Check("near-full-at-20", _against("h2o 20 %", "full"), at_most=1.02,
          because="comparable: the stated 0.98 of the full cache's score, as a ratio of perplexities"),
    Check("attention-sparsity", Mean("sparse"), at_least=0.95, because="the stated share, mean over the layers"),
    Check("both-parts-needed", _against("heavy only 20 %", "h2o 20 %"), above=1.0, label="recent tokens are needed",
          because=EFFECT.format("worse without a recent part")),
    Check("both-parts-needed", _against("local 20 %", "h2o 20 %"), above=1.0, label="heavy hitters are needed",
          because=EFFECT.format("worse without heavy hitters")),
    Check("both-parts-needed", _against("local 20 %", "heavy only 20 %"), above=1.0, label="heavy before recent",
          because=EFFECT.format("heavy hitters alone are better than recent tokens alone")),
    Check("both-parts-needed", _against("h2o 20 %", "full"), at_most=1.02, label="both match the full cache",
          because="match, read as the stated 0.98 of the full cache's score in the same table"),
    Untested("throughput", "needs FlexGen, DeepSpeed and Accelerate with offloading on a T4", needs="cuda"),
    Check("latency", Ratio("step_ms", of="full", to="h2o"), at_least=1.049, needs="cuda",
          label="attention alone", because="half of the stated 1.1x on a log scale, for a step without FlexGen"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=120, model=models.DEFAULT, whole=40, texts=1, tokens=40, start=24, block=3, context=256,
                  batch=1, repeats=5, beside=1, beside_tokens=40, beside_budgets=[50]),
    "cpu": Size(limit_s=300, model=models.DEFAULT, whole=2048, texts=3, tokens=288, start=144, block=24,
                context=4096, batch=1, repeats=6, beside=2, beside_tokens=192, beside_budgets=[20, 50]),
    "full": Size(limit_s=3600, model=models.DEFAULT, whole=2048, texts=16, tokens=2048, start=1024, block=64,
                 context=4096, batch=24, repeats=30, beside=8, beside_tokens=1024, beside_budgets=[10, 20, 50]),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "whole": (40, 8192), "texts": (1, 64),
          "tokens": (32, 8192),
          "start": (8, 8000), "block": (2, 512), "context": (64, 65536), "batch": (1, 64),
          "repeats": (5, 100), "beside": (1, 64), "beside_tokens": (40, 8192), "beside_budgets": (10, 100)}  # fmt: skip
PLOTS = [
    line("Perplexity against the budget", x="budget", y="perplexity", color="policy", log=("y",),
         x_title="budget, % of the text", y_title="perplexity"),
    line("Attention below a hundredth of its row's largest", x="layer", y="sparse", log=(), y_title="share of entries"),
    *policies.PLOTS,
]  # fmt: skip
POLICIES = {"full": (100,), "h2o": (50, 20, 10), "local": (50, 20), "sinks and recent": (20,),
            "random and recent": (20,), "heavy only": (20,)}  # fmt: skip


def run(lab, model, whole, texts, tokens, start, block, context, batch, repeats, beside, beside_tokens, beside_budgets):
    if start > tokens - 2:
        raise ParameterError(f"start: expected at most tokens - 2 = {tokens - 2}, got {start}")
    lm, tokenizer = lab.model(model)
    ids = caching.passages(tokenizer, lab.text(), texts, tokens, lab.device)
    lab.progress("sparsity", 0, tokens + repeats)
    _sparsity(lab, lm, caching.passages(tokenizer, lab.text(), 1, whole, lab.device))
    _perplexity(lab, lm, ids, POLICIES, start, block)
    policies.side_by_side(lab, lm, tokenizer, beside, beside_tokens, beside_budgets)
    lab.progress("time", tokens, tokens + repeats)
    _time(lab, lm, context, batch, repeats)
    lab.progress("done", tokens + repeats, tokens + repeats)


def _sparsity(lab, lm, ids):
    """Of each layer, the share of causal entries below a hundredth of their row's largest."""
    n = ids.shape[1]
    cos, sin = models.rotation(lm, n)
    seen = torch.ones(n, n, dtype=torch.bool, device=ids.device).tril()

    def attend(layer, q, k, v):
        groups = q.shape[1] // k.shape[1]
        scores = rotate(q, cos, sin) @ rotate(k, cos, sin).repeat_interleave(groups, 1).mT * q.shape[-1] ** -0.5
        p = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        low = (p < 0.01 * p.amax(-1, keepdim=True)) & seen
        lab.row(layer=layer, sparse=(low.sum() / seen.sum() / low[..., 0, 0].numel()).item())
        return p @ v.repeat_interleave(groups, 1)

    models.forward(lm, ids, attend)


def _maker(policy, size, device):
    """What makes one layer's cache for `caching.read`."""
    draw = torch.Generator(device).manual_seed(0)
    return {
        "full": FullCache,
        "h2o": partial(HeavyHitterCache, size),
        "local": partial(WindowCache, size),
        "sinks and recent": partial(SinkCache, size),
        "random and recent": partial(RandomCache, size, recent=size // 2, generator=draw),
        "heavy only": partial(HeavyHitterCache, size, recent=1),
    }[policy]


def _perplexity(lab, lm, ids, policies, start, block):
    """Losses in the second part, each block of tokens of a text a row."""
    names = {"full" if policy == "full" else f"{policy} {budget} %": (policy, budget)
             for policy, budgets in policies.items() for budget in budgets}  # fmt: skip
    makers = {name: _maker(policy, max(6, ids.shape[1] * budget // 100), ids.device)
              for name, (policy, budget) in names.items()}  # fmt: skip
    for name, reading in caching.compare(lab, lm, ids, makers, start, block).items():
        policy, budget = names[name]
        lab.row(method=name, policy=policy, budget=budget, perplexity=reading.losses.mean().exp().item(),
                most=reading.most, mean=reading.mean)  # fmt: skip


def _time(lab, lm, context, batch, repeats):
    """One decoding step over the whole context, and over a fifth of it."""
    config, ids = lm.config, torch.zeros(batch, 1, dtype=torch.long, device=lm.device)
    calls = {}
    for method, kept in (("full", context), ("h2o", context // 5)):
        shape = batch, config.num_key_value_heads, kept, config.hidden_size // config.num_attention_heads
        k, v = (torch.randn(shape, device=lm.device, dtype=lm.dtype) for _ in range(2))

        def attend(layer, q, new_k, new_v, k=k, v=v):
            return scaled_dot_product_attention(q, k, v, enable_gqa=True)

        calls[method] = partial(models.forward, lm, ids, attend)
    for method, samples in lab.time(repeats, **calls).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, repeat=i, step_ms=ms)
