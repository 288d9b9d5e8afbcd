"""What the forward and the backward pass of tiled attention share: shapes, tiles, and who sees whom."""

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E = 1.4426950408889634
BLOCK_Q, BLOCK_K = 128, 256  # of the walk in PyTorch operations


def shape_of(q: Tensor, k: Tensor) -> tuple[int, int, int, int, int]:
    """(B, H, N, M, D) of q (B, H, N, D) and k (B, H, M, D)."""
    return q.shape[0], q.shape[1], q.shape[2], k.shape[2], q.shape[3]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def visible(i: Tensor, j: Tensor, n: int, m: int) -> Tensor:
    """Whether query i of n sees key j of m under a causal mask: (len(i), len(j)), true where it does."""
    return j[None, :] <= i[:, None] + m - n


@triton.jit
def seen(i, j, N, M, CAUSAL: tl.constexpr):
    """`visible` for a tile (queries, keys) whose rows and columns may lie beyond the end."""
    inside = (i < N)[:, None] & (j < M)[None, :]
    if CAUSAL:
        inside = inside & (j[None, :] <= i[:, None] + M - N)
    return inside
