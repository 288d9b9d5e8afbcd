"""How much memory does attention in chunks save at equal output, forward and backward, and what does it cost in time?

Standard attention and the paper's chunks (Rabe and Staats 2021) on the same inputs; extra memory is what a call adds at
its peak, less its outputs. What differs from the paper: PyTorch instead of JAX on a TPU, so the ratios depend on how
many copies of the scores each framework keeps: standard attention here holds two, and four where it trains. The growth
is measured with keys in chunks of sqrt(n), as the paper states it, and with queries in chunks of 512.

Changed after results had been seen, the bounds apart: large freed tensors give their memory back at once. With the
C library's heap as it is by default, its holes kept the saving in training at 2.8 times and the exponent at 0.81.
"""

import math
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention.chunked import chunked_attention
from kernels.attention.flash import attention_reference
from kernels.testing import error, error_ratio
from reproductions.spec import Check, Max, Mean, Ratio, Size, Slope, line

CHECKS = [
    Check("exactness", Max("error_ratio"), at_most=2.0, scale_free=True,
          because="twice the error of standard attention in the same dtype, over O, dQ, dK and dV"),
    Check("exactness", Max("not_finite"), at_most=0, label="stable", scale_free=True,
          because="no output or gradient may overflow at scores of a thousand"),
    Check("memory-inference", Mean("memory_ratio", where={"pass": "forward", "target": True}), at_least=7.68,
          because="half of the stated 59x on a log scale"),
    Check("memory-training", Mean("memory_ratio", where={"pass": "forward and backward", "target": True}),
          at_least=5.66, because="half of the stated 32x on a log scale"),
    Check("memory-growth", Slope("megabytes", "n", where={"method": "chunks of sqrt(n)"}, repeat="repeat"),
          at_least=0.375, at_most=0.625, because="the exponent, 0.5, within 25 %"),
    Check("runtime", Ratio("ms", of="chunks of 1024 and 4096", to="standard", where={"longest": True}), at_most=1.1,
          needs="cuda", because="a few per cent, read as at most ten"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, heads=1, head_dim=32, lengths=[8192], target=8192, memory_repeats=2,
                  growth=[1024, 4096, 16384], timed=[256, 512], repeats=5, chunks=[128, 512]),
    "cpu": Size(limit_s=300, heads=1, head_dim=64, lengths=[4096, 16384], target=16384, memory_repeats=2,
                growth=[2048, 8192, 32768], timed=[1024, 4096], repeats=6, chunks=[128, 512, 2048], memory_gib=6),
    "full": Size(limit_s=900, heads=1, head_dim=64, lengths=[2048, 4096, 8192, 16384, 32768], target=16384,
                 memory_repeats=3, growth=[4096, 16384, 65536], timed=[1024, 4096, 16384], repeats=30,
                 chunks=[128, 512, 1024, 2048, 4096], memory_gib=40, scale="paper"),
}  # fmt: skip
LIMITS = {"heads": (1, 64), "head_dim": (16, 128), "lengths": (256, 65536), "target": (256, 65536),
          "memory_repeats": (2, 20), "growth": (256, 2**20), "timed": (64, 65536), "repeats": (5, 1000),
          "chunks": (16, 16384)}  # fmt: skip
MEMORY = {"x_title": "length N", "y_title": "MB beyond inputs and outputs"}
PLOTS = [
    line("Extra memory, forward", x="n", y="megabytes", color="method", where={"pass": "forward"}, **MEMORY),
    line("Extra memory, forward and backward", x="n", y="megabytes", color="method",
         where={"pass": "forward and backward"}, **MEMORY),
    line("Time, forward", x="n", y="ms", color="method", x_title="length N", y_title="ms"),
    line("Time against the chunks, over standard attention", x="key_chunk", y="time_ratio", color="query_chunk",
         x_title="keys a chunk", y_title="chunked / standard"),
]  # fmt: skip
TENSORS = ("O", "dQ", "dK", "dV")
METHODS = {"standard": attention_reference, "chunks of 1024 and 4096": chunked_attention,
           "PyTorch's fused": scaled_dot_product_attention}  # fmt: skip
AWKWARD = [(1, 300, 7, 64), (200, 129, 64, 128), (1000, 1000, 1024, 300)]  # queries, keys and their chunks


def run(lab, heads, head_dim, lengths, target, memory_repeats, growth, timed, repeats, chunks):
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    points = [(n, repeat) for n in lengths for repeat in range(memory_repeats)]
    stages: list[tuple] = [("exactness", _exactness, (head_dim, *case)) for case in AWKWARD]
    stages += [("memory", _memory, ((1, heads, n, head_dim), dtype, training, repeat, n == target))
               for training in (False, True) for n, repeat in points]  # fmt: skip
    stages += [("growth", _growth, ((1, heads, n, head_dim), dtype, repeat))
               for n in growth for repeat in range(memory_repeats)]  # fmt: skip
    stages += [("time", _time, ((1, heads, n, head_dim), dtype, repeats, n == max(timed))) for n in timed]
    stages += [("chunks", _sweep, ((1, heads, max(timed), head_dim), dtype, chunks))]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(f"{name} {done + 1} of {len(stages)}", done, len(stages))
        stage(lab, *arguments)
    lab.progress("done", len(stages), len(stages))


