"""Does splitting the keys over the device keep decoding exact, and its time flat while the context grows?

Flash-Decoding (Dao et al. 2023): one query, many keys, 16 query heads and 2 key heads of size 128, at a fixed number of
tokens in all. What differs from the paper: an H100 in place of an A100; FlashAttention is our own kernel without
splits, one program a query head, for which the published times of version 2.0.9 leave more to gain; CodeLlama-34B is
one block of its shape, the share of one of four GPUs, with random weights; a split leaves its maximum and its sum
rather than the logarithm. On a CPU, one thread a split stands for one multiprocessor a split, and says no more.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention import flash
from kernels.attention.combine import combine
from kernels.attention.grouped_query import GroupedAttention, grouped_query_attention
from kernels.attention.split_kv import attend_split, decoding_reference, split_kv_attention, splits_for
from kernels.testing import error, error_ratio
from reproductions.lab import decoding, training
from reproductions.spec import Check, Max, Ratio, Size, Value, bars, line

HALF = "half of the stated {} on a log scale"
CHECKS = [
    Check("exactness", Max("error_ratio"), at_most=2.0, scale_free=True,
          because="twice the error of standard attention in the same dtype, for any number of splits"),
    Check("constant-time", Ratio("ms", of="longest", to="shortest", by="setting", where={"method": "Flash-Decoding"}),
          at_most=1.28, needs="cuda", because="1.02, constant within 25 %"),
    Check("attention-speedup", Ratio("ms", of="FlashAttention", to="Flash-Decoding", where={"setting": "twice"}),
          at_least=6.56, needs="cuda", because=HALF.format("43x"), label="131072 tokens"),
    Check("attention-speedup", Ratio("ms", of="one thread", to="a thread a split"), above=1.0,
          because="an effect: one query of one head is faster with its keys on two threads", label="on two threads"),
    Check("gain-large-batch", Ratio("ms", of="FlashAttention", to="Flash-Decoding", where={"setting": "shortest"}),
          at_least=2.49, needs="cuda", because=HALF.format("6.2x")),
    Check("end-to-end", Ratio("token_ms", of="FlashAttention", to="Flash-Decoding", best="context"), at_least=2.83,
          needs="cuda", because=HALF.format("8x") + ", at our best length"),
    Check("occupancy", Value("share", where={"grid": "one head"}), at_most=0.01, computed=True, scale_free=True,
          because="one program on 108 multiprocessors", label="one head"),
    Check("occupancy", Value("share", where={"grid": "16 heads, FlashAttention"}), at_most=0.01, scale_free=True,
          because="the stated share, at the blog's own 16 query heads", label="the benchmark's heads"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, keys=[100], tokens=512, batches=[4, 1], head_dim=32, repeats=5, threaded=2**16, width=64,
                  hidden=64, contexts=[64, 256], splits=[1, 4]),
    "cpu": Size(limit_s=300, keys=[100, 1000], tokens=16384, batches=[64, 16, 4, 1], head_dim=128, repeats=10,
                threaded=2**17, width=512, hidden=512, contexts=[512, 2048, 8192], splits=[1, 4, 16, 64]),
    "full": Size(limit_s=900, keys=[100, 1000, 10000], tokens=65536, batches=[256, 128, 64, 32, 16, 8, 4, 2, 1],
                 head_dim=128, repeats=30, threaded=2**17, width=8192, hidden=8256, contexts=[512, 4096, 16384, 65536],
                 splits=[1, 2, 4, 8, 16, 32, 64, 128],
                 memory_gib=16, scale="paper"),
}  # fmt: skip
LIMITS = {"keys": (1, 2**17), "tokens": (64, 2**20), "batches": (1, 1024), "head_dim": (16, 256), "repeats": (5, 1000),
          "threaded": (64, 2**22), "width": (64, 16384), "hidden": (64, 65536), "contexts": (16, 2**20),
          "splits": (1, 128)}  # fmt: skip
PLOTS = [
    line("Time at a fixed number of tokens in all", x="n", y="ms", color="method", where={"sweep": "batch"},
         x_title="tokens a sequence", y_title="ms"),
    line("Time of one sequence", x="splits", y="ms", where={"sweep": "splits"}, x_title="splits", y_title="ms"),
    line("Time a token of one block", x="context", y="token_ms", color="method", x_title="tokens seen", y_title="ms"),
    bars("Multiprocessors at work, batch 1, 108 in all", x="grid", y="share", y_title="share"),
]  # fmt: skip
HEADS, GROUPS, A100 = 16, 2, 108


def run(lab, keys, tokens, batches, head_dim, repeats, threaded, width, hidden, contexts,
        splits):  # fmt: skip
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    draw = partial(_draw, lab.device, dtype, head_dim)
    sizes = sorted({(b, tokens // b, "batch") for b in batches}, key=lambda size: size[1]) + [(1, 2 * tokens, "twice")]
    names = {sizes[0][1]: "shortest", sizes[-2][1]: "longest", 2 * tokens: "twice"}
    stages: list[tuple] = [("exactness", _exactness, (m,)) for m in keys]
    stages += [("grids", _grids, (tokens,))]
    stages += [("time", _time, (partial(draw, b, n), b, n, sweep, names.get(n, "between"), repeats))
               for b, n, sweep in sizes]  # fmt: skip
    stages += [
        ("splits", _splits, (partial(draw, 1, tokens), splits, repeats)),
        ("threads", _threads, (threaded, repeats)),
    ]
    stages += [("a block", _block, (width, hidden, head_dim, n, dtype, repeats)) for n in contexts]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(lab, *arguments)
    lab.progress("done", len(stages), len(stages))


def _draw(device, dtype, d, b, n, heads=HEADS, groups=GROUPS):
    return tuple(torch.randn(b, h, m, d, device=device).to(dtype) for h, m in ((heads, 1), (groups, n), (groups, n)))


def _exactness(lab, m):
    """Any number of splits, lengths of their own (a split may see nothing), against float64."""
    lengths = torch.tensor([m, m - 1, m // 2, 1] * 4, device=lab.device)
    for dtype in (torch.float32, torch.float16):
        q, k, v = _draw(lab.device, dtype, 32, len(lengths), m)
        exact = decoding_reference(q.double(), k.double(), v.double(), lengths)
        peer = decoding_reference(q, k, v, lengths)
        for splits in (1, 2, 3, 8, min(m, 128)):
            found = split_kv_attention(q, k, v, lengths, splits=splits)
            lab.row(n=m, splits=splits, dtype=str(dtype).removeprefix("torch."), error=error(found, exact),
                    error_ratio=error_ratio(found, peer, exact))  # fmt: skip


def _grids(lab, tokens):
    """Programs on the A100's multiprocessors at batch 1: FlashAttention's grid, and ours."""
    blocks = -(-1 // flash.tile_sizes(128, 2)[0])  # of queries
    splits = splits_for(GROUPS, tokens, 64, torch.device("cpu"))
    grids = {"one head": blocks, f"{HEADS} heads, FlashAttention": HEADS * blocks, "Flash-Decoding": GROUPS * splits}
    for name, programs in grids.items():
        lab.row(grid=name, share=min(1.0, programs / A100))


def _ungrouped(q, k, v):
    """FlashAttention: no splits, one program a query head, which reads its group's keys for itself."""
    repeat = q.shape[1] // k.shape[1]
    if not q.is_cuda:  # where a product of views of one matrix would first copy it for each head
        group = [(h, h // repeat) for h in range(q.shape[1])]
        alone = [split_kv_attention(q[:, h, None], k[:, g, None], v[:, g, None], splits=1) for h, g in group]
        return torch.cat(alone, 1)
    k, v = (x.flatten(0, 1)[:, None].expand(-1, repeat, -1, -1) for x in (k, v))
    return split_kv_attention(q.unflatten(1, (-1, repeat)).flatten(0, 1), k, v, splits=1).view_as(q)


METHODS = {"eager": grouped_query_attention, "FlashAttention": _ungrouped,
           "one split": partial(split_kv_attention, splits=1), "Flash-Decoding": split_kv_attention,
           "PyTorch's fused": partial(scaled_dot_product_attention, enable_gqa=True)}  # fmt: skip


def _time(lab, draw, b, n, sweep, setting, repeats):
    d = draw()[0].shape[3]
    read = 2 * b * GROUPS * n * d * draw()[1].itemsize
    times = lab.time(repeats, draw, flops=4 * b * HEADS * n * d, read=read, **METHODS)
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(sweep=sweep, setting=setting, method=method, batch=b, n=n, repeat=i, ms=ms,
                    gb_per_s=read / ms / 1e6)  # fmt: skip


def _splits(lab, draw, counts, repeats):
    methods = {str(s): partial(split_kv_attention, splits=s) for s in counts}
    for splits, samples in lab.time(repeats, draw, **methods).items():
        for i, ms in enumerate(samples):
            lab.row(sweep="splits", splits=int(splits), repeat=i, ms=ms)


def _threads(lab, n, repeats):
    """One query of one head over n keys on a CPU: by one thread, and half the keys by each of two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(time.sleep, [0.05, 0.05]))  # both are there before the clock starts
        draw = partial(_draw, "cpu", torch.float32, 128, 1, n, 1, 1)
        methods = {"one thread": partial(_by_threads, map, 1), "a thread a split": partial(_by_threads, pool.map, 2)}
        times = lab.time(repeats, draw, **methods)
    torch.set_num_threads(before)
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, repeat=i, ms=ms)


def _by_threads(map_, splits, q, k, v):
    """Steps 2 and 3 of the method, a split for each thread."""
    see = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    found = list(
        map_(lambda k, v: attend_split(q, k, v, see, q.shape[3] ** -0.5), *(x.chunk(splits, 2) for x in (k, v)))
    )
    return combine(*map(list, zip(*found, strict=True)))


@torch.no_grad()
def _block(lab, width, hidden, d, n, dtype, repeats):
    """One token through a block whose cache holds n - 1; the cache is put back after each step."""
    layer = GroupedAttention(width, HEADS, d, GROUPS)
    block = training.Block(width, layer, hidden).to(lab.device, dtype)
    x = torch.randn(1, 1, width, device=lab.device).to(dtype)
    cache = layer.new_cache(1, n)
    cache.k.normal_(), cache.v.normal_()

    def step(attend):
        layer.attend, cache.length = attend, n - 1
        return decoding.step(block, x, cache)

    calls = {name: partial(step, METHODS[name]) for name in ("FlashAttention", "Flash-Decoding")}
    for method, samples in lab.time(repeats, **calls).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, context=n, repeat=i, token_ms=ms)
