"""StreamingLLM attention (Xiao et al. 2023, arXiv:2309.17453): the first S tokens and the W most recent ones.

B batch, H query heads, G key heads (H = G * R), N tokens, L slots in use (at most S + W), D head size, P positions in
the tables. Keys come and are kept BEFORE the rotary embedding: they are rotated when used, by their place in the cache
(sinks 0..S-1, newest token S+W-1), never by their place in the text. Rotary tables `cos`, `sin` are (P, D/2); the two
halves of a head are rotated against each other, as in Llama.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.dispatch import choose

CHUNK = 256  # keys that one program of the decode kernel reads
TILE = 16384  # bytes of one tile of values: with 2 stages this needs at most 82 KiB of shared memory (sm86 has 99)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., N, D) rotated by the angles of tables (N, D/2), in the finer of the two precisions; the dtype of x."""
    a, b = x.to(torch.promote_types(x.dtype, cos.dtype)).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def streaming_reference(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, sinks: int, window: int) -> Tensor:
    """What a streaming cache gives at every one of N tokens, in one call with the whole score matrix.

    q (B, H, N, D), k and v (B, G, N, D) un-rotated, tables of at least N positions; returns (B, H, N, D). Inside the
    window a rotation depends on the distance alone, so positions in the text serve; a sink column meets the query at
    its place in the cache, min(i, S+W-1). Computes in the inputs' dtype.
    """
    n, repeat = q.shape[2], q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    i, j = torch.arange(n, device=q.device)[:, None], torch.arange(n, device=q.device)
    place = j.clamp(max=sinks + window - 1)
    keys = rotate(k, cos[:n], sin[:n]).mT
    near = rotate(q, cos[:n], sin[:n]) @ keys
    far = rotate(q, cos[place], sin[place]) @ keys
    seen = (j <= i) & ((j < sinks) | (j > i - window))
    scores = torch.where(j < sinks, far, near) * q.shape[-1] ** -0.5
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v


def decode_reference(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, sinks: int, oldest: int) -> Tensor:
    """`streaming_decode`, written as mit-han-lab/streaming-llm does it: slots put in order, all keys rotated."""
    length, repeat = k.shape[2], q.shape[1] // k.shape[1]
    order = [*range(sinks), *range(sinks + oldest, length), *range(sinks, sinks + oldest)][:length]
    k, v = k[:, :, order].repeat_interleave(repeat, 1), v[:, :, order].repeat_interleave(repeat, 1)
    q = rotate(q, cos[length - 1 : length], sin[length - 1 : length])
    scores = q @ rotate(k, cos[:length], sin[:length]).mT * q.shape[-1] ** -0.5
    return scores.softmax(-1) @ v


