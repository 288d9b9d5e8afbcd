"""Do the surrogate recurrences give identical attention in 3, 2 and 1 passes, for every tile size and precision?

The derivation of Ye's class notes (2023), run step by step over a stream that counts how often each logit is asked
for. The notes derive, in exact arithmetic, and measure nothing, so nothing of scale can differ; here that is float64,
and what smaller numbers lose along a recurrence is plotted. A softmax written in one pass is shown to be wrong, which
is an example of what the notes claim and no proof. The speed of the kernel that results is FlashAttention's to show.

Changed after a result had been seen: the end was first checked in float32 against twice plain PyTorch's error, and
erred 3.5 times as much, one rounding a key; in exact arithmetic, of which the notes speak, float64 is the nearer.
"""

import math

import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention import passes
from kernels.attention.passes import Stream, passes_reference
from kernels.cache.streaming import rotate
from kernels.testing import error
from reproductions.lab import models
from reproductions.spec import Check, Max, Ratio, Size, line

COUNT = "a count, within 25 %"
ROUNDING = "far above rounding in float64, far below any mistake"


def _passes(method: str, stated: int) -> Check:
    return Check("passes", Ratio("requests", of=method, to="logits", exact=True), at_least=0.75 * stated,
                 at_most=1.25 * stated, because=COUNT, label=method, scale_free=True)  # fmt: skip


CHECKS = [
    _passes("three passes", 3),
    _passes("two passes", 2),
    _passes("one pass", 1),
    _passes("tiled", 1),
    Check("surrogate-final", Max("final_error"), at_most=1.0e-12, scale_free=True, label="o' at the end",
          because=ROUNDING),
    Check("surrogate-final", Max("normaliser_error"), at_most=1.0e-12, scale_free=True, label="d' at the end",
          because=ROUNDING),
    Check("surrogate-final", Max("prefix_error"), at_most=1.0e-12, scale_free=True, label="o' on the way",
          because="o' is the attention over the keys so far; " + ROUNDING),
    Check("tile-invariance", Max("tile_error"), at_most=1.0e-12, scale_free=True, because=ROUNDING),
    Check("softmax-not-one-pass", Ratio("softmax_requests", of="two passes", to="logits", exact=True), at_least=1.5,
          at_most=2.5, because=COUNT, label="passes of a right softmax", scale_free=True),
    Check("softmax-not-one-pass", Ratio("softmax_error", of="written at once", to="two passes", pair="case"),
          above=1.0, label="written in one pass", because="an effect: outputs written at once are further off"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, model=models.DEFAULT, lengths=[1, 2, 7, 64, 200], head_dim=16, rows=64, tiles=[1, 3, 16],
                  tokens=64, layers=[3]),
    "cpu": Size(limit_s=300, model=models.DEFAULT, lengths=[1, 2, 7, 64, 1000, 4096], head_dim=64, rows=64,
                tiles=[1, 3, 16, 128, 4096], tokens=1024, layers=[0, 10, 20, 29]),
    "full": Size(limit_s=900, model=models.DEFAULT, lengths=[1, 2, 7, 64, 1000, 4096, 16384], head_dim=128, rows=256,
                 tiles=[1, 3, 16, 128, 4096], tokens=4096, layers=[0, 10, 20, 29], scale="paper"),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "lengths": (1, 65536), "head_dim": (1, 256),
          "rows": (8, 4096), "tiles": (1, 65536), "tokens": (8, 8192), "layers": (0, 200)}  # fmt: skip
