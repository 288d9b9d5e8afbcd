"""Do a few key and value heads decode almost as fast as one, and does mean pooling convert a trained model best?

Grouped-query attention (Ainslie et al. 2023). What differs from the paper: a GPU or a CPU instead of TPUs; times are of
random weights in a decoder shaped like T5-XXL's, with fewer layers; quality is the loss of a small byte-level language
model with 16 heads, trained for minutes on one novel, then converted to 4 groups (the paper: 64 heads, 8 groups) and
to 1, and trained on. Uptraining starts with a new optimiser, for all conversions alike.
"""

import copy
from functools import partial

import torch

from kernels.attention.grouped_query import CONVERSIONS, GroupedAttention, convert
from reproductions.lab import decoding, training
from reproductions.spec import Check, Difference, Ratio, Size, Untested, bars, line

EFFECT = "an effect: {}"


def _loss(of: str, to: str, by: str, **where) -> Difference:
    return Difference("loss", of=of, to=to, by=by, pair="seed", where=where)


CHECKS = [
    Check("cache-ratio", Ratio("kv_bytes", of="H groups", to="H/8 groups", exact=True), at_least=6, at_most=10,
          because="8, a count, within 25 %", scale_free=True),
    Check("speed-gqa8", Ratio("token_ms", of="H groups", to="H/8 groups"), at_least=2.32, needs="cuda",
          because="half of the stated 5.4x on a log scale", label="a decoder"),
    Check("speed-gqa8", Ratio("step_ms", of="H groups", to="H/8 groups", best="n"), above=1.0,
          because=EFFECT.format("faster, a block at our best length"), label="faster at all"),
    Untested("quality-gqa8", "needs the T5-XXL checkpoint, its training data and the seven tasks; 5 % of its training "
             "took about 600 TPU chip-days", needs="cuda"),
    Check("conversion-order", _loss("first", "mean", "how", groups=1, alpha=0.05), above=0.0,
          because=EFFECT.format("mean pooling is better than the first head"), label="mean before first"),
    Check("conversion-order", _loss("random", "first", "how", groups=1, alpha=0.05), above=0.0,
          because=EFFECT.format("the first head is better than a random one"), label="first before random"),
    Check("gqa-before-uptraining", _loss("multi-query", "grouped", "kind", how="mean", alpha=0.0), above=0.0,
          because=EFFECT.format("right after conversion, groups are better than one head"), label="right after"),
    Check("gqa-before-uptraining", _loss("0 %", "5 %", "uptrained", how="mean", kind="grouped"), above=0.0,
          because=EFFECT.format("groups gain from 5 %"), label="groups gain"),
    Check("gqa-before-uptraining", _loss("0 %", "5 %", "uptrained", how="mean", kind="multi-query"), above=0.0,
          because=EFFECT.format("one head gains from 5 %"), label="one head gains"),
    Check("gqa-before-uptraining", Difference("gain", of="first 5 %", to="next 5 %", by="part", pair="case"), above=0.0,
          because=EFFECT.format("the second 5 % bring less"), label="diminishing returns"),
    Check("groups-cost", Ratio("slowdown", of="H/8 to H groups", to="1 to H/8 groups", by="more"), above=1.0,
          because=EFFECT.format("both steps are 8 times as many groups, the second costs more"),
          label="rises towards multi-head"),
    Check("groups-cost", Ratio("step_ms", of="H/8 groups", to="1 group", where={"longest": True}), at_most=2.5,
          because="modest: half, on a log scale, of what the paper's Table 1 gives from 1 group to 64, 6.3x",
          label="modest"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, width=32, heads=64, head_dim=2, hidden=64, batch=2, lengths=[16, 64], tokens=4, layers=1,
                  repeats=6, model_width=16, model_layers=1, steps=20, seeds=5),
    "cpu": Size(limit_s=300, width=512, heads=64, head_dim=16, hidden=2048, batch=8, lengths=[128, 512], tokens=16,
                layers=1, repeats=10, model_width=64, model_layers=2, steps=200, seeds=5),
    "full": Size(limit_s=3600, width=4096, heads=64, head_dim=64, hidden=10240, batch=32, lengths=[128, 512, 2048],
                 tokens=512, layers=6, repeats=6, model_width=512, model_layers=6, steps=4000, seeds=5, memory_gib=60),
}  # fmt: skip
LIMITS = {"width": (16, 8192), "heads": [16, 32, 64, 128], "head_dim": (2, 256), "hidden": (16, 65536),
          "batch": (1, 1024), "lengths": (8, 32768), "tokens": (2, 2048), "layers": (1, 48), "repeats": (5, 100),
          "model_width": (16, 2048), "model_layers": (1, 24), "steps": (20, 100_000), "seeds": (5, 20)}  # fmt: skip
PLOTS = [
    line("Loss while uptraining, mean pooling", x="alpha", y="loss", color="kind", where={"how": "mean"}, log=(),
         x_title="share of the original steps", y_title="nats a byte"),
    bars("Loss after 5 % by conversion", x="how", y="loss", color="kind", where={"alpha": 0.05},
         y_title="nats a byte"),
    line("One decoding step of a block", x="groups", y="step_ms", where={"longest": True}, x_title="groups G",
         y_title="ms"),
]  # fmt: skip
HEADS, GROUPS = 16, {"grouped": 4, "multi-query": 1}  # of the trained model; 4 of 16 as the paper's 8 of 64
ALPHAS = {"0 %": 0.0, "5 %": 0.05, "10 %": 0.1}
CONTEXT = 64


