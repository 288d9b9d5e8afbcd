"""Which parts of a GPT block become cheaper a token when sequences are batched, and does counting FLOP and bytes tell?

The parts of a block (Chen 2023) timed by themselves, each over a range of batches: a dense layer and attention to a
cache, one token a sequence, and a whole block on prompts. FLOP and bytes are counted while the products run; the
device's ridge is its measured peak over its measured bandwidth, and the predicted time is the larger of FLOP / peak
and bytes / bandwidth. What differs from the post: a CPU's ridge lies at a few FLOP a byte, where its A100 has 156, so
dense layers are free for some ten sequences, not for hundreds; on a CPU their weights are packed once, as when a model
is loaded, since a plain product packs them at every call; a prompt is one of 128 tokens, 512 on an H100, whose ridge is
twice as high. A sample is the least of three. No kernel of its own: the post measures plain PyTorch.

Changed after a result had been seen, the bounds apart: weights were packed at every call, and the exponent below the
ridge was 0.60; and the least of three samples is taken.
"""

from functools import partial

import torch
from torch import nn
from torch.utils import mkldnn

from kernels import bench
from kernels.attention.multi_query import Attention, multi_head_attention
from kernels.products import Products
from reproductions.lab import training
from reproductions.spec import Check, Ratio, Size, Slope, Value, line

HALFWAY = "half-way between free, an exponent of 0, and proportional, 1"
PROPORTIONAL = "proportional, an exponent of 1, within 25 %"
CHECKS = [
    Check("dense-batching", Slope("ms", "batch", where={"part": "dense", "side": "below the ridge"}, repeat="repeat"),
          at_most=0.5, because=HALFWAY, label="almost free below the ridge"),
    Check("dense-batching", Slope("ms", "batch", where={"part": "dense", "side": "past the ridge"}, repeat="repeat"),
          at_least=0.5, because=HALFWAY, label="until the ridge"),
    Check("attention-batching", Slope("ms", "batch", where={"part": "attention", "judged": True}, repeat="repeat"),
          at_least=0.75, at_most=1.25, because=PROPORTIONAL),
    Check("attention-batching", Ratio("growth", of="long", to="short", by="cache"), above=1.0,
          because="an effect: the largest batch costs less beside a single sequence where they are short",
          label="short sequences benefit"),
    Check("prefill-already-batched", Slope("ms", "batch", where={"part": "prompt", "judged": True}, repeat="repeat"),
          at_least=0.75, at_most=1.25, because=PROPORTIONAL),
    Check("dense-share", Value("dense_share"), at_least=0.5625, at_most=0.9375, computed=True, scale_free=True,
          because="0.75, a count, within 25 %"),
    Check("attention-intensity", Ratio("intensity", of="1", to="64", by="sequences", exact=True), at_least=0.75,
          at_most=1.25, computed=True, scale_free=True, because="1, a count, within 25 %"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, width=1024, batches=[1, 2, 4, 32, 64, 128], heads=8, head_dim=32, caches=[16, 1024],
                  cache_batches=[1, 4, 16], prompts=[128], prompt_batches=[1, 2, 4], repeats=5),
    "cpu": Size(limit_s=300, width=2048, batches=[1, 2, 3, 4, 6, 8, 16, 32, 64, 128, 256], heads=16, head_dim=64,
                caches=[16, 256, 1024], cache_batches=[1, 2, 4, 8, 16], prompts=[16, 128], prompt_batches=[1, 2, 4],
                repeats=8),
    "full": Size(limit_s=900, width=12288, batches=[1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048], heads=96,
                 head_dim=128, caches=[16, 256, 1024, 4096], cache_batches=[1, 2, 4, 8, 16, 32], prompts=[16, 128, 512],
                 prompt_batches=[1, 2, 4, 8], repeats=30, memory_gib=60, scale="paper"),
}  # fmt: skip
LIMITS = {"width": (64, 16384), "batches": (1, 8192), "heads": (1, 128), "head_dim": (8, 256), "caches": (4, 65536),
          "cache_batches": (1, 512), "prompts": (4, 8192), "prompt_batches": (1, 256), "repeats": (5, 100)}  # fmt: skip
PLOTS = [
    line("One token a sequence", x="batch", y="ms", color="kind", where={"part": ["dense", "attention"]},
         x_title="sequences", y_title="ms"),
    line("Prompts through a block", x="batch", y="ms", color="kind", where={"part": "prompt"}, x_title="sequences",
         y_title="ms"),
    line("Roofline", x="intensity", y="gflops", color="part", x_title="FLOP a byte", y_title="GFLOP/s"),
    line("Measured time over the one predicted", x="batch", y="over", color="kind", x_title="sequences",
         y_title="measured / predicted"),
]  # fmt: skip
LEAST_OF = 3


