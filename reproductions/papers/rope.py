"""Is rotary attention a function of distance alone, in a real model too, and does it train better than added positions?

RoPE (Su et al. 2021): identities in float64, the bound of Section 3.4.3 on a real model's queries and keys, and small
byte-level language models that differ in nothing but how they are told positions. What differs from the paper: those
models are causal, train for minutes on one novel and have two layers (theirs: a BERT of base size, 100k steps); the
linear attention has elu + 1 features in place of a Performer's random ones.
"""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from kernels.position.rotary import rotary, tables
from reproductions.lab import models, positions, training
from reproductions.spec import Check, Difference, Max, Ratio, Size, Untested, line

EFFECT = "an effect: {}"


def _ahead(of: str, to: str, attention: str, when: str) -> Difference:
    return Difference("loss", of=of, to=to, by="scheme", pair="seed", where={"attention": attention, "when": when})


CHECKS = [
    Check("relative", Max("shift_change"), at_most=1.0e-9, label="scores", scale_free=True,
          because="the stated tolerance: q.k may not change in float64 when both positions move"),
    Check("relative", Max("norm_change"), at_most=1.0e-9, label="norms", scale_free=True,
          because="the same tolerance for the norms"),
    Check("relative", Max("real_change"), at_most=1.0e-9, label="a real model", scale_free=True,
          because="the same tolerance for the scores of all its layers, relative to the largest, in float64"),
    Check("decay", Ratio("mean_bound", of="1 to 10", to="around 250", by="distance", exact=True), above=1.0,
          computed=True, because="the bound's mean |S_i|, by its formula"),
    Check("decay", Max("score_over_bound"), at_most=1.0, label="the bound holds", scale_free=True,
          because="no score of a real model's rotated queries and keys may exceed its bound"),
    Check("faster-convergence", _ahead("sinusoidal", "rotary", "softmax", "half-way"), above=0.0, label="half-way",
          because=EFFECT.format("a lower loss at equal steps")),
    Check("faster-convergence", _ahead("sinusoidal", "rotary", "softmax", "the end"), above=0.0, label="at the end",
          because=EFFECT.format("a lower loss at equal steps")),
    Check("linear-attention", _ahead("none", "rotary", "linear", "half-way"), above=0.0, label="half-way",
          because=EFFECT.format("a lower loss at equal steps")),
    Check("linear-attention", _ahead("none", "rotary", "linear", "the end"), above=0.0, label="at the end",
          because=EFFECT.format("a lower loss")),
    Untested("bleu", "needs WMT14 and a Transformer trained on it for days of one GPU", needs="cuda"),
    Untested("long-text", "needs CAIL2019-SCM and models pre-trained on Chinese text", needs="cuda"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, model=models.DEFAULT, triples=50, tokens=32, width=16, layers=1, context=16, steps=20,
                  seeds=5),
    "cpu": Size(limit_s=300, model=models.DEFAULT, triples=300, tokens=160, width=64, layers=2, context=64, steps=100,
                seeds=5),
    "full": Size(limit_s=3600, model=models.DEFAULT, triples=1000, tokens=1024, width=768, layers=12, context=512,
                 steps=3000, seeds=5, memory_gib=40),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "triples": (1, 100_000), "tokens": (16, 4096),
          "width": (16, 2048), "layers": (1, 24), "context": (8, 2048), "steps": (20, 100_000),
          "seeds": (5, 20)}  # fmt: skip
PLOTS = [
    line("Loss while training", x="step", y="loss", color="scheme", where={"attention": "softmax"}, log=(),
         y_title="nats a byte"),
    line("Loss while training, linear attention", x="step", y="loss", color="scheme", where={"attention": "linear"},
         log=(), y_title="nats a byte"),
    line("Loss beyond the trained length", x="length", y="longer_loss", color="scheme", log=("x",),
         y_title="nats a byte"),
    line("The bound, and real scores, by distance", x="apart", y="relative", color="what", log=("x",),
         x_title="distance, tokens", y_title="relative to distance 1"),
]  # fmt: skip
SHIFT = 1000
SCHEMES = {"softmax": ("rotary", "sinusoidal", "learned", "none"), "linear": ("rotary", "none")}


def run(lab, model, triples, tokens, width, layers, context, steps, seeds):
    lm, tokenizer = lab.model(model)
    ids = tokenizer(lab.text()[: 16 * tokens], return_tensors="pt").input_ids[:, :tokens].to(lab.device)
    stages: list[tuple] = [("identities", _identities, (lab, d, triples)) for d in (2, 64, 128)]
    stages += [("a real model", _real, (lab, lm, ids)), ("the bound", _bound, (lab, 128))]
    stages += [(f"training, {scheme}", _train, (lab, width, layers, context, steps, seed, scheme, attention))
               for seed in range(seeds) for attention, schemes in SCHEMES.items() for scheme in schemes]  # fmt: skip
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _turned(x, places):
    """Rows of x (1, 1, N, D), float64, at places (N,)."""
    cos, sin = tables(places, x.shape[-1], dtype=x.dtype)
    return rotary(x, x, cos, sin, impl="torch")[0]


