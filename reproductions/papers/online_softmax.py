"""Does one pass give the exact softmax normaliser, and do fewer passes and fused top-k save memory accesses and time?

Naive, safe and online softmax side by side, and softmax followed by top-k, fused and not (Milakov & Gimelshein 2018).
Accesses are counted by the running algorithms; times on a CPU are shown but say nothing of the paper's GPU figures.
"""

from functools import partial

import torch

from kernels.softmax import counted
from kernels.softmax.online import METHODS, softmax
from kernels.softmax.topk import softmax_topk
from reproductions.spec import Check, Max, Ratio, Size, bars, line

EXACT = "twice the error of PyTorch's own softmax in the same dtype"
COUNT = "a count, within 25 %"
SMALLEST = 1.0e-30  # smaller probabilities are denormal in float32 or underflow
ROUNDING = 1.0e-10  # of the counted algorithms, which run in float64

CHECKS = [
    Check("exactness", Max("error_ratio", {"method": "online"}), at_most=2.0, because=EXACT, scale_free=True),
    Check("exactness", Max("not_finite", {"method": "online"}), at_most=0, label="as safe", scale_free=True,
          because="no finite input may overflow"),
    Check("exactness", Max("counted_error"), at_most=ROUNDING, label="what is counted is right", scale_free=True,
          because="far above rounding in float64, far below any mistake"),
    Check("accesses-softmax", Ratio("accesses", of="online", to="safe", exact=True), at_least=0.5625, at_most=0.9375,
          because=COUNT, scale_free=True),
    Check("accesses-topk", Ratio("accesses", of="safe, then top-k", to="online, fused top-k", exact=True),
          at_least=3.75, at_most=6.25, because=COUNT, scale_free=True),
    Check("softmax-speedup", Ratio("ms", of="safe", to="online", best="columns"), at_least=1.14, needs="cuda",
          because="half of the stated 1.3x on a log scale, at our best length"),
    Check("topk-speedup", Ratio("topk_ms", of="unfused", to="fused", where={"kept": 5}, best="columns"),
          at_least=2.236, needs="cuda", because="half of the stated 5x on a log scale, at our best length"),
    Check("topk-k-decay", Ratio("gain_at_longest", of="K = 5", to="K = 30", by="kept_name"), above=1.0, needs="cuda",
          because="an effect: the gain at K = 5 is larger than at K = 30"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, rows=8, columns=[1000, 4096], kept=[5, 30], counted_columns=[63, 1000], repeats=5),
    "cpu": Size(limit_s=300, rows=64, columns=[1000, 4096, 16384, 65536, 262144], kept=[5, 10, 15, 30],
                counted_columns=[63, 1000, 4096], repeats=20),
    "full": Size(limit_s=900, rows=4000, columns=[1000, 4096, 16384, 25000, 65536, 262144], kept=[5, 10, 15, 30],
                 counted_columns=[63, 1000, 4096, 25000], repeats=100, scale="paper"),
}  # fmt: skip
LIMITS = {"rows": (1, 8192), "columns": (64, 1_000_000), "kept": (5, 30), "counted_columns": (32, 100_000),
          "repeats": (5, 1000)}  # fmt: skip
PLOTS = [
    bars("Slow-memory accesses an element", x="method", y="per_element", y_title="loads and stores an element"),
    line("Time of a softmax", x="columns", y="ms", color="method", x_title="columns V", y_title="ms"),
    line("Gain of fusing top-k", x="columns", y="gain", color="kept_name", x_title="columns V", log=("x",),
         y_title="time of safe, then top-k / fused"),
    bars("Error against float64", x="family", y="error", color="method", log=("y",), y_title="largest relative error"),
]  # fmt: skip


