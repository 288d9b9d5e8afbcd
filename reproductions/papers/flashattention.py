"""Is tiled attention exact, linear in memory, sparing of slow memory, and faster than standard attention?

Standard attention, the bundled tiles and PyTorch's own fused attention side by side, forward and backward (Dao et al.
2022). Memory accesses are counted by the paper's algorithms while they run. A CPU's times are shown and judge nothing.
"""

import math
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels import traffic
from kernels.attention.flash import attention_reference, flash_attention
from kernels.testing import error, error_ratio
from kernels.traffic import SlowMemory
from reproductions.spec import Check, Max, Mean, Ratio, Size, Slope, Untested, line

THEOREM = "the exponent within 25 %, fitted where there are at least 16 blocks of keys"
GPU_SPEED = "half of the stated {} on a log scale"
TOKENS = 64 * 1024  # at most, a batch: 64 sequences of 1024
A100_ELEMENTS = 96 * 1024  # 192 KB of on-chip memory in 16 bits
SHORT = [128, 256, 512, 1024, 2048]

CHECKS = [
    Check("exactness", Max("error_ratio"), at_most=2.0, scale_free=True,
          because="twice the error of standard attention in the same dtype, over O, dQ, dK and dV"),
    Check("exactness", Max("counted_error"), at_most=1.0e-10, label="what is counted is right", scale_free=True,
          because="far above rounding in float64, far below any mistake"),
    Check("io-complexity", Slope("accesses", "n", where={"method": "flash", "sweep": "length"}), at_least=1.5,
          at_most=2.5, label="in N", because=THEOREM, scale_free=True),
    Check("io-complexity", Slope("accesses", "fast", where={"method": "flash", "sweep": "fast memory"}), at_least=-1.25,
          at_most=-0.75, label="in M", because=THEOREM, scale_free=True),
    Check("io-complexity", Ratio("accesses", of="standard", to="flash", where={"sweep": "GPT-2 medium"}, exact=True),
          above=1.0, label="fewer than standard", because="an effect: fewer accesses at N = 1024, d = 64",
          scale_free=True),
    Untested("hbm-traffic", "needs a GPU's hardware counters: the figure is what they read for attention with mask and "
             "dropout, which the algorithms counted for io-complexity leave out", needs="cuda"),
    Check("runtime", Ratio("ms", of="standard", to="flash", where={"n": 1024}), at_least=2.39, needs="cuda",
          because=GPU_SPEED.format("5.7x")),
    Check("attention-speed", Ratio("ms", of="standard", to="flash", where={"n": SHORT}, best="n"), at_least=1.73,
          needs="cuda", because=GPU_SPEED.format("3x") + ", at our best length up to 2K"),
    Check("memory", Slope("megabytes", "n", where={"method": "flash"}, repeat="repeat"), at_most=1.5,
          label="grows linearly", because="half-way between linear and quadratic"),
    Check("memory", Mean("memory_ratio", where={"n": 4096}), at_least=4.52, label="standard / flash at 4096",
          because="half of the stated 20.4x on a log scale"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=120, batch=1, heads=2, head_dim=64, lengths=[128, 1024], repeats=5,
                  memory_lengths=[1024, 2048, 4096], memory_repeats=2, counted_lengths=[256, 512, 1024],
                  counted_dim=16),
    "cpu": Size(limit_s=300, batch=1, heads=4, head_dim=64, lengths=[256, 512, 1024, 2048], repeats=6,
                memory_lengths=[1024, 2048, 4096], memory_repeats=4, counted_lengths=[1024, 2048, 4096],
                counted_dim=64),
    "full": Size(limit_s=900, batch=64, heads=16, head_dim=64, lengths=[128, 256, 512, 1024, 2048, 4096], repeats=30,
                 memory_lengths=[512, 1024, 2048, 4096], memory_repeats=3, counted_lengths=[1024, 2048, 4096, 8192],
                 counted_dim=64, scale="paper"),
}  # fmt: skip
LIMITS = {"batch": (1, 64), "heads": (1, 32), "head_dim": (16, 128), "lengths": (1, 16384), "repeats": (5, 1000),
          "memory_lengths": (256, 8192), "memory_repeats": (2, 20), "counted_lengths": (64, 16384),
          "counted_dim": (4, 128)}  # fmt: skip
PLOTS = [
    line("Time, forward and backward", x="n", y="ms", color="method", x_title="length N", y_title="ms"),
    line("Memory at the peak, forward and backward", x="n", y="megabytes", color="method", x_title="length N",
         y_title="MB"),
    line("Slow-memory accesses against length", x="n", y="accesses", color="method", where={"sweep": "length"},
         x_title="length N", y_title="elements moved"),
    line("Slow-memory accesses against fast memory", x="fast", y="accesses", color="method",
         where={"sweep": "fast memory"}, x_title="fast memory M, elements", y_title="elements moved"),
]  # fmt: skip

TENSORS = ("O", "dQ", "dK", "dV")
METHODS = {"standard": attention_reference, "flash": flash_attention, "PyTorch's fused": scaled_dot_product_attention}