@torch.no_grad()
def run(lab, width, batches, heads, head_dim, caches, cache_batches, prompts, prompt_batches, repeats):
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    lab.progress("counting", 0, 1)
    _count(lab)
    roof = bench.roofline(lab.device, dtype)
    lab.row(ridge=roof.flops / roof.bytes, threads=torch.get_num_threads())
    measure = partial(_measure, lab, roof, repeats)
    stages: list[tuple] = [("dense", _dense, (measure, width, batches, lab.device, dtype))]
    stages += [("cache", _cached, (lab, measure, heads, head_dim, n, caches, cache_batches, dtype)) for n in caches]
    stages += [("prompt", _prompts, (measure, heads, head_dim, n, prompts, prompt_batches, lab.device, dtype))
               for n in prompts]  # fmt: skip
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(f"{name} {done + 1} of {len(stages)}", done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _measure(lab, roof, repeats, part, kind, calls, judged=True, timed=None):
    """Rows of calls, one a batch, interleaved; what each must do is counted beforehand. Milliseconds by batch."""
    counted = {}
    for batch, call in calls.items():
        with Products() as count:
            call()
        counted[batch] = count.flops, count.moved
    rounds = lab.time(LEAST_OF * repeats, **{str(batch): call for batch, call in (timed or calls).items()})
    times = {name: [min(found[i::repeats]) for i in range(repeats)] for name, found in rounds.items()}
    for batch, (flops, moved) in counted.items():
        predicted = max(flops / roof.flops, moved / roof.bytes) * 1e3
        side = "below the ridge" if flops / moved <= roof.flops / roof.bytes else "past the ridge"
        lab.row(part=part, kind=f"{kind}, predicted", batch=batch, ms=predicted)
        for i, ms in enumerate(times[str(batch)]):
            lab.row(part=part, kind=kind, batch=batch, repeat=i, ms=ms, side=side, judged=judged, over=ms / predicted,
                    intensity=flops / moved, gflops=flops / ms / 1e6)  # fmt: skip
    return {batch: times[str(batch)] for batch in calls}


def _dense(measure, width, batches, device, dtype):
    """The feed-forward layer's first product, [b, h] x [h, 4h]."""
    x = torch.randn(max(batches), width, device=device).to(dtype)
    layer = nn.Linear(width, 4 * width, bias=False, device=device, dtype=dtype)
    packed = mkldnn.to_mkldnn(layer) if device == "cpu" and torch.backends.mkldnn.is_available() else layer
    plain, timed = ({batch: partial(one, x[:batch]) for batch in batches} for one in (layer, packed))
    measure("dense", "dense", plain, timed=timed)


def _cached(lab, measure, heads, head_dim, n, caches, batches, dtype):
    """One query a sequence to its own n keys; growth is what the largest batch costs beside the smallest."""
    q, k, v = (torch.randn(max(batches), heads, m, head_dim, device=lab.device).to(dtype) for m in (1, n, n))
    calls = {batch: partial(multi_head_attention, q[:batch], k[:batch], v[:batch]) for batch in batches}
    times = measure("attention", f"attention, s = {n}", calls, judged=n >= 256)
    if n in (min(caches), max(caches)):
        cache = "short" if n == min(caches) else "long"
        for i, (small, large) in enumerate(zip(times[min(batches)], times[max(batches)], strict=True)):
            lab.row(cache=cache, repeat=i, growth=large / small)


def _prompts(measure, heads, head_dim, n, prompts, batches, device, dtype):
    """Prompts of n tokens through a whole block."""
    block = _block(heads, head_dim).to(device, dtype)
    x = torch.randn(max(batches), n, heads * head_dim, device=device).to(dtype)
    calls = {batch: partial(block, x[:batch]) for batch in batches}
    measure("prompt", f"prompts, s = {n}", calls, judged=n == max(prompts))


def _block(heads, head_dim):
    """A block of a GPT: multi-head attention, a feed-forward layer four times as wide."""
    width = heads * head_dim
    return training.Block(width, Attention(width, heads, head_dim, shared=False), 4 * width)


def _count(lab):
    """Parameters of a block; FLOP an element that cached attention moves, with 1 sequence and with 64."""
    block = _block(4, 16)
    qkv = sum(p.numel() for p in (block.attention.p_q.weight, block.attention.p_k.weight, block.attention.p_v.weight))
    matrices = sum(p.numel() for p in block.parameters() if p.dim() == 2)
    lab.row(dense_share=1 - qkv / matrices)
    for batch in (1, 64):
        q, k, v = (torch.randn(batch, 4, m, 16) for m in (1, 128, 128))
        with Products() as count:
            multi_head_attention(q, k, v)
        lab.row(sequences=str(batch), intensity=4 * count.flops / count.moved)
