"""How accurate is attention by sorted blocks and samples, on which inputs, and is its work near-linear in the length?

HyperAttention (Han et al. 2023) beside exact attention, and beside the same budget spent without its sorting or without
its blocks. Errors are the paper's own: the spectral norm of the error over that of the softmax matrix times that of V.
On i.i.d. Gaussian inputs, which the authors' speed benchmark uses, true attention is nearly uniform and its output is
nearly zero: the error there is shown too, in both norms. What differs from the paper: real inputs and perplexity are
those of a 135M model at 2048 tokens (theirs: ChatGLM2-6B at 32k), with blocks and samples of 64, in the last layers
first; pairs that are sampled and lie in the own block are left out, as in the paper (its CUDA code counts them twice).

Changed after results had been seen, the bounds apart: 30 cases a family for 8, which had left sorting inconclusive; and
scores held in slices, since whole ones left the cache and the time grew with n^1.45.
"""

from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention.hyper import Budget, hyper_attention
from kernels.cache.streaming import rotate
from kernels.products import Products
from reproductions.lab import models
from reproductions.spec import Check, Ratio, Size, Slope, line

EFFECT = "an effect: {}"


def _error(of: str, to: str, family: str) -> Ratio:
    return Ratio("op_error", of=of, to=to, pair="case", where={"family": family, "total": "same"})


CHECKS = [
    *(Check("spectral-error", Slope("op_error", "samples", where={"family": family, "sweep": True}, repeat="case"),
            below=0.0, because=EFFECT.format("the error falls with the samples"), label=f"samples, {family} inputs")
      for family in ("clustered", "real")),
    *(Check("spectral-error", _error("random blocks and samples", "hyper", family), above=1.0,
            because=EFFECT.format("sorting by hash finds what random blocks do not"), label=f"sorting, {family} inputs")
      for family in ("clustered", "real")),
    Check("spectral-error", _error("samples only", "hyper", "real"), above=1.0, label="blocks, real inputs",
          because=EFFECT.format("at the same budget, blocks and samples are better than samples alone")),
    Check("speed-131k-causal", Ratio("causal_ms", of="exact", to="hyper", where={"longest": True}), at_least=2.236,
          needs="cuda", because="half of the stated 5x on a log scale, against PyTorch's flash attention"),
    Check("chatglm2-32k", Ratio("nll", of="half", to="none", by="patched", pair="block", transform="exp"),
          at_most=1.266, label="perplexity", because="twice the stated rise, 5.6 to 6.3, on a log scale; the model of "
          "this run is another, and its 50 % higher speed is not tested: that needs ChatGLM2-6B-32k"),
    Check("near-linear", Slope("operations", "n", where={"method": "hyper"}), at_most=1.25, label="operations",
          because="the exponent, 1, within 25 %, of the products that were counted", scale_free=True),
    Check("near-linear", Slope("ms", "n", where={"method": "hyper"}, repeat="repeat"), at_most=1.25, label="time",
          because="the exponent, 1, within 25 %"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, model=models.DEFAULT, n=256, seeds=5, budget=32, layers=[4, 20], tokens=192,
                  patched_block=16, timed=[1024, 2048, 4096], causal=[1024], heads=1, repeats=6, timed_budget=64),
    "cpu": Size(limit_s=300, model=models.DEFAULT, n=1024, seeds=30, budget=128, layers=[2, 10, 18, 26], tokens=2048,
                patched_block=64, timed=[8192, 16384, 32768], causal=[4096, 16384], heads=1, repeats=6,
                timed_budget=256),
    "full": Size(limit_s=1800, model=models.DEFAULT, n=4096, seeds=30, budget=512, layers=[2, 10, 18, 26], tokens=4096,
                 patched_block=64, timed=[8192, 16384, 32768, 65536, 131072], causal=[8192, 32768, 131072], heads=32,
                 repeats=10, timed_budget=256, memory_gib=60, scale="paper"),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "n": (64, 8192), "seeds": (5, 50),
          "budget": (16, 4096), "layers": (0, 200), "tokens": (64, 8192), "patched_block": (8, 1024),
          "timed": (256, 2**20), "causal": (256, 2**20), "heads": (1, 128), "repeats": (5, 100),
          "timed_budget": (16, 4096)}  # fmt: skip
PLOTS = [
    line("Error against samples, blocks of the same size", x="samples", y="op_error", color="family",
         where={"sweep": True}, x_title="samples m", y_title="spectral error"),
    line("Error of the same budget, spent otherwise", x="family", y="op_error", color="method", log=("y",),
         where={"total": "same"}, y_title="spectral error") | {"mark": "bar"},
    line("Time of one layer, no mask", x="n", y="ms", color="method", x_title="length n", y_title="ms"),
    line("Perplexity with layers replaced", x="layers", y="perplexity", log=(), x_title="layers replaced, last first"),
]  # fmt: skip
CENTRES, SPREAD = 64, 0.3


