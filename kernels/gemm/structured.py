"""Structured matrices built in the registers of a Tensor Core product (Ootomo and Yokota 2023, arXiv:2308.15152).

B matrices of N x N (N = 16, 32 or 64), each given by a few numbers, times x (B, N, M) in float16 -> (B, N, M) float32.
Householder: I - 2 v v^T of v (B, N). Givens: the identity but for the cosine and the sine of an angle at two places.
WMMA hides which lane holds which element, so a matrix must be written to shared memory to be loaded as a fragment. With
the map from (row, column) to (lane, register) known, each lane computes its own elements, and none is staged. Gluon,
Triton's language with layouts, states that map: `DotOperandLayout`. `stage` says which operands take the long way: 0
none, 1 the matrix (as with WMMA), 2 x too. Gluon has no interpreter: the kernel runs on a GPU only.
"""

import re

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

SIZES = (16, 32, 64)
COLUMNS, WARPS = 64, 4


def householder(v: Tensor) -> Tensor:
    """I - 2 v v^T: (B, N) -> (B, N, N), in the dtype of v."""
    return torch.eye(v.shape[1], device=v.device, dtype=v.dtype) - 2 * v[:, :, None] * v[:, None, :]


def givens(angle: Tensor, places: Tensor, n: int) -> Tensor:
    """The rotation by `angle` (B,) in the plane of `places` (B, 2): (B, n, n) with [i, j] = -sin, [j, i] = sin."""
    out = torch.eye(n, device=angle.device, dtype=angle.dtype).repeat(len(angle), 1, 1)
    batch, (i, j) = torch.arange(len(angle), device=angle.device), places.long().T
    out[batch, i, i] = out[batch, j, j] = torch.cos(angle)
    out[batch, i, j], out[batch, j, i] = -torch.sin(angle), torch.sin(angle)
    return out


@gluon.jit
def _structured(
    numbers, places, x, out, M,
    N: gl.constexpr, BM: gl.constexpr, GIVENS: gl.constexpr, STAGE: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """One program: one matrix, built where the product wants it, times BM columns of its x."""
    wide: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [1, WARPS], [16, 8])
    plain: gl.constexpr = gl.BlockedLayout([1, 8], [16, 2], [WARPS, 1], [1, 0])
    left: gl.constexpr = gl.DotOperandLayout(0, wide, 2)
    right: gl.constexpr = gl.DotOperandLayout(1, wide, 2)
    built: gl.constexpr = plain if STAGE >= 1 else left
    loaded: gl.constexpr = plain if STAGE >= 2 else right
    b = gl.program_id(1).to(gl.int64)
    i, j = gl.arange(0, N, gl.SliceLayout(1, built))[:, None], gl.arange(0, N, gl.SliceLayout(0, built))[None, :]
    if GIVENS:
        first, second = gl.load(places + 2 * b), gl.load(places + 2 * b + 1)
        angle = gl.load(numbers + b)
        c, s = gl.cos(angle), gl.sin(angle)
        turned = (i == j) & ((i == first) | (i == second))
        h = gl.where(turned, c, gl.where(i == j, 1.0, 0.0))
        h = gl.where((i == first) & (j == second), -s, gl.where((i == second) & (j == first), s, h))
    else:
        h = gl.where(i == j, 1.0, 0.0) - 2.0 * gl.load(numbers + b * N + i) * gl.load(numbers + b * N + j)
    h = h.to(gl.float16)
    if STAGE >= 1:
        h = gl.convert_layout(h, left)
    k = gl.arange(0, N, gl.SliceLayout(1, loaded))[:, None]
    m = gl.program_id(0) * BM + gl.arange(0, BM, gl.SliceLayout(0, loaded))[None, :]
    xs = gl.load(x + b * N * M + k * M + m, mask=(k < N) & (m < M), other=0.0)
    if STAGE >= 2:
        xs = gl.convert_layout(xs, right)
    acc = mma_v2(h, xs, gl.zeros([N, BM], gl.float32, wide))
    row = gl.arange(0, N, gl.SliceLayout(1, wide))[:, None]
    col = gl.program_id(0) * BM + gl.arange(0, BM, gl.SliceLayout(0, wide))[None, :]
    gl.store(out + b * N * M + row * M + col, acc, mask=(row < N) & (col < M))


