"""Batches of small products on Tensor Cores (Markidis et al. 2018, arXiv:1803.04014, Section IV): 16 x 16 and the like.

B products of S x S: a (B, S, S), b (B, S, S), float16 -> (B, S, S) float32, S in 16, 32, 64. In the paper one warp
multiplies one matrix through the WMMA interface; here one program multiplies `PER_PROGRAM` / S^2 of them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.dispatch import choose

SIDES = (16, 32, 64)
PER_PROGRAM = 4096  # elements of one operand


def small_reference(a: Tensor, b: Tensor) -> Tensor:
    """The products in float32."""
    return a.float() @ b.float()


@triton.jit
def _small(a, b, out, BATCH, S: tl.constexpr, G: tl.constexpr):
    """One program: G products of S x S, read and written as one piece of memory."""
    g, r, c = tl.arange(0, G), tl.arange(0, S), tl.arange(0, S)
    which = tl.program_id(0).to(tl.int64) * G + g
    place = which[:, None, None] * (S * S) + r[None, :, None] * S + c[None, None, :]
    there = (which < BATCH)[:, None, None]
    x = tl.load(a + place, mask=there, other=0.0)
    y = tl.load(b + place, mask=there, other=0.0)
    tl.store(out + place, tl.dot(x, y), mask=there)


def small_matmul(a: Tensor, b: Tensor, impl: str = "auto") -> Tensor:
    """a @ b for B pairs of small square matrices, float16 in, float32 out. ValueError says what was expected."""
    if a.shape != b.shape or a.dim() != 3 or a.shape[1] != a.shape[2] or a.shape[1] not in SIDES:
        raise ValueError(f"expected a and b (B, S, S), S in {SIDES}, got {tuple(a.shape)} and {tuple(b.shape)}")
    if a.dtype != torch.float16 or b.dtype != torch.float16 or a.device != b.device:
        raise ValueError(f"expected float16 on one device, got {a.dtype} on {a.device} and {b.dtype} on {b.device}")
    if choose(impl, a) == "torch":
        return torch.bmm(a.float(), b.float())
    out = torch.empty(a.shape, device=a.device, dtype=torch.float32)
    per = PER_PROGRAM // a.shape[1] ** 2
    if out.numel():
        grid = (triton.cdiv(len(a), per),)
        _small[grid](a.contiguous(), b.contiguous(), out, len(a), S=a.shape[1], G=per, num_warps=4)
    return out