def run(lab, model, n, seeds, budget, layers, tokens, patched_block, timed, causal, heads, repeats, timed_budget):
    lm, tokenizer = lab.model(model)
    ids = tokenizer(lab.text()[: 16 * tokens], return_tensors="pt").input_ids[:, :tokens].to(lab.device)
    spent = Budget(block=timed_budget, samples=timed_budget, exact_below=max(timed_budget, min(causal) // 2))
    stages: list[tuple] = [("errors", _errors, (lab, family, seed, make(n, lab.seed + seed, lab.device), budget))
                           for seed in range(seeds)
                           for family, make in (("Gaussian", gaussian), ("clustered", clustered))]  # fmt: skip
    stages += [("errors on real inputs", _real, (lab, lm, ids[:, :n], layers, seeds, budget))]
    stages += [("perplexity", _perplexity, (lab, lm, ids, patched_block))]
    stages += [(f"time at {m}", _time, (lab, (1, heads, m, 64), spent, repeats)) for m in timed]
    stages += [(f"causal time at {m}", _causal_time, (lab, (1, heads, m, 64), spent, repeats, m == max(causal)))
               for m in causal]  # fmt: skip
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def gaussian(n, seed, device, d=64):
    """q, k and v of independent normal numbers."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 1, n, d, generator=draw).to(device) for _ in range(3)]


def clustered(n, seed, device, d=64):
    """q and k around common centres; v goes with the centre."""
    draw = torch.Generator().manual_seed(seed)
    centres, values = (torch.randn(CENTRES, d, generator=draw) for _ in range(2))
    made = []
    for around in (centres, centres):
        which = torch.randint(CENTRES, (n,), generator=draw)
        made.append(around[which] + SPREAD * torch.randn(n, d, generator=draw))
    made.append(values[which] + SPREAD * torch.randn(n, d, generator=draw))
    return [x[None, None].to(device) for x in made]


def _errors(lab, family, case, qkv, budget):
    """Blocks and samples of `budget` each, other ways to spend as much, and a sweep over the samples."""
    q, k, v = qkv
    attention = (q.double() @ k.double().mT * q.shape[-1] ** -0.5).softmax(-1)[0, 0]
    exact, norm = attention @ v.double()[0, 0], _norm(attention) * _norm(v.double()[0, 0])
    alpha = len(attention) * attention.square().sum(0).max().item()
    spend = {
        "hyper": Budget(budget, budget),
        "random blocks and samples": Budget(budget, budget, order="random"),
        "blocks only": Budget(2 * budget, 0),
        "samples only": Budget(0, 2 * budget),
    }
    cases: list[tuple] = [(name, how, {"total": "same"}) for name, how in spend.items()]
    cases += [("hyper", Budget(budget, m), {"sweep": True}) for m in (budget // 4, budget // 2, budget, 2 * budget)]
    draw = torch.Generator(lab.device).manual_seed(lab.seed)
    for name, how, marks in cases:
        off = hyper_attention(q, k, v, how, generator=draw).double()[0, 0] - exact
        lab.row(family=family, case=f"{family} {case}", method=name, samples=how.samples, alpha=alpha, **marks,
                op_error=_norm(off) / norm, frobenius=(off.norm() / exact.norm()).item())  # fmt: skip


def _norm(x):
    """The largest singular value, by power iteration."""
    y = torch.ones(x.shape[1], 1, dtype=x.dtype, device=x.device)
    for _ in range(50):
        y = x.mT @ (x @ y)
        y /= y.norm()
    return (x @ y).norm().item()


def _attend(lm, length, patched, budget, seen=None):
    """Attention for `models.forward`: exact, but approximate in the layers `patched`; `seen` gets q, k and v."""
    cos, sin = models.rotation(lm, length)
    draw = torch.Generator(lm.device).manual_seed(0)

    def attend(layer, q, k, v):
        groups = q.shape[1] // k.shape[1]
        q, k, v = rotate(q, cos, sin), rotate(k, cos, sin).repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        if seen is not None:
            seen.append((q, k, v))
        if layer in patched:
            return hyper_attention(q, k, v, budget, causal=True, generator=draw)
        return scaled_dot_product_attention(q, k, v, is_causal=True)

    return attend


def _real(lab, lm, ids, layers, seeds, budget):
    seen: list[tuple] = []
    models.forward(lm, ids, _attend(lm, ids.shape[1], (), None, seen))
    for case in range(seeds):
        layer, head = layers[case % len(layers)], case % lm.config.num_attention_heads
        _errors(lab, "real", case, [x[:, head : head + 1] for x in seen[min(layer, len(seen) - 1)]], budget)


def _perplexity(lab, lm, ids, block):
    """Loss of each token with the last layers replaced: none of them, a quarter, half, all."""
    depth, budget = len(lm.model.layers), Budget(block, block, exact_below=4 * block)
    for name, count in (("none", 0), ("quarter", depth // 4), ("half", depth // 2), ("all", depth)):
        hidden = models.forward(lm, ids, _attend(lm, ids.shape[1], range(depth - count, depth), budget))
        losses = models.token_nll(lm, hidden[0, :-1], ids[0, 1:])
        lab.row(layers=count, perplexity=losses.mean().exp().item())
        for i, part in enumerate(losses.split(max(8, len(losses) // 16))):
            lab.row(patched=name, block=i, nll=part.mean().item())


def _time(lab, shape, budget, repeats):
    q, k, v = (torch.randn(shape, device=lab.device) for _ in range(3))
    approximate = partial(hyper_attention, q, k, v, budget)
    with Products() as count:
        approximate()
    lab.row(method="hyper", n=shape[2], operations=count.flops)
    exact = partial(scaled_dot_product_attention, q, k, v)
    for method, samples in lab.time(repeats, exact=exact, hyper=approximate).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, n=shape[2], repeat=i, ms=ms)


def _causal_time(lab, shape, budget, repeats, longest):
    dtype = torch.bfloat16 if lab.device == "cuda" else torch.float32
    q, k, v = (torch.randn(shape, device=lab.device).to(dtype) for _ in range(3))
    times = lab.time(repeats, exact=lambda: scaled_dot_product_attention(q, k, v, is_causal=True),
                     hyper=lambda: hyper_attention(q, k, v, budget, causal=True))  # fmt: skip
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, n=shape[2], repeat=i, longest=longest, causal_ms=ms)
