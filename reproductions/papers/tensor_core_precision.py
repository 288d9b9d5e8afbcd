"""How much precision do fp16 inputs with fp32 sums lose, and how much do products of the residuals give back?

Matrix products with inputs rounded to fp16 (Markidis et al. 2018), with one residual refined (2 products) or both (4,
or 3 without the product of the residuals), beside fp32, as the largest error against float64. What differs from the
paper: the residuals are split and multiplied in one kernel in place of separate library calls; on a CPU the products of
fp16 values, which fp32 holds exactly, are added up in fp32 with rounding to nearest, where Tensor Cores truncate: there
the refined error can be larger. Rates are of the GPU at hand, not of a V100; its fp32 is kept from using TF32.
"""

from functools import partial

import torch

from kernels.gemm.refined import refined_matmul
from kernels.gemm.small import small_matmul
from reproductions.spec import Check, Mean, Ratio, Size, Slope, Untested, line

HERE = {"range": "[-1, 1]"}


def _error(of: str, to: str) -> Ratio:
    return Ratio("max_error", of=of, to=to, by="refined", pair="case", where={**HERE, "largest": True})


CHECKS = [
    Check("throughput", Ratio("ms", of="fp32", to="fp16, library", best="n"), at_least=2.65, needs="cuda",
          because="half of the stated 7x on a log scale", label="the library's product"),
    Check("throughput", Ratio("ms", of="fp32", to="fp16, our kernel", best="n"), at_least=2.65, needs="cuda",
          because="half of the stated 7x on a log scale", label="our kernel"),
    Untested("vs-half", "a GPU's library uses its Tensor Cores for every fp16 product; PyTorch has no switch to the "
             "older units", needs="cuda"),
    Check("batched", Mean("batched_tflops", where={"method": "our kernel", "largest": True}), at_least=4.0,
          needs="cuda", because="the stated rate of a V100, which a newer GPU must reach"),
    Check("refinement", _error("none", "A"), above=1.0, label="A helps",
          because="an effect: one residual leaves a smaller error than none"),
    Check("refinement", _error("none", "A and B"), at_least=2.0, label="A and B help considerably",
          because="considerably: at least half of the error goes"),
    Check("refinement", _error("A", "A and B"), at_least=2.0, label="both far more than one",
          because="far more: at most half of the error that one residual leaves"),
    Check("error-growth", Slope("max_error", "n", where={**HERE, "refined": "none"}, repeat="case"), above=0.0,
          because="an effect: the error grows with N", label="with the size"),
    Check("error-growth", Ratio("max_error", of="[-16, 16]", to="[-1, 1]", by="range", pair="case",
                                where={"refined": "none", "largest": True}), above=1.0,
          because="an effect: the error grows with the range", label="with the range"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, sizes=[32, 64, 128], cases=6, timed=[256], batches=[4096], repeats=5),
    "cpu": Size(limit_s=300, sizes=[256, 512, 1024, 2048], cases=6, timed=[256], batches=[4096], repeats=5),
    "full": Size(limit_s=900, sizes=[512, 1024, 2048, 4096, 8192], cases=10,
                 timed=[512, 1024, 2048, 4096, 8192, 16384], batches=[2**12, 2**16, 2**20], repeats=30, memory_gib=20,
                 scale="paper"),
}  # fmt: skip
LIMITS = {"sizes": (16, 16384), "cases": (5, 100), "timed": (64, 16384), "batches": (1, 2**22), "repeats": (5, 1000)}
OVER_N: dict = {"x": "n", "x_title": "matrix size N"}
PLOTS = [
    line("Largest error against float64, entries in [-1, 1]", y="max_error", color="refined", where=HERE, **OVER_N,
         y_title="max |C - exact|"),
    line("Relative error (Frobenius)", y="relative_error", color="refined", where=HERE, **OVER_N, y_title="relative"),
    line("Largest error by range, not refined", y="max_error", color="range", where={"refined": "none"}, **OVER_N,
         y_title="max |C - exact|"),
    line("Rate on a GPU", y="tflops", color="method", **OVER_N, y_title="TFLOP/s of the one product asked for"),
]  # fmt: skip
RANGES = {"[-1, 1]": 1.0, "[-16, 16]": 16.0}
PRODUCTS = {"none": 1, "A": 2, "A and B, 3 products": 3, "A and B": 4}


def run(lab, sizes, cases, timed, batches, repeats):
    torch.set_float32_matmul_precision("highest")  # fp32 is fp32, not TF32
    stages: list[tuple] = [(f"errors at {n}", _errors, (lab, n, case, n == max(sizes)))
                           for n in sizes for case in range(cases)]  # fmt: skip
    if lab.device == "cuda":  # a CPU has no Tensor Cores to time
        stages += [(f"time at {n}", _time, (lab, n, repeats)) for n in timed]
        stages += [(f"batch of {count}", _batched, (lab, count, repeats, count == max(batches))) for count in batches]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _errors(lab, n, case, largest):
    draw = torch.Generator().manual_seed(1000 * lab.seed + case)
    methods = {name: partial(refined_matmul, products=products) for name, products in PRODUCTS.items()}
    for span, size in RANGES.items():
        a, b = ((torch.rand(n, n, generator=draw) * 2 * size - size).to(lab.device) for _ in range(2))
        exact = a.double() @ b.double()
        for name, call in (methods | {"fp32": torch.matmul}).items():
            error = call(a, b).double() - exact
            lab.row(refined=name, range=span, n=n, case=case, largest=largest, products=PRODUCTS.get(name),
                    max_error=error.abs().max().item(),
                    relative_error=(error.norm() / exact.norm()).item())  # fmt: skip


def _least(lab, flops, read=0.0):
    """What a call must do at least, held to the roof of a GPU; the fp16 of a CPU has none worth measuring."""
    return {"flops": flops, "read": read} if lab.device == "cuda" else {}


def _time(lab, n, repeats):
    """fp32 beside fp16 with fp32 sums, and beside the refined products of the fp32 matrices."""

    def make():
        a, b = (torch.rand(n, n, device=lab.device) * 2 - 1 for _ in range(2))
        return a.half(), b.half(), a, b

    methods = {
        "fp32": lambda a16, b16, a, b: a @ b,
        "fp16, library": lambda a16, b16, a, b: a16 @ b16,
        "fp16, our kernel": lambda a16, b16, a, b: refined_matmul(a16, b16, 1),
        "refined, 2 products": lambda a16, b16, a, b: refined_matmul(a, b, 2),
        "refined, 4 products": lambda a16, b16, a, b: refined_matmul(a, b, 4),
    }
    for method, samples in lab.time(repeats, make, **_least(lab, 2 * n**3), **methods).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, n=n, repeat=i, ms=ms, tflops=2 * n**3 / ms / 1e9)


def _batched(lab, count, repeats, largest):
    def make():
        return tuple(torch.randn(count, 16, 16, device=lab.device).half() for _ in range(2))

    flops = 2 * count * 16**3
    methods = {"library": torch.bmm, "our kernel": small_matmul}
    for method, samples in lab.time(repeats, make, **_least(lab, flops, 4 * count * 16**2), **methods).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, count=count, largest=largest, repeat=i, batched_tflops=flops / ms / 1e9)