PLOTS = [
    line("One row on the way", x="key", y="relative", color="what", log=("x",), x_title="keys seen",
         y_title="relative to the end"),
    line("Error against length", x="n", y="error", color="computed", x_title="keys N", y_title="relative error"),
    line("Error of a softmax", x="n", y="softmax_error", color="method", x_title="keys N", y_title="relative error"),
]  # fmt: skip
ALGORITHMS = {"three passes": "three_passes", "two passes": "two_passes", "one pass": "one_pass"}
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def run(lab, model, lengths, head_dim, rows, tiles, tokens, layers):
    stages: list[tuple] = []
    for n in lengths:
        for family in FAMILIES:
            stages += [(f"{family}, {n} keys", _recurrences, (lab, family, n, rows, head_dim, tiles))]
        stages += [(f"precision, {n} keys", _precision, (lab, n, rows, head_dim))]
    stages += [("one row", _row, (lab, max(lengths), head_dim)), ("a real model", _real, (lab, model, tokens, layers))]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _masked(x):
    """Half of the logits hidden, the first keys and the whole last row among them."""
    hidden = torch.rand_like(x) < 0.5
    hidden[:, : max(1, x.shape[1] // 3)] = True
    hidden[-1] = True
    return x.masked_fill(hidden, -torch.inf)


def _outlier(x):
    x[:, len(x[0]) // 2] += 1.0e4
    return x


FAMILIES = {
    "normal": lambda x: x,
    "wide": lambda x: 20 * x,
    "increasing": lambda x: (5 * x).sort(-1).values,
    "decreasing": lambda x: (5 * x).sort(-1, descending=True).values,
    "an outlier": _outlier,
    "masked": _masked,
}


def _recurrences(lab, family, n, rows, d, tiles):
    """All algorithms on the same logits: what they ask for, what they give, and what they hold on the way."""
    x = FAMILIES[family](torch.randn(rows, n, dtype=torch.float64, device=lab.device))
    v = torch.randn(n, d, dtype=torch.float64, device=lab.device)
    exact = passes_reference(x, v)
    lab.row(method="logits", requests=x.numel(), softmax_requests=x.numel())
    for method, name in ALGORITHMS.items():
        stream = Stream(x, v)
        found = getattr(passes, name)(stream)
        lab.row(method=method, family=family, n=n, requests=stream.requests, final_error=error(found, exact))
    _on_the_way(lab, family, x, v)
    for tile in sorted({min(tile, n) for tile in [*tiles, n]}):
        stream = Stream(x, v)
        found = passes.tiled(stream, tile)
        counted = {"requests": stream.requests} if tile == min(tiles[-1], n) else {}
        lab.row(method="tiled", family=family, n=n, tile=tile, tile_error=error(found, exact), **counted)
    _softmax(lab, family, x, v)


def _on_the_way(lab, family, x, v):
    """o' beside the attention over each prefix, d' at the end beside the normaliser itself."""
    worst, last = 0.0, torch.zeros(())
    spots = {0, 1, len(v) // 2, len(v) - 1}

    def look(i, m, d, o):
        nonlocal worst, last
        last = d
        if i in spots:
            worst = max(worst, error(o, passes_reference(x[:, : i + 1], v[: i + 1])))

    passes.one_pass(Stream(x, v), look)
    top = x.amax(-1, keepdim=True)
    whole = torch.exp(x - top.masked_fill(top == -torch.inf, 0)).sum(-1, keepdim=True)
    lab.row(method="one pass", family=family, n=len(v), prefix_error=worst, normaliser_error=error(last, whole))


def _softmax(lab, family, x, v):
    exact = x.softmax(-1).nan_to_num(0)
    for method, algorithm in (("two passes", passes.softmax_two_passes),
                              ("written at once", passes.softmax_written_at_once)):  # fmt: skip
        stream = Stream(x.float(), v.float())
        off = max(error(algorithm(stream), exact), 1e-12)
        lab.row(method=method, case=f"{family} {len(v)}", n=len(v), softmax_error=off, softmax_requests=stream.requests)


def _precision(lab, n, rows, d):
    """Everything in one dtype, the state of a row too."""
    x, v = (torch.randn(size, dtype=torch.float64, device=lab.device) for size in ((rows, n), (n, d)))
    for dtype in DTYPES:
        given = x.to(dtype), v.to(dtype)
        exact = passes_reference(*(one.double() for one in given))
        name = str(dtype).removeprefix("torch.")
        for tile in {1, min(64, n)}:
            off = max(error(passes.tiled(Stream(*given), tile), exact), 1e-17)
            lab.row(n=n, computed=f"{name}, tile {tile}" if tile in (1, 64) else name, error=off)


def _row(lab, n, d):
    """m, d' and o' of one row, relative to their values at the end."""
    x, v = torch.randn(1, n, dtype=torch.float64), torch.randn(n, d, dtype=torch.float64)
    seen: list[tuple] = []
    passes.one_pass(Stream(x, v), lambda i, m, d, o: seen.append((m.item(), d.item(), o)))
    spots = sorted({min(n - 1, round(math.exp(k / 8))) for k in range(round(8 * math.log(n)) + 1)})
    for i in spots:
        m, total, o = seen[i]
        for what, value in (("m", m / seen[-1][0]), ("d'", total / seen[-1][1]),
                            ("|o' - o|", ((o - seen[-1][2]).norm() / seen[-1][2].norm()).item())):  # fmt: skip
            lab.row(key=i + 1, what=what, relative=value)


def _real(lab, model, tokens, layers):
    """Heads of a real model, the last rows of each, causal: tiles against the model's own attention."""
    lm, tokenizer = lab.model(model)
    ids = tokenizer(lab.text()[: 16 * tokens], return_tensors="pt").input_ids[:, :tokens].to(lab.device)
    cos, sin = models.rotation(lm, ids.shape[1])

    def attend(layer, q, k, v):
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        own = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        if layer in layers:
            logits = q[0, 0].double() @ k[0, 0].double().mT * q.shape[-1] ** -0.5
            ahead = torch.ones_like(logits, dtype=torch.bool).triu(1)
            found = passes.tiled(Stream(logits.masked_fill(ahead, -torch.inf), v[0, 0].double()), 128)
            exact = scaled_dot_product_attention(q[0, 0].double(), k[0, 0].double(), v[0, 0].double(), is_causal=True)
            lab.row(method="tiled", family="real", layer=layer, n=len(logits), final_error=error(found, exact))
        return own

    models.forward(lm, ids, attend)
