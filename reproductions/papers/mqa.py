"""Does one key and value head for all query heads make decoding faster, at what cost in quality?

Multi-head and multi-query attention (Shazeer 2019) side by side. What differs from the paper: a GPU or a CPU instead of
TPUs; times are of random weights, on which they do not depend; quality is that of small byte-level language models on
one novel, trained for minutes, not of a translator on WMT14 or of a model of Billion-Word. As in the paper, the
feed-forward layers are widened until all models have as many parameters.
"""

from functools import partial

import torch

from kernels.attention.multi_query import Attention, multi_head_attention, multi_query_attention
from kernels.products import Products
from reproductions.lab import decoding, training
from reproductions.spec import Check, Difference, Ratio, Size, bars, line

COUNT = "a count, within 25 %"
HALF = "half of the stated {} on a log scale"
BARELY = "what the paper itself calls barely a gain: its encoder's 1.7 against 1.5 us"
SMALL = "half-way, on a log scale, between the loss stated for multi-query ({}) and for the best smaller model ({})"
HEADS = 8  # the paper's

CHECKS = [
    Check("cache-size", Ratio("kv_bytes", of="multi-head", to="multi-query", exact=True), at_least=6, at_most=10,
          because="the number of heads, 8: " + COUNT, label="bytes read", scale_free=True),
    Check("cache-size", Ratio("flops", of="multi-head", to="multi-query", exact=True), at_least=0.75, at_most=1.25,
          because="no change: " + COUNT, label="arithmetic", scale_free=True),
    Check("decode-speed", Ratio("token_ms", of="multi-head", to="multi-query", where={"beam": 1}), at_least=3.48,
          because=HALF.format("12.1x"), label="a decoder", needs="cuda"),
    Check("decode-speed", Ratio("attention_ms", of="multi-head", to="multi-query", best="n"), above=1.0,
          because="an effect, of attention alone, at our best length", label="attention alone"),
    Check("beam-speed", Ratio("token_ms", of="multi-head", to="multi-query", where={"beam": 4}), at_least=2.51,
          because=HALF.format("6.3x"), needs="cuda"),
    Check("no-training-gain", Ratio("train_ms", of="multi-head", to="multi-query"), at_least=0.885, at_most=1.13,
          because=BARELY),
    Check("quality-wmt", Difference("loss", of="best smaller", to="multi-query", pair="seed"), above=0.0,
          because="an effect: better than every model with fewer or smaller heads", label="against smaller heads"),
    Check("quality-wmt", Difference("loss", of="multi-query", to="multi-head", pair="seed"), at_most=0.029,
          because=SMALL.format("0.015 nats", "0.056"), label="the loss is small"),
    Check("quality-lm", Ratio("loss", of="multi-query", to="multi-head", pair="seed", transform="exp"), at_most=1.018,
          because=SMALL.format("perplexity 30.2 against 29.9", "30.9"), needs="cuda"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, width=32, lengths=[64, 512], batch=2, tokens=8, layers=1, vocabulary=64, repeats=5,
                  train_length=64, model_width=16, model_layers=1, steps=10, seeds=5),
    "cpu": Size(limit_s=300, width=512, lengths=[128, 512, 1024, 2048], batch=8, tokens=64, layers=1, vocabulary=256,
                repeats=10, train_length=128, model_width=64, model_layers=2, steps=100, seeds=5),
    "full": Size(limit_s=3600, width=1024, lengths=[128, 512, 2048, 4096], batch=1024, tokens=128, layers=6,
                 vocabulary=32000, repeats=10, train_length=128, model_width=512, model_layers=6, steps=2000, seeds=5,
                 memory_gib=60),
}  # fmt: skip
LIMITS = {"width": (32, 8192), "lengths": (16, 32768), "batch": (1, 1024), "tokens": (2, 1024), "layers": (1, 48),
          "vocabulary": (16, 100_000), "repeats": (5, 100), "train_length": (16, 4096), "model_width": (16, 2048),
          "model_layers": (1, 24), "steps": (10, 100_000), "seeds": (5, 20)}  # fmt: skip
PLOTS = [
    line("Attention of one decoding step", x="n", y="attention_ms", color="method", x_title="context n", y_title="ms"),
    line("Gain against the paper's count of memory accesses", x="n", y="gain", color="kind", x_title="context n",
         y_title="multi-head / multi-query"),
    bars("Validation loss at equal parameters", x="method", y="loss", y_title="nats a byte"),
    bars("Time of a decoded token", x="beam", y="token_ms", color="method", x_title="beam", y_title="ms"),
]  # fmt: skip

METHODS = ("multi-head", "multi-query")
SMALLER = {"h = 1": 1, "h = 2": 2, "h = 4": 4, "h = 8": 8}  # heads of the smaller models; h d_k as of one of our heads


