"""Mixed-precision products with their precision refined (Markidis et al. 2018, arXiv:1803.04014, Section V).

B batch (optional), M, N, K. a (B, M, K), b (B, K, N), float32 or float16 -> (B, M, N) float32. Tensor Cores multiply
float16 exactly and add in float32; what is lost is lost when float32 inputs are rounded. With A16 = fp16(A) and the
residual R_A = fp16(A - A16), the same for B, the first `products` terms of

    A16 B16 + R_A B16 + A16 R_B + R_A R_B

are added up: 1 is no refinement, 2 refines A, 3 and 4 refine both. `scale` multiplies residuals before they are rounded
and divides their products (2^11 in Ootomo and Yokota, arXiv:2203.03341): small ones do not underflow then. `outside`
adds each block of K outside the Tensor Core, whose own sums are truncated. The split is made in registers: nothing but
A and B is read.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.dispatch import choose

GROUP = 8  # blocks of rows that share the columns in the cache


def refined_reference(a: Tensor, b: Tensor, products: int = 4, scale: float = 1.0) -> Tensor:
    """The sum of the first `products` terms in float64: what is left is only the inputs' own rounding."""
    (ah, ra), (bh, rb) = (tuple(part.double() for part in split(x, scale)) for x in (a, b))
    out = ah @ bh
    for left, right, by in ((ra, bh, scale), (ah, rb, scale), (ra, rb, scale * scale))[: products - 1]:
        out = out + left @ right / by
    return out


def split(x: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """(float16 of x, float16 of what that lost times `scale`)."""
    half = x.half()
    return half, ((x.float() - half.float()) * scale).half()


@triton.jit
def _halves(x, SCALE: tl.constexpr):
    half = x.to(tl.float16)
    return half, ((x.to(tl.float32) - half.to(tl.float32)) * SCALE).to(tl.float16)


@triton.jit
def _refined(
    a, b, out, M, N, K, a_b, a_m, a_k, b_b, b_k, b_n,
    PRODUCTS: tl.constexpr, SCALE: tl.constexpr, OUTSIDE: tl.constexpr, GROUP: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: a BM x BN tile of one matrix of the batch; the corrections have an accumulator of their own."""
    pid, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    down, across = tl.cdiv(M, BM), tl.cdiv(N, BN)
    first = pid // (GROUP * across) * GROUP
    rows = tl.minimum(down - first, GROUP)
    i = (first + pid % (GROUP * across) % rows) * BM + tl.arange(0, BM)
    j = pid % (GROUP * across) // rows * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    left = a + batch * a_b + i.to(tl.int64)[:, None] * a_m + k[None, :] * a_k
    right = b + batch * b_b + k[:, None] * b_k + j.to(tl.int64)[None, :] * b_n
    acc = tl.zeros([BM, BN], tl.float32)
    low = tl.zeros([BM, BN], tl.float32)
    for start in range(0, K, BK):
        x = tl.load(left, mask=(i < M)[:, None] & (k < K - start)[None, :], other=0.0)
        y = tl.load(right, mask=(k < K - start)[:, None] & (j < N)[None, :], other=0.0)
        xh, xr = _halves(x, SCALE)
        yh, yr = _halves(y, SCALE)
        if OUTSIDE:
            acc += tl.dot(xh, yh, max_num_imprecise_acc=BK)  # else the compiler adds it inside all the same
        else:
            acc = tl.dot(xh, yh, acc)
        if PRODUCTS > 3:
            low = tl.dot(xr, (yr.to(tl.float32) / SCALE).to(tl.float16), low)
        if PRODUCTS > 2:
            low = tl.dot(xh, yr, low)
        if PRODUCTS > 1:
            low = tl.dot(xr, yh, low)
        left += BK * a_k
        right += BK * b_k
    place = out + batch * M * N + i.to(tl.int64)[:, None] * N + j[None, :]
    tl.store(place, acc + low / SCALE, mask=(i < M)[:, None] & (j < N)[None, :])


def tile_sizes(products: int, itemsize: int) -> tuple[int, int, int, int, int]:
    """(BM, BN, BK, warps, stages): large for float16 alone, smaller where the corrections take registers as well."""
    if products == 1 and itemsize == 2:
        return 128, 256, 64, 8, 3
    return (128, 128, 32, 8, 3) if products == 1 else (128, 64, 32, 4, 3)


def _triton(a: Tensor, b: Tensor, products: int, scale: float, outside: bool) -> Tensor:
    (batch, m, k), n = a.shape, b.shape[2]
    out = torch.empty(batch, m, n, device=a.device, dtype=torch.float32)
    bm, bn, bk, warps, stages = tile_sizes(products, a.element_size())
    if out.numel():
        _refined[(triton.cdiv(m, bm) * triton.cdiv(n, bn), batch)](
            a, b, out, m, n, k, *a.stride(), *b.stride(), PRODUCTS=products, SCALE=scale, OUTSIDE=outside, GROUP=GROUP,
            BM=bm, BN=bn, BK=bk, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return out


def _torch(a: Tensor, b: Tensor, products: int, scale: float) -> Tensor:
    """The terms as matrix products of float16 values held in float32, where each is exact."""
    (ah, ra), (bh, rb) = (tuple(part.float() for part in split(x, scale)) for x in (a, b))
    low = torch.zeros((), device=a.device)
    for left, right in ((ra, bh), (ah, rb), (ra, rb / scale))[: products - 1]:
        low = low + left @ right
    return ah @ bh + low / scale


def refined_matmul(
    a: Tensor, b: Tensor, products: int = 4, scale: float = 1.0, outside: bool = False, impl: str = "auto"
) -> Tensor:
    """a @ b in float32 from `products` float16 products (1 to 4), matrices or batches of them; `scale` >= 1.

    `impl`: "triton" (one kernel), "torch" (a product a term, sums in float32 always) or "auto". Values beyond 65504
    become infinite. ValueError says what was expected.
    """
    for name, x in (("a", a), ("b", b)):
        if x.dtype not in (torch.float16, torch.float32) or x.dtype != a.dtype or x.device != a.device:
            raise ValueError(f"{name}: expected float16 or float32, the same for both, got {x.dtype} on {x.device}")
    if a.dim() not in (2, 3) or b.dim() != a.dim() or a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"expected a (B, M, K) and b (B, K, N), got {tuple(a.shape)} and {tuple(b.shape)}")
    if products not in (1, 2, 3, 4) or not scale >= 1:
        raise ValueError(f"expected 1 to 4 products and scale >= 1, got {products} and {scale}")
    if choose(impl, a) == "torch":
        return _torch(a, b, products, scale)
    if a.dim() == 2:
        return _triton(a[None], b[None], products, scale, outside)[0]
    return _triton(a, b, products, scale, outside)