def _identities(lab, d, triples):
    """Scores and norms of random pairs at random positions up to 1e5, and moved by as much."""
    q, k = torch.randn(2, 1, 1, triples, d, dtype=torch.float64, device=lab.device)
    m, n, shift = torch.randint(100_000, (3, triples), device=lab.device)
    score = (_turned(q, m) * _turned(k, n)).sum(-1)
    moved = (_turned(q, m + shift) * _turned(k, n + shift)).sum(-1)
    lab.row(d=d, shift_change=(score - moved).abs().max().item(),
            norm_change=(_turned(q, m).norm(dim=-1) - q.norm(dim=-1)).abs().max().item())  # fmt: skip


def _real(lab, lm, ids):
    """Scores of every layer: with all positions moved, against their bound, and by distance."""
    n, theta = ids.shape[1], lm.config.rope_parameters["rope_theta"]
    total = torch.zeros(n, dtype=torch.float64, device=ids.device)

    def attend(layer, q, k, v):
        nonlocal total
        groups, places = q.shape[1] // k.shape[1], torch.arange(n, device=q.device)
        wide = q.double(), k.double().repeat_interleave(groups, 1)
        cos, sin = tables(places, q.shape[-1], theta, torch.float64)
        one, two = rotary(*wide, cos, sin, "halves", "torch")
        score = one @ two.mT
        cos, sin = tables(places + SHIFT, q.shape[-1], theta, torch.float64)
        moved, along = rotary(*wide, cos, sin, "halves", "torch")
        change = (score - moved @ along.mT).abs().max() / score.abs().max()
        over = (score.abs() / _limit(*wide, theta)).max()
        lab.row(method=models.DEFAULT, layer=layer, real_change=change.item(), score_over_bound=over.item())
        total += torch.stack([score.diagonal(-apart, 2, 3).mean() for apart in range(n)])
        return scaled_dot_product_attention(one.to(q.dtype), two.to(q.dtype), v.repeat_interleave(groups, 1),
                                            is_causal=True)  # fmt: skip

    models.forward(lm, ids, attend)
    for apart in range(1, n * 3 // 4):
        lab.row(what="mean score", apart=apart, relative=(total[apart] / total[1]).item())


def _partial_sums(n, d, base, device="cpu"):
    """|S_i|, i = 1 .. d/2, at distances 0 .. n-1: (n, d/2)."""
    cos, sin = tables(torch.arange(n, device=device), d, base, torch.float64)
    return torch.complex(cos, sin).cumsum(-1).abs()


def _limit(q, k, base):
    """Equation 37's bound for all pairs: max |h_(i+1) - h_i| times the sum of |S_i| at their distance."""
    n, half = q.shape[2], q.shape[3] // 2
    as_pairs = (torch.complex(x[..., :half], x[..., half:]) for x in (q, k))
    one, two = (x.transpose(0, 1).flatten(0, 1) for x in as_pairs)
    sums, far = _partial_sums(n, 2 * half, base, q.device).sum(-1), torch.arange(n, device=q.device)
    rows = []
    for a, b in zip(one, two, strict=True):
        h = a[:, None] * b.conj()[None]
        rows.append(nn.functional.pad(torch.view_as_real(h), (0, 0, 0, 1)).diff(dim=-2).norm(dim=-1).amax(-1))
    return torch.stack(rows)[None] * sums[(far[:, None] - far[None]).abs()]


def _bound(lab, d):
    """Mean |S_i| by distance, as the paper's figure shows it."""
    mean = _partial_sums(1000, d, 10000.0).mean(-1)
    lab.row(distance="1 to 10", mean_bound=mean[1:11].mean().item())
    lab.row(distance="around 250", mean_bound=mean[200:300].mean().item())
    for apart in range(1, 1000, 3):
        lab.row(what="bound", apart=apart, relative=(mean[apart] / mean[1]).item())


def _train(lab, width, layers, context, steps, seed, scheme, attention):
    """One model; its loss on the way, and then on longer texts."""
    torch.manual_seed(1000 * lab.seed + seed)
    train, rest = training.corpus(lab.text(), lab.device)
    model = positions.model(width, layers, 8 * context, scheme, attention).to(lab.device)

    def look(done):
        if done and done % (steps // 4) == 0:
            when = {steps // 4 * 2: "half-way", steps: "the end"}.get(done, "between")
            lab.row(attention=attention, scheme=scheme, seed=seed, step=done, when=when,
                    loss=training.validate(model, rest, context, 200))  # fmt: skip

    training.fit(model, train, steps=steps, batch=16, context=context, seed=seed, on_step=look)
    if attention == "softmax" and scheme != "learned":
        for length in (context, 2 * context, 4 * context):
            longer = training.validate(model, rest, length, 50 * context // length)
            lab.row(scheme=scheme, seed=seed, length=length, longer_loss=longer)
