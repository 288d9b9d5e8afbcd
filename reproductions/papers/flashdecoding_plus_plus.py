"""Can one constant stand for every maximum of a softmax, and do flat products need a choice of their own?

FlashDecoding++ (Hong et al. 2023): decode attention with a unified maximum against the same with synchronised splits,
products of a few rows padded to 8 or to 64, and a table of the best method against the best single one. What differs
from the paper: scores are those of SmolLM2-135M, not of Llama2-7B; the window is what float32 holds, and a row is held
to it by its largest score, since small ones do no harm; flat products take w x^T, which pads M to 8. On a
CPU, methods are PyTorch operations, and only what padding costs, and the choice, are judged there.

Changed after a result had been seen: phi is the mean of the rows' largest scores; the middle of the scores' range, the
first choice, gave 3.2 times plain PyTorch's error.
"""

from statistics import median

import torch

from kernels.attention.grouped_query import grouped_query_reference
from kernels.attention.split_kv import split_kv_attention
from kernels.attention.unified_max import unified_max_attention
from kernels.cache.streaming import rotate
from kernels.gemm.flat import METHODS, best_static, dataflow, flat_linear
from kernels.testing import error_ratio
from reproductions.lab import models
from reproductions.spec import Check, Max, Mean, Ratio, Size, Untested, Value, bars, line

ROUNDING = "twice the error of standard attention in the same dtype"
HALF = "half of the stated {} on a log scale"
CHECKS = [
    Check("unified-max-exact", Max("error_ratio", where={"inputs": ["random", "a real model"]}), at_most=2.0,
          because=ROUNDING, label="inside the window", scale_free=True),
    Check("unified-max-exact", Max("error_ratio", where={"inputs": "outside"}), at_most=2.0, because=ROUNDING,
          label="computed again", scale_free=True),
    Check("unified-max-exact", Max("again", where={"inputs": ["random", "a real model"], "dtype": "float32"}),
          at_most=0, because="nothing may be computed again that did not overflow or vanish", label="only where needed",
          scale_free=True),
    Check("score-window", Mean("inside"), at_least=0.9999, label="share inside",
          because="the stated share, of one half of the text in the range of the other half"),
    Check("score-window", Value("width"), at_most=120, label="the window is safe",
          because="the width that float32's exponents leave to sums"),
    Check("sync-overhead", Ratio("attention_ms", of="synchronised", to="unified", where={"n": 1024}), at_least=1.11,
          needs="cuda", because=HALF.format("18.8 % of the time, 1.23x")),
    Check("flat-gemm", Ratio("gemm_ms", of="padded", to="flat", where={"m": 8}, best="shape"), at_least=1.41,
          because=HALF.format("loss of more than 50 %, 2x"), label="padding to 64"),
    Check("flat-gemm", Ratio("gemm_ms", of="padded", to="flat", best="case"), at_least=1.23, needs="cuda",
          because=HALF.format("1.52x"), label="flat on a GPU"),
    Check("static-dataflow", Ratio("chosen_ms", of="static", to="table", by="choice", best="case"), at_least=1.42,
          because=HALF.format("loss of 50.25 %, 2.01x")),
    Untested("end-to-end", "needs the other engines, on an A100 and on AMD's GPUs", needs="cuda"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, keys=[100], tokens=64, timed=[1024], heads=4, batch=1, width=256, hidden=704, rows=[1, 8],
                  repeats=10),
    "cpu": Size(limit_s=300, keys=[100, 1000], tokens=512, timed=[1024, 4096], heads=32, batch=1, width=1024,
                hidden=2816, rows=[1, 4, 8, 32, 64], repeats=12),
    "full": Size(limit_s=900, keys=[100, 1000, 10000], tokens=1024, timed=[1024, 4096, 16384, 65536], heads=32, batch=1,
                 width=4096, hidden=11008, rows=[1, 2, 4, 8, 16, 32, 64, 128], repeats=40, scale="paper"),
}  # fmt: skip
LIMITS = {"keys": (1, 2**17), "tokens": (16, 4096), "timed": (16, 2**20), "heads": (1, 128), "batch": (1, 64),
          "width": (16, 16384), "hidden": (16, 65536), "rows": (1, 1024), "repeats": (10, 1000)}  # fmt: skip
PLOTS = [
    bars("Scores of a real model", x="score", y="share", x_title="score, to the multiple of 4 below", y_title="share"),
    line("Decode attention", x="n", y="attention_ms", color="method", x_title="keys", y_title="ms"),
    line("Products of a few rows", x="m", y="gemm_ms", color="method", where={"first": True}, x_title="rows M",
         y_title="ms"),
    bars("Table against the best single method", x="m", y="chosen_ms", color="choice", x_title="rows M", y_title="ms"),
]  # fmt: skip