@triton.jit(do_not_specialize=["length", "oldest"])
def _decode(
    q, k, v, cos, sin, out, lse, length, oldest, scale, sinks,
    q_b, q_h, k_b, k_g, k_n, v_b, v_g, v_n,
    G: tl.constexpr, R: tl.constexpr, D: tl.constexpr,
    RP: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: one key head with its R query heads, over CHUNK of the L slots."""
    pair, split = tl.program_id(0), tl.program_id(1)
    b, g = (pair // G).to(tl.int64), pair % G
    r, h, d = tl.arange(0, RP), tl.arange(0, HP), tl.arange(0, DP)
    half: tl.constexpr = D // 2
    rows = q + b * q_b + (g * R + r)[:, None] * q_h + h[None, :]
    live = (r < R)[:, None] & (h < half)[None, :]
    q1 = tl.load(rows, mask=live, other=0.0).to(tl.float32)
    q2 = tl.load(rows + half, mask=live, other=0.0).to(tl.float32)
    c = tl.load(cos + (length - 1) * half + h, mask=h < half, other=0.0)
    s = tl.load(sin + (length - 1) * half + h, mask=h < half, other=0.0)
    kind = k.dtype.element_ty
    qa, qb = (q1 * c - q2 * s).to(kind), (q2 * c + q1 * s).to(kind)

    top = tl.full([RP], float("-inf"), tl.float32)
    total = tl.zeros([RP], tl.float32)
    acc = tl.zeros([RP, DP], tl.float32)
    for first in range(split * CHUNK, min(split * CHUNK + CHUNK, length), BLOCK):
        slot = first + tl.arange(0, BLOCK)
        used = slot < length
        turned = slot - oldest
        place = tl.where(slot < sinks, slot, tl.where(turned < sinks, turned + length - sinks, turned))
        there = used[:, None] & (h < half)[None, :]
        keys = k + b * k_b + g * k_g + slot.to(tl.int64)[:, None] * k_n + h[None, :]
        k1 = tl.load(keys, mask=there, other=0.0).to(tl.float32)
        k2 = tl.load(keys + half, mask=there, other=0.0).to(tl.float32)
        kc = tl.load(cos + place[:, None] * half + h[None, :], mask=there, other=0.0)
        ks = tl.load(sin + place[:, None] * half + h[None, :], mask=there, other=0.0)
        ka, kb = (k1 * kc - k2 * ks).to(kind), (k2 * kc + k1 * ks).to(kind)
        scores = tl.dot(qa, tl.trans(ka), input_precision="ieee") + tl.dot(qb, tl.trans(kb), input_precision="ieee")
        scores = tl.where(used[None, :], scores * scale, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        p = tl.exp(scores - higher[:, None])
        fade = tl.exp(top - higher)
        values = v + b * v_b + g * v_g + slot.to(tl.int64)[:, None] * v_n + d[None, :]
        vals = tl.load(values, mask=used[:, None] & (d < D)[None, :], other=0.0)
        acc = acc * fade[:, None] + tl.dot(p.to(kind), vals, input_precision="ieee")
        total = total * fade + tl.sum(p, 1)
        top = higher
    place_out = (pair.to(tl.int64) * tl.num_programs(1) + split) * R + r
    tl.store(out + place_out[:, None] * D + d[None, :], acc / total[:, None], mask=(r < R)[:, None] & (d < D)[None, :])
    tl.store(lse + place_out, top + tl.log(total), mask=r < R)


def _decode_triton(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, sinks: int, oldest: int) -> Tensor:
    (b, h, _, d), (g, length) = q.shape, k.shape[1:3]
    r, splits, wide = h // g, triton.cdiv(length, CHUNK), max(16, triton.next_power_of_2(d))
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    cos, sin = cos.float().contiguous(), sin.float().contiguous()
    out = torch.empty(b, g, splits, r, d, device=q.device, dtype=torch.float32)
    lse = torch.empty(b, g, splits, r, device=q.device, dtype=torch.float32)
    _decode[(b * g, splits)](
        q, k, v, cos, sin, out, lse, length, oldest, d**-0.5, sinks,
        q.stride(0), q.stride(1), *k.stride()[:3], *v.stride()[:3],
        G=g, R=r, D=d, RP=max(16, triton.next_power_of_2(r)), HP=max(16, triton.next_power_of_2(d // 2)),
        DP=wide, CHUNK=CHUNK, BLOCK=min(64, max(16, TILE // (wide * q.element_size()))), num_stages=2,
    )  # fmt: skip
    if splits > 1:
        out = (out * lse.softmax(2)[..., None]).sum(2)
    return out.reshape(b, h, 1, d).to(q.dtype)


def _decode_torch(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, sinks: int, oldest: int) -> Tensor:
    """Slots stay where they are: attention does not mind their order, only their places."""
    (b, h, _, d), (g, length) = q.shape, k.shape[1:3]
    slot = torch.arange(length, device=q.device)
    place = torch.where(slot < sinks, slot, sinks + (slot - sinks - oldest) % max(length - sinks, 1))
    q = rotate(q, cos[length - 1 : length], sin[length - 1 : length]).reshape(b, g, h // g, d)
    scores = q @ rotate(k, cos[place], sin[place]).mT * d**-0.5
    return (_softmax(scores).to(v.dtype) @ v).reshape(b, h, 1, d)


def streaming_decode(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, *, sinks: int, oldest: int = 0, impl: str = "auto"
) -> Tensor:
    """One step: the newest query over the L slots of a streaming cache.

    q (B, H, 1, D); k and v (B, G, L, D), both un-rotated, slots 0..S-1 the sinks and the rest a ring whose oldest token
    is in slot S + `oldest`; tables of at least L positions. Returns (B, H, 1, D). Forward only. ValueError.
    """
    _check(q, k, v, cos, sin, sinks, window=1)
    length = k.shape[2]
    if q.shape[2] != 1 or length == 0:
        raise ValueError(f"expected one query and at least one slot, got {q.shape[2]} and {length}")
    if not 0 <= oldest < max(length - sinks, 1):
        raise ValueError(f"oldest: expected 0 <= oldest < {max(length - sinks, 1)}, got {oldest}")
    if cos.shape[0] < length:
        raise ValueError(f"tables: expected at least {length} positions, got {cos.shape[0]}")
    if choose(impl, q) == "torch":
        return _decode_torch(q, k, v, cos, sin, sinks, oldest)
    if q.dtype == torch.float64:
        raise ValueError("expected float32, bfloat16 or float16 for impl='triton', got float64")
    return _decode_triton(q, k, v, cos, sin, sinks, oldest)


def streaming_attention(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, *, sinks: int, window: int, block: int = 128
) -> Tensor:
    """`streaming_reference` in blocks of queries: what the cache gives at every token, to measure perplexity at once.

    Each block turns its own keys by their distance from the block's oldest one, so the tables need no more than
    max(S + W, W + block) positions, or N if that is less. Returns (B, H, N, D). PyTorch only; S + W >= N is dense
    causal attention. ValueError.
    """
    _check(q, k, v, cos, sin, sinks, window)
    n = q.shape[2]
    if k.shape[2] != n or cos.shape[0] < min(n, max(sinks + window, window + block)):
        raise ValueError(f"expected {n} keys and enough positions, got {k.shape[2]} and {cos.shape[0]}")
    out = torch.empty_like(q)
    for lo in range(0, n, block):
        hi = min(lo + block, n)
        out[:, :, lo:hi] = _block(q[:, :, lo:hi], k, v, cos, sin, sinks, window, lo)
    return out


def _block(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, sinks: int, window: int, lo: int) -> Tensor:
    (b, h, n, d), g = q.shape, k.shape[1]
    hi, first = lo + n, max(sinks, lo - window + 1)
    far, near = slice(0, min(sinks, k.shape[2])), slice(first, max(first, hi))
    i, j = torch.arange(lo, hi, device=q.device)[:, None], torch.arange(k.shape[2], device=q.device)
    origin = min(first, lo)
    at, place = i[:, 0] - origin, i[:, 0].clamp(max=sinks + window - 1)

    def scores(where: slice, q_at: Tensor, k_at: Tensor, seen: Tensor) -> Tensor:
        turned = rotate(q, cos[q_at], sin[q_at]).reshape(b, g, -1, d)
        found = (turned @ rotate(k[:, :, where], cos[k_at], sin[k_at]).mT).unflatten(2, (h // g, n)) * d**-0.5
        return found.masked_fill(~seen, float("-inf"))

    both = torch.cat(
        [
            scores(far, place, j[far], j[far] <= i),
            scores(near, at, j[near] - origin, (j[near] <= i) & (j[near] > i - window)),
        ],
        dim=-1,
    )
    values = torch.cat([v[:, :, far], v[:, :, near]], dim=2)
    return (_softmax(both).to(v.dtype).flatten(2, 3) @ values).reshape(b, h, n, d)


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def _check(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, sinks: int, window: int) -> None:
    if q.ndim != 4 or k.shape != v.shape or k.shape[::3] != q.shape[::3] or q.shape[1] % max(k.shape[1], 1):
        shapes = [tuple(x.shape) for x in (q, k, v)]
        raise ValueError(f"expected q (B, H, N, D), k and v (B, G, L, D), H a multiple of G; got {shapes}")
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"expected q, k and v of one dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    if q.shape[-1] % 2 or cos.shape != sin.shape or cos.shape[1:] != (q.shape[-1] // 2,):
        raise ValueError(f"tables: expected (P, {q.shape[-1] / 2:g}), got {tuple(cos.shape)} and {tuple(sin.shape)}")
    if sinks < 0 or window < 1:
        raise ValueError(f"expected sinks >= 0 and window >= 1, got {sinks} and {window}")


class StreamingCache:
    """The cache itself, for one layer: S sinks and a ring of the W last tokens, keys un-rotated.

    `attend(q, k, v)` takes the next token, q (B, H, 1, D), k and v (B, G, 1, D) un-rotated, evicts the oldest token
    that is no sink if the cache is full, and returns (B, H, 1, D). Tables of at least S + W positions.
    """

    def __init__(self, sinks: int, window: int, cos: Tensor, sin: Tensor, impl: str = "auto"):
        self.sinks, self.window, self.cos, self.sin, self.impl = sinks, window, cos, sin, impl
        self.seen = 0
        self.k = self.v = cos.new_empty(0)

    def prefill(self, k: Tensor, v: Tensor) -> None:
        """Keep a whole prompt, (B, G, N, D) un-rotated, N <= S + W, in an empty cache. ValueError."""
        size = self.sinks + self.window
        if self.seen or k.shape[2] > size:
            raise ValueError(f"expected an empty cache and at most {size} tokens, got {self.seen} and {k.shape[2]}")
        self.k, self.v = (x.new_empty(*x.shape[:2], size, x.shape[3]) for x in (k, v))
        self.seen = k.shape[2]
        self.k[:, :, : self.seen], self.v[:, :, : self.seen] = k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.k.ndim == 1:
            self.prefill(k[:, :, :0], v[:, :, :0])
        past = self.seen - self.sinks
        slot = self.seen if past < 0 else self.sinks + past % self.window
        self.k[:, :, slot], self.v[:, :, slot] = k[:, :, 0], v[:, :, 0]
        self.seen += 1
        full = self.seen > self.sinks + self.window
        length = min(self.seen, self.sinks + self.window)
        used = self.k[:, :, :length], self.v[:, :, :length]
        oldest = (past + 1) % self.window if full else 0
        return streaming_decode(q, *used, self.cos, self.sin, sinks=self.sinks, oldest=oldest, impl=self.impl)