def run(lab, width, lengths, batch, tokens, layers, vocabulary, repeats, train_length, model_width, model_layers, steps,
        seeds):  # fmt: skip
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    stages: list[tuple] = [("counting", _count, (lab, width, tokens))]
    small = min(batch, 64)  # times of one layer
    stages += [(f"attention over {n} tokens", _attention, (lab, small, width, n, dtype, repeats)) for n in lengths]
    shape = (width, layers, vocabulary, batch, tokens)
    stages += [(f"decoding, beam {beam}", _decode, (lab, shape, beam, dtype, repeats)) for beam in (1, 4)]
    stages += [("training step", _train_step, (lab, min(batch, 16), width, train_length, repeats))]
    stages += [(f"training, seed {s}", _quality, (lab, model_width, model_layers, steps, s)) for s in range(seeds)]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _block(width, heads, head_dim, shared):
    """Attention and a feed-forward layer as wide as makes the parameters equal to those of multi-head attention."""
    kept, full = 1 if shared else heads, 4 * width
    saved = full - 2 * heads * head_dim - 2 * kept * head_dim  # parameters a unit of width
    return training.Block(width, Attention(width, heads, head_dim, shared), 4 * width + saved // 2)


def _pair(width, device):
    """A block of each method."""
    return {m: _block(width, HEADS, width // HEADS, m == "multi-query").to(device) for m in METHODS}


@torch.no_grad()
def _count(lab, width, tokens):
    """What the products of one step do, after `tokens` tokens: keys and values are their right-hand operands."""
    for method, block in _pair(width, "cpu").items():
        cache = block.attention.new_cache(2, tokens + 1)
        cache.append(*block.attention.keys(torch.randn(2, tokens, width)))
        with Products() as count:
            decoding.step(block, torch.randn(2, 1, width), cache)
        lab.row(method=method, kv_bytes=count.batched_right, flops=count.flops)


def _attention(lab, batch, width, n, dtype, repeats):
    """One query a sequence over n keys; multi-head attention is given the same keys, one copy a head."""
    dim = width // HEADS

    def make():
        q, k, v = (torch.randn(batch, h, m, dim, device=lab.device).to(dtype) for h, m in ((HEADS, 1), (1, n), (1, n)))
        return q, k, v, k.repeat(1, HEADS, 1, 1), v.repeat(1, HEADS, 1, 1)

    methods = {"multi-query": lambda q, k, v, ks, vs: multi_query_attention(q, k, v),
               "multi-head": lambda q, k, v, ks, vs: multi_head_attention(q, ks, vs)}  # fmt: skip
    times = lab.time(repeats, make, read=2 * batch * n * dim * dtype.itemsize, **methods)
    for i, (slow, quick) in enumerate(zip(times["multi-head"], times["multi-query"], strict=True)):
        lab.row(method="multi-head", n=n, repeat=i, attention_ms=slow)
        lab.row(method="multi-query", n=n, repeat=i, attention_ms=quick)
        lab.row(kind="measured, attention", n=n, repeat=i, gain=slow / quick)
    few = 1 / width + n / (width * HEADS) + 1 / batch
    lab.row(kind="counted, whole layer", n=n, gain=(n / width + 1 / batch) / few)


def _decode(lab, shape, beam, dtype, repeats):
    """Milliseconds a token and sequence, over a whole generation."""
    width, layers, vocabulary, batch, tokens = shape
    calls = {}
    for method in METHODS:
        kind = width, HEADS, width // HEADS, method == "multi-query"
        parts = [_block(*kind) for _ in range(layers)], [Attention(*kind) for _ in range(layers)]
        decoder = decoding.Decoder(width, vocabulary, *parts).to(lab.device, dtype)
        source = torch.randn(batch, tokens, width, device=lab.device).to(dtype)
        calls[method] = partial(decoder.generate, source, tokens, beam)
    for method, samples in lab.time(repeats, **calls).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, beam=beam, repeat=i, token_ms=ms / tokens / batch)


def _train_step(lab, batch, width, n, repeats):
    """Forward and backward of a block on n tokens at once."""
    x = torch.randn(batch, n, width, device=lab.device)
    blocks = _pair(width, lab.device)
    times = lab.time(repeats, **{m: partial(lambda b: b(x).square().mean().backward(), b) for m, b in blocks.items()})
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, n=n, repeat=i, train_ms=ms)


def _quality(lab, width, layers, steps, seed, context=64):
    """Validation loss of every variant after the same steps on the same batches."""
    train, rest = training.corpus(lab.text(), lab.device)
    dim = width // HEADS
    kinds = {"multi-head": (HEADS, dim, False), "multi-query": (HEADS, dim, True)}
    kinds |= {f"{name}, d_k = {dim / h:g}": (h, dim // h, False) for name, h in SMALLER.items() if dim >= h}
    losses = {}
    for name, kind in kinds.items():
        torch.manual_seed(1000 * lab.seed + seed)
        model = training.ByteModel(width, context, [_block(width, *kind) for _ in range(layers)]).to(lab.device)
        training.fit(model, train, steps=steps, batch=16, context=context, seed=1000 * lab.seed + seed)
        losses[name] = training.validate(model, rest, context, 400)
        lab.row(method=name, seed=seed, loss=losses[name], parameters=training.parameters(model))
    lab.row(method="best smaller", seed=seed, loss=min(loss for name, loss in losses.items() if name not in METHODS))
