"""Do fp16 Tensor Core products with residuals give float32's accuracy, faster, and what does staging in memory cost?

Ootomo and Yokota 2023, the extension of the WMMA API. What differs from the paper: Triton and Gluon kernels instead of
CUDA C++; matrix sums are truncated only where a Tensor Core is, so on a CPU the accuracy is that of the method's fp16
products alone. Bytes are read off the code that the compiler makes for sm80, the A100's: they need no GPU. Structured
matrices are Householder's and Givens'; "staged" goes through shared memory, as WMMA has it, in the same kernel.
"""

from functools import partial

import torch

from kernels.gemm.refined import refined_matmul
from kernels.gemm.structured import compiled, structured_matmul
from reproductions.spec import Check, Max, Ratio, Size, bars, line

# An A100 reads 128 bytes a clock and multiprocessor from shared memory, while its Tensor Cores do 2048 operations.
AVAILABLE = 128 / 2048
EFFECT = "an effect: {}"
CHECKS = [
    Check("smem-bound", Max("needed_over_available", where={"tile": 16}), above=1.0, scale_free=True,
          because=EFFECT.format("one tile needs more bytes an operation than an A100 has")),
    Check("sgemm-emulation", Ratio("ms", of="float32", to="emulated", best="n"), at_least=1.67, needs="cuda",
          because="half, on a log scale, of 54.2 TFLOP/s over the 19.5 of an A100's float32 units, at our best size"),
    Check("accuracy", Max("error_ratio"), at_most=2.0, because="the same level: at most twice float32's error"),
    Check("footprint", Max("share_staged"), at_most=0.0, scale_free=True, label="bytes of shared memory",
          because="removed: nothing of the matrix is staged"),
    Check("footprint", Ratio("structured_ms", of="staged", to="in registers", by="way", best="case"), above=1.0,
          needs="cuda", because=EFFECT.format("faster, at our best size"), label="time"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, side=64, exponents=[0, -12, -20], seeds=2, timed=[64], batch=2, structured=[16],
                  columns=64, repeats=5),
    "cpu": Size(limit_s=300, side=512, exponents=[0, -2, -4, -6, -8, -10, -12, -14, -16, -20], seeds=5,
                timed=[64, 128, 256], batch=8, structured=[16, 32, 64], columns=256, repeats=10),
    "full": Size(limit_s=900, side=2048, exponents=[0, -2, -4, -6, -8, -10, -12, -14, -16, -20], seeds=5,
                 timed=[64, 128, 256, 512, 1024, 2048], batch=256, structured=[16, 32, 64], columns=1024, repeats=20,
                 memory_gib=30, scale="paper"),
}  # fmt: skip
LIMITS = {"side": (16, 8192), "exponents": (-24, 10), "seeds": (1, 50), "timed": (16, 8192), "batch": (1, 4096),
          "structured": [16, 32, 64], "columns": (1, 65536), "repeats": (5, 1000)}  # fmt: skip
PLOTS = [
    line("Error against the size of the numbers", x="exponent", y="relative_error", color="method", log=("y",),
         x_title="entries in [-1, 1] times 2 to the power of", y_title="relative error (Frobenius)"),
    bars("Bytes from shared memory an operation, sm80", x="tile", y="bytes_per_flop", color="kind",
         x_title="rows and columns of a warp's tile", y_title="bytes"),
    bars("Shared memory of a program, sm80", x="case", y="shared", color="way", x_title="matrix", y_title="bytes"),
    line("Rate of batched products", x="n", y="tflops", color="method", x_title="size N", y_title="TFLOP/s (2 N^3)"),
]  # fmt: skip
WITHIN = -12  # powers of 2 down to which the numbers' residuals are in the range of float16
WAYS = {"in registers": 0, "staged": 1}
EMULATED = partial(refined_matmul, products=3, scale=2048.0, outside=True)


