"""How many tokens does a tree of drafts verify a step, against one sequence, with the output distribution kept?

SpecInfer (Miao et al. 2024): trees that branch at one level, greedy and stochastic, verified in one pass with a tree
mask by multi-step speculative sampling (MSS). What differs from the paper: a 135M model with one decoder layer as the
draft, trained for a minute on the model's own text after prose and code (reproductions/lab/drafters.py), not LLaMA-7B
with LLaMA-68M; drafts are 4 tokens long, not 8, and branch at the first token, since the third is seldom reached with
this draft; one draft model, so that no trees are merged. Children of a stochastic tree are drawn one by one from the
draft's distribution, for which the theorems hold; duplicates stay.

Changed after a result was seen, to save time: six prompts for eight, texts of 16 tokens for 32, no trees of width 3.
The drafter's input had drowned in what its copied layer adds; now scaled, it learns in 80 steps of shorter texts.
"""

import math
from functools import partial
from statistics import median

import torch

from kernels.decoding.verify import verify, verify_naively
from reproductions.lab import drafters, exact_draws, models
from reproductions.lab.reading import Reader
from reproductions.lab.speculating import decode, differs, distinct
from reproductions.spec import Check, Max, Ratio, Size, Untested, Value, line

CHANCE = "what 99.9 % of exact samplers reach in a chi-square test"


def _tokens(of: str, to: str, kind: str) -> Ratio:
    return Ratio("log_tokens", of=of, to=to, by="tree", pair="of", where={"kind": kind}, transform="exp")


HALF = "half of the stated {} on a log scale"
CHECKS = [
    Check("tree-vs-sequence", _tokens("width 5", "width 1", "greedy"), at_least=1.077,
          because=HALF.format("1.16x, the smallest greedy figure,"), label="greedy"),
    Check("tree-vs-sequence", _tokens("width 5", "width 1", "stochastic"), at_least=1.149,
          because=HALF.format("1.32x, the smallest stochastic figure,"), label="stochastic"),
    Check("mss-vs-naive", _tokens("width 5", "width 5, naive", "stochastic"), at_least=1.122,
          because=HALF.format("1.26x")),
    Check("exact-distribution", Value("chance", {"draws": "1 child"}), at_least=0.001, because=CHANCE,
          label="one child a node", scale_free=True),
    Check("exact-distribution", Value("chance", {"draws": "3 children"}), at_least=0.001, because=CHANCE,
          label="three children a node", scale_free=True),
    Check("exact-distribution", Max("differs"), at_most=0, because="identity", label="greedy text", scale_free=True),
    Untested("latency-distributed", "needs a 7B model and more, and several GPUs", needs="multi-gpu"),
    Untested("latency-offload", "needs FlexGen, weights in CPU memory and a 24 GB GPU", needs="cuda"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=120, model=models.DEFAULT, texts=2, prompt=8, tokens=12, steps=2, draws=2000, widths=[1, 5],
                  depth=2, held=6, decoded=3),
    "cpu": Size(limit_s=300, model=models.DEFAULT, texts=32, prompt=32, tokens=80, steps=80, draws=20_000,
                widths=[1, 5], depth=4, held=6, decoded=16),
    "full": Size(limit_s=3600, model="HuggingFaceTB/SmolLM2-1.7B", texts=512, prompt=64, tokens=192, steps=4000,
                 draws=200_000, widths=[1, 2, 3, 4, 5], depth=8, held=40, decoded=128),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "texts": (2, 4096), "prompt": (4, 512),
          "tokens": (8, 1024), "steps": (1, 100_000), "draws": (1000, 1_000_000), "widths": (1, 8), "depth": (1, 8),
          "held": (6, 256), "decoded": (3, 1024)}  # fmt: skip
PLOTS = [
    line("Tokens a step", x="width", y="per_step", color="rule", log=(), x_title="width of the tree", y_title="tokens"),
    line("Time of a step", x="width", y="step_cost", color="kind", log=(), x_title="width of the tree",
         y_title="time over that of plain decoding"),
    line("Tokens a step against repetition", x="distinct", y="per_step", color="kind", where={"width": 5}, log=(),
         x_title="share of 4-grams that are new", y_title="tokens"),
]  # fmt: skip


def run(lab, model, texts, prompt, tokens, steps, draws, widths, depth, held, decoded):
    lm, tokenizer = lab.model(model)
    exact_draws.small_vocabulary(lab, draws, 1, "1 child")
    exact_draws.small_vocabulary(lab, draws // 2, 3, "3 children")
    layer, words = drafters.trained(lab, lm, tokenizer, texts=texts, prompt=prompt, tokens=tokens, steps=steps)
    given = [ids for domain in drafters.DOMAINS
             for ids in drafters.prompts(lab, tokenizer, domain, held // 2, prompt, held=True).tolist()]  # fmt: skip
    reader = Reader(lm, prompt + decoded + depth * max(widths) + 2)

    def maker(width, temperature):
        branch = (width, *[1] * (depth - 1))
        return drafters.FeatureDrafter(lm, layer, words, branch, reader.cache.capacity, temperature)

    _decode(lab, reader, maker, given, widths, decoded)


def _decode(lab, reader, maker, given, widths, count):
    """Every prompt plainly and by trees of each width; the widest stochastic one also by the naive rule."""
    for kind, temperature in (("greedy", 0.0), ("stochastic", 1.0)):
        for at, ids in enumerate(given):
            lab.progress(f"decoding, {kind}", at, len(given))
            one = partial(decode, reader, ids, count, temperature=temperature)
            plain = one(generator=torch.Generator(lab.device).manual_seed(lab.seed + at))
            ways = [(width, f"width {width}", verify) for width in widths]
            if kind == "stochastic":
                ways.append((max(widths), f"width {max(widths)}, naive", verify_naively))
            for width, tree, rule in ways:
                drawn = torch.Generator(lab.device).manual_seed(lab.seed + at)
                found = one(maker(width, temperature), generator=drawn, rule=rule)
                more = {"differs": int(differs(reader, ids, plain.tokens, found.tokens))} if kind == "greedy" else {}
                lab.row(kind=kind, tree=tree, width=width, of=at, per_step=found.per_call,
                        log_tokens=math.log(found.per_call), distinct=distinct(found.tokens),
                        step_cost=median(found.call_s) / median(plain.call_s),
                        rule=f"{kind}, naive" if rule is verify_naively else kind, **more)  # fmt: skip