AWKWARD = [(128, 128), (200, 200), (1000, 1000), (1, 300), (300, 129)]


def run(lab, batch, heads, head_dim, lengths, repeats, memory_lengths, memory_repeats, counted_lengths, counted_dim):
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    cases = [(head_dim, n, m, causal) for n, m in AWKWARD for causal in (False, True)]
    stages: list[tuple] = [("exactness", _exactness, case) for case in cases]
    fast = min(counted_lengths) * counted_dim // 4  # 16 blocks of keys at the shortest length
    stages += [("counting accesses", _count, ("length", n, counted_dim, fast)) for n in counted_lengths]
    longest = max(counted_lengths)
    sizes = [longest * counted_dim // part for part in (16, 8, 4)]
    stages += [("counting accesses", _count, ("fast memory", longest, counted_dim, fast)) for fast in sizes]
    stages += [("counting accesses", _count, ("GPT-2 medium", 1024, 64, A100_ELEMENTS))]
    points = [(n, repeat) for n in memory_lengths for repeat in range(memory_repeats)]
    stages += [("memory", _memory, ((1, heads, n, head_dim), dtype, repeat)) for n, repeat in points]
    stages += [("time", _time, ((min(batch, TOKENS // n), heads, n, head_dim), dtype, repeats)) for n in lengths]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(f"{name} {done + 1} of {len(stages)}", done, len(stages))
        stage(lab, *arguments)
    lab.progress("done", len(stages), len(stages))


def _tensors(shape, dtype, device, keys=None):
    """q, k and v that want gradients, and the gradient of the output."""
    b, h, n, d = shape
    sizes = (n, keys or n, keys or n, n)
    q, k, v, g = (torch.randn(b, h, size, d, device=device).to(dtype) for size in sizes)
    return *(x.requires_grad_() for x in (q, k, v)), g


def _step(attend, q, k, v, g):
    """Output and gradients, in the order of TENSORS."""
    out = attend(q, k, v)
    return out.detach(), *torch.autograd.grad(out, (q, k, v), g.detach())


def _exactness(lab, d, n, m, causal):
    """Output and gradients of the tiles in every dtype, against float64, beside standard attention."""
    for dtype in (torch.float32, torch.float16):
        q, k, v, g = _tensors((1, 4, n, d), dtype, lab.device, m)
        ours = _step(partial(flash_attention, causal=causal), q, k, v, g)
        peer = _step(partial(attention_reference, causal=causal), q, k, v, g)
        wide = (x.detach().double().requires_grad_() for x in (q, k, v, g))
        exact = _step(partial(attention_reference, causal=causal), *wide)
        for name, found, standard, true in zip(TENSORS, ours, peer, exact, strict=True):
            lab.row(method="flash", tensor=name, n=n, keys=m, causal=causal, dtype=str(dtype).removeprefix("torch."),
                    error=error(found, true), error_ratio=error_ratio(found, standard, true))  # fmt: skip


ALGORITHMS = {
    "standard": (traffic.standard_forward, traffic.standard_backward),
    "flash": (traffic.flash_forward, traffic.flash_backward),
}


def _count(lab, sweep, n, d, fast):
    """Elements that each algorithm moves, forward and backward, with the error of what it computed. One head."""
    q, k, v, g = _tensors((1, 1, n, d), torch.float64, "cpu")
    exact = _step(attention_reference, q, k, v, g)
    for method, algorithms in ALGORITHMS.items():
        memory = SlowMemory(Q=q.detach()[0, 0], K=k.detach()[0, 0], V=v.detach()[0, 0], dO=g.detach()[0, 0])
        for algorithm in algorithms:
            algorithm(memory, fast)
        wrong = max(error(memory.result(name), true[0, 0]) for name, true in zip(TENSORS, exact, strict=True))
        lab.row(sweep=sweep, method=method, n=n, d=d, fast=fast, accesses=memory.accesses, counted_error=wrong)


def _memory(lab, shape, dtype, repeat):
    """Inputs and gradients included, as in the paper's Table 21."""
    used = {}
    for method in ("standard", "flash"):
        extra = lab.peak_memory(partial(_warm, method, shape, dtype, lab.device), partial(_step, METHODS[method]))
        used[method] = (extra + 4 * math.prod(shape) * dtype.itemsize) / 1e6
        lab.row(method=method, n=shape[2], repeat=repeat, megabytes=used[method])
    lab.row(n=shape[2], repeat=repeat, memory_ratio=used["standard"] / used["flash"])


def _warm(method, shape, dtype, device):
    """Inputs, after a first small call, so that what libraries keep for good is not charged to the method."""
    _step(METHODS[method], *_tensors((1, 1, 16, shape[3]), dtype, device))
    return _tensors(shape, dtype, device)


def _time(lab, shape, dtype, repeats):
    """Forward and backward together: 2 and 4 products of N x N x D a head, at the least."""
    b, h, n, d = shape
    steps = {method: partial(_step, attend) for method, attend in METHODS.items()}
    times = lab.time(repeats, partial(_tensors, shape, dtype, lab.device), flops=12 * b * h * n * n * d, **steps)
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, n=shape[2], repeat=i, ms=ms)