def run(lab, side, exponents, seeds, timed, batch, structured, columns, repeats):
    torch.set_float32_matmul_precision("highest")  # float32 means float32
    stages: list[tuple] = [("bytes", _bytes, (structured,))]
    stages += [("accuracy", _accuracy, (side, e, seed)) for e in (*exponents, None) for seed in range(seeds)]
    stages += [(f"time, N = {n}", _time, (n, batch, repeats)) for n in timed]
    if lab.device == "cuda":  # in PyTorch operations there is no register to build a matrix in
        stages += [("structured matrices", _structured, (n, 16 * batch, columns, rotates, repeats))
                   for n in structured for rotates in (False, True)]  # fmt: skip
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(lab, *arguments)
    lab.progress("done", len(stages), len(stages))


def _bytes(lab, structured):
    """Of compiled code: a warp's product of square tiles, both staged; then the structured matrices, both ways."""
    for n in (16, 32, 64):
        found = compiled(n, rotates=False, stage=2, columns=n, warps=1)
        needed = found["read"] / found["flops"]
        lab.row(tile=n, kind="needed", bytes_per_flop=needed, needed_over_available=needed / AVAILABLE)
        lab.row(tile=n, kind="available, A100", bytes_per_flop=AVAILABLE)
    for n in structured:
        for rotates in (False, True):
            found = {way: compiled(n, rotates, stage)["shared"] for way, stage in WAYS.items()}
            for way, shared in found.items():
                lab.row(case=_case(n, rotates), way=way, shared=shared)
            lab.row(case=_case(n, rotates), share_staged=found["in registers"] / found["staged"])


def _case(n, rotates):
    return f"{'Givens' if rotates else 'Householder'}, {n}"


def _accuracy(lab, n, exponent, seed):
    """Against float64; without an exponent every number has one of its own, as far as they are checked."""
    make = torch.Generator().manual_seed(1000 * lab.seed + seed)
    a, b = (2 * torch.rand(n, n, generator=make) - 1 for _ in range(2))
    if exponent is None:
        a, b = (torch.ldexp(x, torch.randint(WITHIN, 1, x.shape, generator=make)) for x in (a, b))
    else:
        a, b = a * 2.0**exponent, b * 2.0**exponent
    a, b = a.to(lab.device), b.to(lab.device)
    exact = a.double() @ b.double()
    found = {"float32": a @ b, "fp16": refined_matmul(a, b, 1), "residuals not scaled": refined_matmul(a, b, 3),
             "emulated": EMULATED(a, b)}  # fmt: skip
    off = {method: ((x.double() - exact).norm() / exact.norm()).item() for method, x in found.items()}
    for method, relative in off.items():
        row = {"method": method, "seed": seed, "relative_error": relative}
        lab.row(**row, **({"mixed": True} if exponent is None else {"exponent": exponent}))
    if exponent is None or exponent >= WITHIN:
        lab.row(method="emulated", seed=seed, error_ratio=off["emulated"] / off["float32"])


def _time(lab, n, batch, repeats):
    def make():
        return tuple(torch.rand(batch, n, n, device=lab.device) * 2 - 1 for _ in range(2))

    methods = {"float32": torch.matmul, "emulated": EMULATED}
    for method, samples in lab.time(repeats, make, **methods).items():  # no roof: that of float32 is to be exceeded
        for i, ms in enumerate(samples):
            lab.row(method=method, n=n, repeat=i, ms=ms, tflops=2e-9 * batch * n**3 / ms)


def _structured(lab, n, batch, columns, rotates, repeats):
    def make():
        x = torch.randn(batch, n, columns, device=lab.device).half()
        if not rotates:
            return x, torch.nn.functional.normalize(torch.randn(batch, n, device=lab.device)), None
        places = torch.rand(batch, n, device=lab.device).topk(2).indices.int()
        return x, 6.28 * torch.rand(batch, device=lab.device), places

    methods = {way: partial(structured_matmul, stage=stage) for way, stage in WAYS.items()}
    read = 2 * batch * n * columns if lab.device == "cuda" else 0  # a CPU's roof in float16 takes minutes to measure
    for way, samples in lab.time(repeats, make, read=read, **methods).items():
        for i, ms in enumerate(samples):
            lab.row(case=_case(n, rotates), way=way, repeat=i, structured_ms=ms)