def run(lab, width, heads, head_dim, hidden, batch, lengths, tokens, layers, repeats, model_width, model_layers, steps,
        seeds):  # fmt: skip
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    names = {"1 group": 1, "H/8 groups": heads // 8, "H groups": heads}
    block = partial(_block, lab, width, heads, head_dim, hidden, dtype)
    stages: list[tuple] = [("cache", _cache, (lab, heads, names))]
    stages += [(f"a step over {n} tokens", _step, (lab, block, names, batch, n, dtype, repeats, n == max(lengths)))
               for n in lengths]  # fmt: skip
    stages += [("decoding", _decode, (lab, block, names, layers, batch, tokens, dtype, repeats))]
    stages += [(f"conversion, seed {seed}", _conversion, (lab, model_width, model_layers, steps, seed))
               for seed in range(seeds)]  # fmt: skip
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _block(lab, width, heads, head_dim, hidden, dtype, groups):
    attention = GroupedAttention(width, heads, head_dim, groups)
    return training.Block(width, attention, hidden).to(lab.device, dtype)


def _cache(lab, heads, names):
    """Bytes that a layer keeps of 16 tokens."""
    for name, groups in names.items():
        layer = GroupedAttention(32, heads, 4, groups)
        kept = layer.new_cache(1, 16).append(*layer.keys(torch.randn(1, 16, 32)))
        lab.row(method=name, kv_bytes=sum(x.numel() * x.itemsize for x in kept))


@torch.no_grad()
def _step(lab, block, names, batch, n, dtype, repeats, longest):
    """One token through a block whose cache holds n - 1; the cache is put back after each step."""
    calls = {}
    for name, groups in names.items():
        one = block(groups)
        x = torch.randn(batch, 1, one.attention.p_q.in_features, device=lab.device).to(dtype)
        cache = one.attention.new_cache(batch, n)
        cache.k.normal_(), cache.v.normal_()

        def call(one=one, x=x, cache=cache, n=n):
            cache.length = n - 1
            return decoding.step(one, x, cache)

        calls[name] = call
    times = lab.time(repeats, **calls)
    for i, (low, middle, high) in enumerate(zip(*(times[name] for name in names), strict=True)):
        for (name, groups), ms in zip(names.items(), (low, middle, high), strict=True):
            lab.row(method=name, groups=groups, n=n, longest=longest, repeat=i, step_ms=ms)
        if longest:
            lab.row(more="1 to H/8 groups", repeat=i, slowdown=middle / low)
            lab.row(more="H/8 to H groups", repeat=i, slowdown=high / middle)


def _decode(lab, block, names, layers, batch, tokens, dtype, repeats):
    """Milliseconds a token and sequence over a greedy generation, with a look at an encoder's 128 tokens."""
    calls = {}
    for name, groups in names.items():
        blocks = [block(groups) for _ in range(layers)]
        across = [copy.deepcopy(one.attention) for one in blocks]
        width = blocks[0].attention.p_q.in_features
        decoder = decoding.Decoder(width, 256, blocks, across).to(lab.device, dtype)
        source = torch.randn(batch, 128, width, device=lab.device).to(dtype)
        calls[name] = partial(decoder.generate, source, tokens)
    for name, samples in lab.time(repeats, **calls).items():
        for i, ms in enumerate(samples):
            lab.row(method=name, repeat=i, token_ms=ms / tokens / batch)


def _conversion(lab, width, layers, steps, seed):
    """Train a multi-head model, convert it in every way, train on, with a look at the loss on the way."""
    train, rest = training.corpus(lab.text(), lab.device)
    seed_all = 1000 * lab.seed + seed
    torch.manual_seed(seed_all)
    layers_of = [training.Block(width, GroupedAttention(width, HEADS, width // HEADS, HEADS), 4 * width)
                 for _ in range(layers)]  # fmt: skip
    model = training.ByteModel(width, CONTEXT, layers_of).to(lab.device)
    fit = partial(training.fit, data=train, batch=16, context=CONTEXT)
    fit(model, steps=steps, seed=seed_all)
    lab.row(kind="multi-head", seed=seed, loss=training.validate(model, rest, CONTEXT, 200))
    looks = {round(alpha * steps): name for name, alpha in ALPHAS.items()}
    for kind, groups in GROUPS.items():
        for how in CONVERSIONS:
            new = copy.deepcopy(model)
            found: dict[str, float] = {}
            for one in new.blocks:
                one.attention = convert(one.attention, groups, how)

            def look(done, new=new, found=found):
                if done in looks:
                    found[looks[done]] = training.validate(new, rest, CONTEXT, 200)

            fit(new, steps=max(looks), seed=seed_all + 500, on_step=look)
            for name, alpha in ALPHAS.items():
                lab.row(kind=kind, groups=groups, how=how, seed=seed, alpha=alpha, uptrained=name, loss=found[name])
            if how == "mean":
                case = f"{kind}, seed {seed}"
                lab.row(part="first 5 %", case=case, gain=found["0 %"] - found["5 %"])
                lab.row(part="next 5 %", case=case, gain=found["5 %"] - found["10 %"])