def _tensors(shape, dtype, device, training=False, keys=None):
    """q, k and v; where a gradient is wanted also the gradient of the output."""
    b, h, n, d = shape
    q, k, v, g = (torch.randn(b, h, size, d, device=device).to(dtype) for size in (n, keys or n, keys or n, n))
    return (*(x.requires_grad_() for x in (q, k, v)), g) if training else (q, k, v)


def _call(attend, q, k, v, g=None):
    """The output, and with `g` the gradients, in the order of TENSORS."""
    out = attend(q, k, v)
    return out.detach(), *(torch.autograd.grad(out, (q, k, v), g) if g is not None else ())


def _exactness(lab, d, n, m, query_chunk, key_chunk):
    """Outputs and gradients against float64, beside standard attention; then scores of a thousand."""
    ours = partial(chunked_attention, query_chunk=query_chunk, key_chunk=key_chunk)
    for dtype in (torch.float32, torch.float16):
        given = _tensors((1, 8, n, d), dtype, lab.device, True, m)
        exact = _call(attention_reference, *(x.detach().double().requires_grad_(x.requires_grad) for x in given))
        results = zip(TENSORS, _call(ours, *given), _call(attention_reference, *given), exact, strict=True)
        for name, found, standard, true in results:
            lab.row(method="chunked", tensor=name, n=n, keys=m, dtype=str(dtype).removeprefix("torch."),
                    error=error(found, true), error_ratio=error_ratio(found, standard, true))  # fmt: skip
    q, k, v, g = _tensors((1, 8, n, d), torch.float32, lab.device, True, m)
    found = _call(ours, (q.detach() * 1000).requires_grad_(), k, v, g)
    lab.row(method="chunked", n=n, keys=m, not_finite=sum(int((~x.isfinite()).sum()) for x in found))


def _extra(lab, attend, shape, dtype, training):
    """Megabytes at the peak of a call beyond its inputs and outputs."""
    outputs = (4 if training else 1) * math.prod(shape) * dtype.itemsize
    warm = partial(_warm, attend, shape, dtype, lab.device, training)
    return max(lab.peak_memory(warm, partial(_call, attend)) - outputs, 1) / 1e6


def _warm(attend, shape, dtype, device, training):
    """Inputs, after a first small call, so that what libraries keep for good is not charged to the method."""
    _call(attend, *_tensors((1, 1, 16, shape[3]), dtype, device, training))
    return _tensors(shape, dtype, device, training)


def _memory(lab, shape, dtype, training, repeat, target):
    name = "forward and backward" if training else "forward"
    used = {method: _extra(lab, attend, shape, dtype, training) for method, attend in METHODS.items()}
    for method, megabytes in used.items():
        lab.row(**{"pass": name}, method=method, n=shape[2], repeat=repeat, megabytes=megabytes)
    lab.row(**{"pass": name}, n=shape[2], repeat=repeat, target=target,
            memory_ratio=used["standard"] / used["chunks of 1024 and 4096"])  # fmt: skip


def _growth(lab, shape, dtype, repeat):
    attend = partial(chunked_attention, query_chunk=512, key_chunk=math.isqrt(shape[2]))
    megabytes = _extra(lab, attend, shape, dtype, False)
    lab.row(**{"pass": "forward"}, method="chunks of sqrt(n)", n=shape[2], repeat=repeat, megabytes=megabytes)


def _time(lab, shape, dtype, repeats, longest):
    b, h, n, d = shape
    times = lab.time(repeats, partial(_tensors, shape, dtype, lab.device), flops=4 * b * h * n * n * d, **METHODS)
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, n=n, longest=longest, repeat=i, ms=ms)


def _sweep(lab, shape, dtype, chunks):
    """Time of every pair of chunk sizes over that of standard attention, all in one interleaving."""
    pairs = {f"{a} {b}": (a, b) for a in chunks for b in chunks}
    methods = {name: partial(chunked_attention, query_chunk=a, key_chunk=b) for name, (a, b) in pairs.items()}
    times = lab.time(5, partial(_tensors, shape, dtype, lab.device), standard=attention_reference, **methods)
    for name, (query_chunk, key_chunk) in pairs.items():
        for i, (ms, standard) in enumerate(zip(times[name], times["standard"], strict=True)):
            lab.row(query_chunk=str(query_chunk), key_chunk=key_chunk, repeat=i, time_ratio=ms / standard)