def run(lab, keys, tokens, timed, heads, batch, width, hidden, rows, repeats):
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    shapes = [(3 * width, width), (width, width), (hidden, width), (width, hidden)]  # of Llama's layers
    times: dict[tuple, dict] = {}
    stages: list[tuple] = [("exactness", _exactness, (lab, n)) for n in keys]
    stages += [("scores of a real model", _scores, (lab, tokens))]
    stages += [("attention", _attention, (lab, batch, heads, n, dtype, repeats)) for n in timed]
    stages += [("products", _products, (lab, times, m, shape, shape == shapes[0], dtype, repeats))
               for shape in shapes for m in rows]  # fmt: skip
    stages += [("the table", _dataflow, (lab, times))]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(f"{name} {done + 1} of {len(stages)}", done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _compare(lab, inputs, q, k, v, phi, **marks):
    out, again = unified_max_attention(q, k, v, phi, splits=min(3, k.shape[2]))
    exact = grouped_query_reference(q.double(), k.double(), v.double())
    lab.row(inputs=inputs, n=k.shape[2], dtype=str(q.dtype).removeprefix("torch."), again=again.double().mean().item(),
            error_ratio=error_ratio(out, grouped_query_reference(q, k, v), exact), **marks)  # fmt: skip


def _exactness(lab, n):
    """Ordinary scores; then a constant far from them, and every other head with scores that overflow."""
    for dtype in (torch.float32, torch.float16):
        q, k, v = (torch.randn(2, h, m, 64, device=lab.device).to(dtype) for h, m in ((8, 1), (2, n), (2, n)))
        _compare(lab, "random", q, k, v, 0.0)
        for phi in (-200.0, 200.0):
            _compare(lab, "outside", q, k, v, phi)
        q[:, ::2] *= 100
        _compare(lab, "outside", q, k, v, 0.0)


def _fit(low, high):
    """The window: where the scores of the first half of the text lie."""
    return low, high


@torch.no_grad()
def _scores(lab, tokens):
    """Scores of a real model on two texts: the range of the first, what part of the second is in it. phi: the mean
    of the rows' largest scores."""
    lm, tokenizer = lab.model()
    ids = torch.tensor([tokenizer(lab.text()).input_ids[: 2 * tokens]], device=lab.device)
    low, high, tops, cases = torch.inf, -torch.inf, [], []
    for q, k, _ in _layers(lm, ids[:, :tokens]):
        s = _causal_scores(q, k)
        low, high = min(low, s[s.isfinite()].min().item()), max(high, s.max().item())
        tops.append(s.amax(-1).mean().item())
    (low, high), phi = _fit(low, high), sum(tops) / len(tops)
    within, count = torch.zeros(8), torch.zeros(8)
    shares: dict[int, int] = {}
    for q, k, v in _layers(lm, ids[:, tokens:]):
        for i, part in enumerate(torch.arange(tokens, device=lab.device).chunk(8)):
            s = _causal_scores(q, k, part)
            s = s[s.isfinite()]
            within[i], count[i] = within[i] + ((s >= low) & (s <= high)).sum().cpu(), count[i] + s.numel()
            for value, found in zip(*(s // 4 * 4).unique(return_counts=True), strict=True):
                shares[int(value)] = shares.get(int(value), 0) + int(found)
        cases.append((q[:, :, -1:], k, v))
    for i, share in enumerate((within / count).tolist()):
        lab.row(part=i, inside=share)
    for value, found in sorted(shares.items()):
        lab.row(score=value, share=found / sum(shares.values()))
    lab.row(width=high - low, low=low, high=high, phi=phi)
    for layer, (q, k, v) in enumerate(cases):
        _compare(lab, "a real model", q, k, v, phi, layer=layer)


def _layers(lm, ids):
    """Rotated queries, keys and values of every layer."""
    cos, sin = models.rotation(lm, ids.shape[1])
    seen = []

    def attend(layer, q, k, v):
        seen.append((rotate(q, cos, sin), rotate(k, cos, sin), v))
        return grouped_query_reference(*seen[-1], causal=True)

    models.forward(lm, ids, attend)
    return seen


def _causal_scores(q, k, part=None):
    """Scores of all queries or of some, -inf where a later key is not seen."""
    part = torch.arange(q.shape[2], device=q.device) if part is None else part
    s = q[:, :, part] @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT * q.shape[3] ** -0.5
    return s.masked_fill(torch.arange(k.shape[2], device=q.device) > part[:, None], -torch.inf)


def _attention(lab, batch, heads, n, dtype, repeats):
    def make():
        return tuple(torch.randn(batch, heads, m, 128, device=lab.device).to(dtype) for m in (1, n, n))

    read = 2 * batch * heads * n * 128 * dtype.itemsize
    times = lab.time(repeats, make, read=read, synchronised=split_kv_attention,
                     unified=lambda q, k, v: unified_max_attention(q, k, v)[0])  # fmt: skip
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, n=n, repeat=i, attention_ms=ms)


def _products(lab, times, m, shape, first, dtype, repeats):
    def make():
        return tuple(torch.randn(size, device=lab.device).to(dtype) for size in ((m, shape[1]), shape))

    methods = {name: lambda x, w, name=name: flat_linear(x, w, name) for name in METHODS}
    found = lab.time(repeats, make, **methods)
    times[m, *shape] = found
    name = f"{shape[0]} x {shape[1]}"
    for method, samples in found.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, m=m, shape=name, case=f"{name}, M = {m}", first=first, repeat=i, gemm_ms=ms)


def _dataflow(lab, times):
    """A table and the best single method from the first half of the samples; what each takes in the other half."""
    half = {case: {name: median(ms[: len(ms) // 2]) for name, ms in found.items()} for case, found in times.items()}
    table, static = dataflow(half), best_static(half)
    for (m, n, k), found in times.items():
        for choice, name in (("static", static), ("table", table[m, n, k])):
            for i, ms in enumerate(found[name][len(found[name]) // 2 :]):
                lab.row(choice=choice, method=name, m=m, case=f"{n} x {k}, M = {m}", repeat=i, chosen_ms=ms)
