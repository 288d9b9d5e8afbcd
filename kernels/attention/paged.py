"""Decoding from a paged cache: keys and values lie in blocks of P tokens, in any order, found by a table a sequence.

B sequences, H query heads, G groups (H = G * R), N queries, D head size, A blocks in all, T at most a sequence. q
(B, H, N, D), k and v (A, P, G, D), table (B, T) of block numbers, lengths (B,) <= T * P -> (B, H, N, D). Token j of
sequence b is token j mod P of block table[b, j div P]; what the table says beyond a sequence's length is never
followed. The cache layout is PagedAttention's (Kwon et al. 2023, arXiv:2309.06180); the splits and the kernels are
split_kv.py's.
"""

import torch
from torch import Tensor

from kernels.attention.split_kv import Keys, check_call, decode_torch, decode_triton, decoding_reference
from kernels.dispatch import choose


def gather(cache: Tensor, table: Tensor, lengths: Tensor) -> Tensor:
    """A contiguous copy (B, G, M, D) of a paged cache, M the longest of `lengths`, with zeros after shorter ones."""
    most = int(lengths.max()) if len(lengths) else 0
    j = torch.arange(most, device=cache.device)
    there = (j < lengths[:, None])[:, :, None, None]
    blocks = torch.where(there[:, :, 0, 0], table[:, j // cache.shape[1]], 0).long()
    return torch.where(there, cache[blocks, j % cache.shape[1]], 0).transpose(1, 2)


def paged_reference(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Standard attention on a contiguous copy. Same arguments as the method."""
    return decoding_reference(q, gather(k, table, lengths), gather(v, table, lengths), lengths, causal, scale)


def paged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor,
    lengths: Tensor,
    causal: bool = False,
    scale: float | None = None,
    splits: int | None = None,
    impl: str = "auto",
) -> Tensor:
    """Exact attention over a paged cache; `splits` fills the device unless given. Forward only.

    `impl`: "triton" (float32, float16, bfloat16; nothing is copied), "torch" (the same splits in PyTorch, on a copy;
    float64 too) or "auto". ValueError says what was expected. On a GPU nobody looks whether blocks and lengths are
    inside the cache and the table.
    """
    chosen = choose(impl, q)
    check_call(q, k, v, lengths, k.shape[2] if k.dim() == 4 else 0, splits, chosen)
    if k.shape != v.shape or k.shape[3] != q.shape[3] or not k.shape[1]:
        raise ValueError(f"expected k and v (A, P, G, D) for q {tuple(q.shape)}, got {(*k.shape,)} and {(*v.shape,)}")
    if table.dim() != 2 or len(table) != len(q) or table.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"table: expected integers ({len(q)}, T), got {table.dtype} {tuple(table.shape)}")
    page, most = k.shape[1], table.shape[1] * k.shape[1]
    if not q.is_cuda and len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= most:
        raise ValueError(f"lengths: expected 0 to {most}, the table's tokens, got {lengths.tolist()}")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if chosen == "torch":
        return decode_torch(q, gather(k, table, lengths), gather(v, table, lengths), lengths, causal, scale, splits)
    k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (k, v))
    strides = [(x.stride(0), x.stride(2), x.stride(1)) for x in (k, v)]
    keys = Keys(k, v, k.shape[2], most, (*strides[0], *strides[1]), table.contiguous(), page)
    return decode_triton(q, keys, lengths, causal, scale, splits)