def _check(x: Tensor, numbers: Tensor, places: Tensor | None, stage: int, impl: str) -> None:
    if x.dim() != 3 or x.shape[1] not in SIZES or x.dtype != torch.float16:
        raise ValueError(f"x: expected float16 (B, N, M), N one of {SIZES}, got {x.dtype} {tuple(x.shape)}")
    expected = tuple(x.shape[:2]) if places is None else (len(x),)
    if tuple(numbers.shape) != expected or numbers.dtype != torch.float32:
        raise ValueError(f"numbers: expected float32 {expected}, got {numbers.dtype} {tuple(numbers.shape)}")
    if places is not None and (tuple(places.shape) != (len(x), 2) or places.dtype != torch.int32):
        raise ValueError(f"places: expected int32 ({len(x)}, 2), got {places.dtype} {tuple(places.shape)}")
    if impl not in ("auto", "gluon", "torch") or stage not in (0, 1, 2):
        raise ValueError(f"expected impl auto, gluon or torch and stage 0, 1 or 2, got {impl!r} and {stage!r}")
    if impl == "gluon" and not x.is_cuda:
        raise ValueError(f"impl='gluon': expected a CUDA tensor, got one on {x.device}")


def structured_matmul(
    x: Tensor, numbers: Tensor, places: Tensor | None = None, stage: int = 0, impl: str = "auto"
) -> Tensor:
    """Householder matrices of `numbers` (B, N), or rotations by `numbers` (B,) at `places` (B, 2), times x (B, N, M).

    x float16, `numbers` float32, `places` int32 of two different rows -> float32 (B, N, M); the matrix is rounded to
    float16. `impl`: "gluon" (CUDA only), "torch" or "auto". ValueError says what was expected.
    """
    _check(x, numbers, places, stage, impl)
    (b, n, m), rotates = x.shape, places is not None
    if impl == "torch" or not x.is_cuda:
        matrix = householder(numbers) if places is None else givens(numbers, places, n)
        return matrix.half().float() @ x.float()
    out = torch.empty(b, n, m, device=x.device, dtype=torch.float32)
    if out.numel():
        _structured[(triton.cdiv(m, COLUMNS), b)](
            numbers.contiguous(), numbers if places is None else places.contiguous(), x.contiguous(), out, m,
            N=n, BM=COLUMNS, GIVENS=rotates, STAGE=stage, WARPS=WARPS, num_warps=WARPS,
        )  # fmt: skip
    return out


def compiled(
    n: int, rotates: bool, stage: int, columns: int = COLUMNS, warps: int = WARPS, capability: int = 80
) -> dict[str, int]:
    """The kernel as the compiler makes it for a GPU that need not be there, and what its code says of shared memory.

    `shared`: bytes that a program has; `read`: bytes that its warps read there; `flops`: of its Tensor Core products.
    """
    types = {"numbers": "*fp32", "places": "*i32", "x": "*fp16", "out": "*fp32", "M": "i32"}
    constants = {"N": n, "BM": columns, "GIVENS": rotates, "STAGE": stage, "WARPS": warps}
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(types))}
    source = GluonASTSource(_structured, types | dict.fromkeys(constants, "constexpr"), constants, aligned)
    found = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    code = found.asm["ptx"]
    read = sum(128 * int(matrices) for matrices in re.findall(r"ldmatrix\S*\.x(\d)", code))  # 8 x 8 float16 each
    for vector, bits in re.findall(r"ld\.shared(?:\.v(\d))?\.[bfu](\d+)", code):
        read += 32 * int(vector or 1) * int(bits) // 8
    products = len(re.findall(r"mma\.sync\S*m16n8k16", code))
    return {"shared": found.metadata.shared, "read": read * warps, "flops": products * 2 * 16 * 8 * 16 * warps}