def run(lab, rows, columns, kept, counted_columns, repeats):
    steps = len(FAMILIES) + len(counted_columns) + len(columns) * (1 + len(kept))
    done = 0

    def progress(stage):
        nonlocal done
        lab.progress(stage, done, steps)
        done += 1

    for family in FAMILIES:
        progress(f"exactness: {family}")
        for length in (min(columns), max(columns)):
            _exactness(lab, family, length)
    for length in counted_columns:
        progress(f"counting: {length} columns")
        _count(lab, length)
    for length in columns:
        draw = partial(_draw, lab, rows, length)
        progress(f"softmax of {length} columns")
        methods = {m: lambda x, m=m: softmax(x, m) for m in METHODS}
        times = lab.time(repeats, draw, read=4 * rows * length, **methods)
        for method, samples in times.items():
            for i, ms in enumerate(samples):
                lab.row(method=method, columns=length, repeat=i, ms=ms)
        for k in kept:
            progress(f"top-{k} of {length} columns")
            _time_topk(lab, draw, length, k, repeats, last=length == max(columns))


def _draw(lab, rows, length):
    return (torch.randn(rows, length, device=lab.device),)


FAMILIES = {
    "N(0,1)": lambda n: torch.randn(4, n),
    "N(0,100)": lambda n: 100 * torch.randn(4, n),
    "rising": lambda n: torch.linspace(-50, 50, n).expand(4, n).contiguous(),
    "constant": lambda n: torch.full((4, n), 3.0),
    "one of 10000": lambda n: torch.randn(4, n).index_fill(1, torch.tensor([n // 2]), 1.0e4),
    "half -inf": lambda n: torch.randn(4, n).masked_fill(torch.arange(n) % 2 == 0, -torch.inf),
}


def _exactness(lab, family, length):
    """Each method in float32 against float64, beside PyTorch's own softmax."""
    x = FAMILIES[family](length).to(lab.device)
    exact = torch.softmax(x.double(), 1)
    own = max(_error(torch.softmax(x, 1), exact), torch.finfo(torch.float32).eps)
    for method in METHODS:
        y = softmax(x, method)
        not_finite = (~y.isfinite()).sum().item()
        lab.row(method=method, family=family, columns=length, not_finite=not_finite)
        if not not_finite:
            error = _error(y, exact)
            lab.row(method=method, family=family, columns=length, error=error, error_ratio=error / own)


def _error(y, exact):
    large = exact > SMALLEST
    return ((y.double() - exact).abs()[large] / exact[large]).max().item()


COUNTED = {"naive": counted.naive, "safe": counted.safe, "online": counted.online}
COUNTED_TOPK = {
    "safe, then top-k": counted.then_topk(counted.safe),
    "online, then top-k": counted.then_topk(counted.online),
    "online, fused top-k": counted.fused,
}


def _count(lab, length, k=5):
    """Loads and stores of the paper's algorithms on one vector, with the error of what they computed."""
    values = torch.randn(length, dtype=torch.float64)
    exact = torch.softmax(values, 0)
    for method in (*COUNTED, *COUNTED_TOPK):
        memory = counted.Memory(values.tolist())
        if method in COUNTED:
            COUNTED[method](memory)
            found, wanted = memory.result(), exact
        else:
            found, wanted = [value for value, _ in COUNTED_TOPK[method](memory, k)], exact.topk(k).values
        error = ((torch.tensor(found, dtype=torch.float64) - wanted).abs() / wanted).max().item()
        each = memory.accesses / length
        lab.row(method=method, columns=length, accesses=memory.accesses, per_element=each, counted_error=error)


def _time_topk(lab, draw, length, k, repeats, last):
    methods = {"unfused": lambda x: softmax_topk(x, k, fused=False), "fused": lambda x: softmax_topk(x, k)}
    times = lab.time(repeats, draw, read=draw()[0].nbytes, **methods)
    for i, (slow, quick) in enumerate(zip(times["unfused"], times["fused"], strict=True)):
        for method, ms in (("unfused", slow), ("fused", quick)):
            lab.row(method=method, columns=length, kept=k, repeat=i, topk_ms=ms)
        lab.row(columns=length, kept_name=f"K = {k}", repeat=i, gain=slow / quick)
        if last:
            lab.row(kept_name=f"K = {k}", repeat=i, gain_at_longest=slow / quick)
