"""Flash-Decoding (Dao et al. 2023): attention of a few queries over many keys, the keys split over the device.

B sequences, H query heads, G groups (H = G * R), N queries, M keys at most, D head size, S splits. q (B, H, N, D), k
and v (B, G, M, D), lengths (B,): how many of its M keys a sequence has -> (B, H, N, D). Causal: query i sees keys
j <= i + length - N. A query that sees no key gives 0. Three steps: (1) the keys in S splits, without a copy; (2) one
program a sequence, group and split: attention of the group's R * N queries, with their maximum and sum of
exponentials; (3) a second kernel, in combine.py, weighs and sums the splits. paged.py shares all but step 1.
"""

from dataclasses import dataclass
from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.combine import combine, combine_triton, padded
from kernels.attention.grouped_query import grouped_query_attention, grouped_query_reference
from kernels.attention.tiles import LOG2E, wide
from kernels.dispatch import choose

MAX_HEAD, MAX_SPLITS = 256, 128
PROGRAMS = 264  # that splits should make, where a device does not tell how many it runs: two for each of 132 SMs


def decoding_reference(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None = None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """softmax(q k^T * scale) v, one sequence after the other: standard attention. Same arguments."""
    d = q.shape[3]
    q = q * (1.0 if scale is None else scale * d**0.5)
    sizes = [k.shape[2]] * len(q) if lengths is None else lengths.tolist()
    attend = partial(grouped_query_reference, causal=True) if causal and q.shape[2] > 1 else grouped_query_attention
    rows = [attend(q[i : i + 1], k[i : i + 1, :, :size], v[i : i + 1, :, :size]) for i, size in enumerate(sizes)]
    return torch.cat(rows) if rows else torch.zeros_like(q)


@dataclass(frozen=True)
class Keys:
    """Where keys and values lie: at `strides` of (sequence, group, token), of k and of v; or, with a `table` (B, T) of
    pages of `page` tokens, at those of (page, group, token). A sequence has `most` tokens at most."""

    k: Tensor
    v: Tensor
    groups: int
    most: int
    strides: tuple[int, ...]
    table: Tensor | None = None
    page: int = 0


@triton.jit
def _fold(
    top, total, acc, qs, k, v, first, end, i, table, N, length, scale2, k_page, k_token, v_page, v_token,
    D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, PAGE: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One block of keys folded into the running maximum, sum and output of a group's queries."""
    j, d = first + tl.arange(0, BK), tl.arange(0, DP)
    row = j.to(tl.int64)
    k_row, v_row = row * k_token, row * v_token
    if PAGE > 0:
        page = tl.load(table + j // PAGE, mask=j < end, other=0).to(tl.int64)
        k_row = page * k_page + j % PAGE * k_token
        v_row = page * v_page + j % PAGE * v_token
    there = (d < D)[None, :]
    if MASKED:
        there = there & (j < end)[:, None]
    ks = tl.load(k + k_row[:, None] + d[None, :], mask=there, other=0.0)
    s = tl.dot(qs, tl.trans(ks), input_precision="ieee") * scale2
    if MASKED:
        see = (j < end)[None, :]
        if CAUSAL:
            see = see & (j[None, :] <= i[:, None] + length - N)
        s = tl.where(see, s, float("-inf"))
    higher = tl.maximum(top, tl.max(s, 1))
    shift = tl.where(higher == float("-inf"), 0.0, higher)
    p, fade = tl.exp2(s - shift[:, None]), tl.exp2(top - shift)
    vs = tl.load(v + v_row[:, None] + d[None, :], mask=there, other=0.0)
    acc = tl.dot(p.to(vs.dtype), vs, acc * fade[:, None], input_precision="ieee")
    return higher, total * fade + tl.sum(p, 1), acc


@triton.jit
def _split(
    q, k, v, out, tops, totals, lengths, table, T, G, ROWS, N, M, S, scale2, k_outer, k_group, k_token, v_outer,
    v_group, v_token, D: tl.constexpr, DP: tl.constexpr, CAUSAL: tl.constexpr, LENGTHS: tl.constexpr,
    PAGE: tl.constexpr, ONE: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One program: BR of the R * N queries of a group over one split: whole blocks, as even as they can be."""
    split, pair = tl.program_id(0), tl.program_id(1)
    sequence, group = (pair // G).to(tl.int64), (pair % G).to(tl.int64)
    row, d = tl.program_id(2) * BR + tl.arange(0, BR), tl.arange(0, DP)
    live, i = row < ROWS, row % N
    at = pair.to(tl.int64) * ROWS + row
    qs = tl.load(q + at[:, None] * D + d[None, :], mask=live[:, None] & (d < D)[None, :], other=0.0)
    length = M
    if LENGTHS:
        length = tl.load(lengths + sequence).to(tl.int32)
    k, v = k + group * k_group, v + group * v_group
    if PAGE == 0:
        k, v = k + sequence * k_outer, v + sequence * v_outer
    table += sequence * T
    size = tl.cdiv(tl.cdiv(length, BK), S) * BK
    start = tl.minimum(split * size, length)
    end = tl.minimum(start + size, length)
    whole = end
    if CAUSAL:
        whole = tl.maximum(start, tl.minimum(end, length - N + 1))
    whole = start + (whole - start) // BK * BK
    top = tl.full([BR], float("-inf"), tl.float32)
    total = tl.zeros([BR], tl.float32)
    acc = tl.zeros([BR, DP], tl.float32)
    for first in range(start, whole, BK):
        top, total, acc = _fold(
            top, total, acc, qs, k, v, first, end, i, table, N, length, scale2, k_outer, k_token, v_outer, v_token,
            D, DP, CAUSAL, False, PAGE, BK,
        )  # fmt: skip
    for first in range(whole, end, BK):
        top, total, acc = _fold(
            top, total, acc, qs, k, v, first, end, i, table, N, length, scale2, k_outer, k_token, v_outer, v_token,
            D, DP, CAUSAL, True, PAGE, BK,
        )  # fmt: skip
    if ONE:
        acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    else:
        tl.store(tops + at * S + split, top, mask=live)
        tl.store(totals + at * S + split, total, mask=live)
    place = (at * S + split)[:, None] * D + d[None, :]
    tl.store(out + place, acc.to(out.dtype.element_ty), mask=live[:, None] & (d < D)[None, :])


def tile_sizes(d: int, rows: int, itemsize: int) -> tuple[int, int, int, int]:
    """(queries, keys, warps, stages): about 96 KiB of keys and values in flight, so that two programs share an SM."""
    keys = 128 if d <= 64 else 64 if d <= 128 else 32
    return min(64, max(16, triton.next_power_of_2(rows))), keys * 2 // itemsize, 4, 3


def splits_for(pairs: int, most: int, block: int, device: torch.device) -> int:
    """How many splits fill the device: two programs an SM for `pairs` (sequence, group), two blocks of keys each."""
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0
    fill = (2 * multiprocessors or PROGRAMS) // max(pairs, 1)
    return max(1, min(fill, triton.cdiv(most, 2 * block), MAX_SPLITS))


def decode_triton(
    q: Tensor, keys: Keys, lengths: Tensor | None, causal: bool, scale: float, splits: int | None
) -> Tensor:
    """Steps 2 and 3 on keys wherever they lie."""
    (b, h, n, d), g = q.shape, keys.groups
    q, rows = q.contiguous(), h // g * n
    out = torch.empty_like(q)
    if not out.numel():
        return out
    br, bk, warps, stages = tile_sizes(d, rows, q.element_size())
    tiles = triton.cdiv(rows, br)
    s = splits or splits_for(b * g * tiles, keys.most, bk, q.device)
    parts = out if s == 1 else torch.empty(b * h * n, s, d, device=q.device, dtype=torch.float32)
    tops, totals = torch.empty(2, b * h * n, s, device=q.device, dtype=torch.float32)
    table = tops if keys.table is None else keys.table
    _split[(s, b * g, tiles)](
        q, keys.k, keys.v, parts, tops, totals, tops if lengths is None else lengths, table, table.shape[1], g, rows, n,
        keys.most, s, scale * LOG2E, *keys.strides, D=d, DP=padded(d), CAUSAL=causal, LENGTHS=lengths is not None,
        PAGE=keys.page, ONE=s == 1, BR=br, BK=bk, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out if s == 1 else combine_triton(parts, tops, totals, out)


def attend_split(q: Tensor, k: Tensor, v: Tensor, see: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Step 2 on one split of m keys: q (B, G, R * N, D), `see` (B, 1, R * N, m) -> what `combine` takes of it."""
    s = (q @ k.to(q.dtype).mT).mul_(scale).masked_fill_(~see, -torch.inf)
    top = s.amax(-1, keepdim=True)
    p = s.sub_(top.clamp_min(torch.finfo(s.dtype).min)).exp_()
    return p @ v.to(q.dtype), top, p.sum(-1, keepdim=True)


def decode_torch(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, causal: bool, scale: float, splits: int | None
) -> Tensor:
    """The three steps in PyTorch operations, one split after the other; k and v (B, G, M, D)."""
    (b, h, n, d), (g, m) = q.shape, k.shape[1:3]
    if not q.numel() or not m:
        return torch.zeros_like(q)
    rows = q.to(wide(q.dtype)).reshape(b, g, h // g * n, d)
    length = torch.full((b,), m, device=q.device) if lengths is None else lengths
    end = length[:, None, None, None].expand(b, 1, n, 1)
    if causal:
        end = end + torch.arange(1 - n, 1, device=q.device)[:, None]
    end = end.repeat(1, 1, h // g, 1)
    size = -(-m // min(splits or splits_for(b * g, m, 64, q.device), m))
    found = []
    for first in range(0, m, size):
        cols = slice(first, min(first + size, m))
        see = torch.arange(cols.start, cols.stop, device=q.device) < end
        found.append(attend_split(rows, k[:, :, cols], v[:, :, cols], see, scale))
    return combine(*map(list, zip(*found, strict=True))).reshape(b, h, n, d).to(q.dtype)


def check_call(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, groups: int, splits: int | None, chosen: str
) -> None:
    """What paged and unpaged decoding ask for alike. ValueError says what was expected."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 4 or not x.is_floating_point() or x.dtype != q.dtype or x.device != q.device:
            raise ValueError(f"{name}: expected 4 axes of {q.dtype} on {q.device}, got {x.dtype} {tuple(x.shape)}")
    if not groups or q.shape[1] % groups:
        raise ValueError(f"expected query heads that the groups divide, got {q.shape[1]} and {groups}")
    if lengths is not None and (lengths.shape != q.shape[:1] or lengths.dtype not in (torch.int32, torch.int64)):
        raise ValueError(f"lengths: expected {len(q)} integers, got {lengths.dtype} {tuple(lengths.shape)}")
    if splits is not None and splits < 1:
        raise ValueError(f"splits: expected at least 1, got {splits}")
    if chosen == "triton" and (q.dtype == torch.float64 or not 1 <= q.shape[3] <= MAX_HEAD):
        raise ValueError(f"impl='triton': expected at most 32 bits and D <= {MAX_HEAD}, got {q.dtype} and {q.shape[3]}")


def split_kv_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    splits: int | None = None,
    impl: str = "auto",
) -> Tensor:
    """Exact attention over a long cache; `splits` fills the device unless given; keys may be a view of a larger cache.

    `impl`: "triton" (float32, float16, bfloat16), "torch" (the same steps in PyTorch; float64 too) or "auto". Forward
    only. ValueError says what was expected. `lengths` must be at most M: on a GPU nobody looks.
    """
    chosen = choose(impl, q)
    check_call(q, k, v, lengths, k.shape[1] if k.dim() == 4 else 0, splits, chosen)
    if k.shape != v.shape or k.shape[::3] != q.shape[::3]:
        raise ValueError(f"expected k and v (B, G, M, D) for q {tuple(q.shape)}, got {(*k.shape,)} and {(*v.shape,)}")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if chosen == "torch":
        return decode_torch(q, k, v, lengths, causal, scale, splits)
    k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (k, v))
    keys = Keys(k, v, k.shape[1], k.shape[2], (*k.stride()[:3], *v.stride()[:3]))
    return decode_triton(q, keys, lengths, causal, scale, splits)
