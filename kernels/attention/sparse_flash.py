"""Dynamic sparse flash attention (Pagliardini et al. 2023, arXiv:2306.01160): causal attention with a sparsity that
depends on the data, exact for its pattern.

B batch, H heads, N tokens, D head size. q, k and v (B, H, N, D) -> (B, H, N, D). Hash-sparse: a query sees the earlier
keys of its own bucket. QK-sparse: queries and keys can be dropped, each head its own. Tokens are sorted (by bucket, or
the kept ones first), the order in time surviving inside a bucket, so that each query sees one run of the sorted keys:
runs.py computes the tiles that lie in runs and no others. Rows go back to their places at the end (Section 3).
"""

import torch
from torch import Tensor

from kernels.attention.runs import Runs
from kernels.dispatch import choose

NOWHERE = 2**30  # the run of a query that was dropped lies behind all keys
MAX_HEAD = 128


def same_bucket(q_hash: Tensor, k_hash: Tensor, strict: bool = False) -> Tensor:
    """(B, H, N, N), true where a query sees a key: of its own bucket, not later (`strict`: earlier)."""
    return (q_hash[..., :, None] == k_hash[..., None, :]) & _earlier(q_hash, strict)


def both_kept(q_keep: Tensor, k_keep: Tensor, strict: bool = False) -> Tensor:
    """(B, H, N, N), true where a query sees a key: both kept, the key not later (`strict`: earlier)."""
    return (q_keep[..., :, None] & k_keep[..., None, :]) & _earlier(q_keep, strict)


def _earlier(x: Tensor, strict: bool) -> Tensor:
    return x.new_ones(x.shape[-1], x.shape[-1], dtype=torch.bool).tril(-1 if strict else 0)


def sparse_reference(q: Tensor, k: Tensor, v: Tensor, see: Tensor, scale: float | None = None) -> Tensor:
    """Dense attention under a mask `see` (B, H, N, N); a query that sees no key gives 0."""
    none = ~see.any(-1, keepdim=True)
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~see, -torch.inf).masked_fill(none, 0).softmax(-1).masked_fill(none, 0) @ v


def lsh_buckets(x: Tensor, directions: Tensor) -> Tensor:
    """(B, H, N) int64: the largest of x R and -x R, for `directions` R (D, buckets / 2), as in Reformer."""
    ahead = x.to(directions.dtype) @ directions
    return torch.cat([ahead, -ahead], -1).argmax(-1)


def hash_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_hash: Tensor,
    k_hash: Tensor,
    strict: bool = False,
    scale: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """Causal attention inside buckets; q_hash and k_hash (B, H, N) are whole numbers. `strict`: no token sees itself.

    Differentiable in q, k and v; `scale` > 0 is D^-0.5 unless given. `impl`: "triton" (float32, float16, bfloat16,
    D <= 128), "torch" (the same tiles in PyTorch; float64 too) or "auto". ValueError says what was expected.
    """
    chosen, scale = _checked(q, k, v, scale, impl, q_hash=q_hash, k_hash=k_hash)
    if q_hash.is_floating_point() or k_hash.is_floating_point():
        raise ValueError(f"q_hash and k_hash: expected whole numbers, got {q_hash.dtype} and {k_hash.dtype}")
    n = q.shape[2]
    place = torch.arange(n, device=q.device)
    (queries, q_order), (keys, k_order) = ((x.long() * n + place).sort(-1) for x in (q_hash, k_hash))
    low = torch.searchsorted(keys, queries - q_order)  # from the first place of the bucket
    high = torch.searchsorted(keys, queries, right=not strict)
    return _attend(q, k, v, q_order, k_order, low, high, scale, chosen)


def qk_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_keep: Tensor,
    k_keep: Tensor,
    strict: bool = False,
    scale: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """Causal attention of the kept queries over the kept keys; q_keep and k_keep (B, H, N) are bool. Otherwise as
    `hash_sparse_attention`; a dropped query gives 0."""
    chosen, scale = _checked(q, k, v, scale, impl, q_keep=q_keep, k_keep=k_keep)
    if q_keep.dtype != torch.bool or k_keep.dtype != torch.bool:
        raise ValueError(f"q_keep and k_keep: expected bool, got {q_keep.dtype} and {k_keep.dtype}")
    (queries, q_order), (keys, k_order) = (_kept(x) for x in (q_keep, k_keep))
    high = torch.searchsorted(keys, queries, right=not strict)
    gone = queries == q.shape[2]
    low, high = gone * NOWHERE, high.masked_fill(gone, NOWHERE)
    return _attend(q, k, v, q_order, k_order, low, high, scale, chosen)


def _kept(keep: Tensor) -> tuple[Tensor, Tensor]:
    """(places of the kept tokens, ascending, then N; rows to take): as many as the head with the most keeps."""
    n, counts = keep.shape[-1], keep.sum(-1, keepdim=True)
    most = int(counts.max()) if counts.numel() else 0
    rows = (~keep).to(torch.uint8).argsort(dim=-1, stable=True)[..., :most]
    return rows.masked_fill(torch.arange(most, device=keep.device) >= counts, n), rows


def _attend(q, k, v, q_order, k_order, low, high, scale: float, chosen: str) -> Tensor:
    """Rows in order, attention over runs, and rows back in their places; those that were left out are 0."""
    taken = [_take(x, order).flatten(0, 1) for x, order in ((q, q_order), (k, k_order), (v, k_order))]
    runs = (x.flatten(0, 1).to(torch.int32).contiguous() for x in (low, high))
    out = Runs.apply(*(x.contiguous() for x in taken), *runs, scale, chosen).unflatten(0, q.shape[:2])
    return torch.zeros_like(q).scatter(2, q_order[..., None].expand_as(out), out)


def _take(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(2, order[..., None].expand(*order.shape, x.shape[-1]))


def _checked(q: Tensor, k: Tensor, v: Tensor, scale: float | None, impl: str, **patterns: Tensor) -> tuple[str, float]:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 4 or not x.is_floating_point() or (x.shape, x.dtype) != (q.shape, q.dtype):
            wanted = f"{q.dtype} {tuple(q.shape)} as q" if name != "q" else "floating point (B, H, N, D)"
            raise ValueError(f"{name}: expected {wanted}, got {x.dtype} {tuple(x.shape)}")
    for name, x in patterns.items():
        if x.shape != q.shape[:3]:
            raise ValueError(f"{name}: expected (B, H, N) = {tuple(q.shape[:3])}, got {tuple(x.shape)}")
    for name, x in (("k", k), ("v", v), *patterns.items()):
        if x.device != q.device:
            raise ValueError(f"{name}: expected it on {q.device} as q, got it on {x.device}")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if not scale > 0:
        raise ValueError(f"scale: expected > 0, got {scale}")
    chosen = choose(impl, q)
    if chosen == "triton" and (q.dtype == torch.float64 or not 1 <= q.shape[3] <= MAX_HEAD):
        raise ValueError(f"impl='triton': expected at most 32 bits and D <= {MAX_HEAD}, got {q.dtype} and {q.shape[3]}")
    return chosen, scale
