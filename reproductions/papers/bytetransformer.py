"""How much time does removing padding save in each part of an encoder, and is the output identical?

ByteTransformer (Zhai et al. 2022): one encoder layer on padded batches, with only its dense layers packed, and packed
throughout with the bundled fused attention. What differs from the paper: a layer, not a whole BERT, random weights;
PyTorch is today's; packed dense layers around padded attention stand for FasterTransformer's removal of padding, since
the frameworks of 2022 are not run here. On a CPU the packed attention walks over the sequences one by one, up to 256
tokens long: with 512 the run took more than its time on a busy machine.
"""

from functools import partial

import torch
from torch.nn.functional import gelu, scaled_dot_product_attention

from kernels.attention.packed import packed_attention
from kernels.encoder.layer import EncoderLayer, random_lengths
from kernels.encoder.packing import Packing
from kernels.products import Products
from kernels.testing import error_ratio
from reproductions.spec import Check, Max, Ratio, Size, line

WITHIN = "the cost of a {}, within 25 %"
CHECKS = [
    Check("exactness", Max("error_ratio"), at_most=2.0, scale_free=True,
          because="twice the padded layer's own error in the same dtype, on real tokens"),
    Check("fused-mha", Ratio("attention_ms", of="padded", to="packed", best="longest"), at_least=2.476, needs="cuda",
          because="half of the stated 6.13x on a log scale, at our best length"),
    Check("end-to-end", Ratio("layer_ms", of="packed dense", to="packed", best="longest"), at_least=1.245, needs="cuda",
          because="half of the stated 1.55x over FasterTransformer on a log scale; packed dense layers around padded "
          "attention stand for it"),
    Check("bert-table", Ratio("layer_ms", of="padded", to="packed", where={"last": True}), at_least=1.466, needs="cuda",
          because="half of the stated 2.15x on a log scale, at the longest of our lengths"),
    Check("padding-gain", Ratio("row_us", of="padded", to="packed", where={"last": True}), at_least=0.75, at_most=1.25,
          label="dense layers", because=WITHIN.format("row is the same, so that the gain is 1 / alpha")),
    Check("padding-gain", Ratio("flops_a_pair", of="padded", to="packed", exact=True), at_least=0.75, at_most=1.25,
          label="attention", scale_free=True, because=WITHIN.format("pair of tokens is the same: sum L^2 of them")),
    Check("padding-gain", Ratio("layer_ms", of="padded", to="packed", where={"last": True}), above=1.0, label="a layer",
          because="an effect: faster without padding"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, width=48, heads=4, hidden=192, sequences=4, lengths=[32, 64], share=0.6, repeats=6),
    "cpu": Size(limit_s=300, width=384, heads=12, hidden=1536, sequences=16, lengths=[64, 128, 256], share=0.6,
                repeats=8),
    "full": Size(limit_s=900, width=768, heads=12, hidden=3072, sequences=16, lengths=[64, 128, 256, 512, 1024],
                 share=0.6, repeats=50, scale="paper"),
}  # fmt: skip
LIMITS = {"width": (16, 4096), "heads": [1, 2, 4, 8, 12, 16], "hidden": (16, 16384), "sequences": (2, 256),
          "lengths": (8, 2048), "share": (0.5, 1.0), "repeats": (5, 1000)}  # fmt: skip
PLOTS = [
    line("Time of a layer", x="longest", y="layer_ms", color="method", x_title="longest sequence", y_title="ms"),
    line("Gain against the share of real tokens", x="alpha", y="gain", color="method", log=(),
         x_title="alpha, the share of real tokens", y_title="padded / packed"),
    line("Time of its parts, longest batch", x="part", y="part_ms", color="method", log=(), y_title="ms")
    | {"mark": "bar"},
]  # fmt: skip
SHARES = (0.5, 0.7, 0.85, 1.0)


def run(lab, width, heads, hidden, sequences, lengths, share, repeats):
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    layer = EncoderLayer(width, heads, hidden).to(lab.device)
    draw = torch.Generator().manual_seed(lab.seed)
    batches = [Packing.of(random_lengths(sequences, n, share, draw), n, lab.device) for n in lengths]
    shares = [Packing.of(random_lengths(sequences, lengths[-1], s, draw), lengths[-1], lab.device) for s in SHARES]
    fast = EncoderLayer(width, heads, hidden).to(lab.device, dtype)
    stages: list[tuple] = [("exactness", _exactness, (lab, layer, packing)) for packing in batches]
    stages += [("counting", _count, (lab, layer, batches[-1]))]
    stages += [(f"a layer, up to {packing.padded}", _time, (lab, fast, packing, repeats, packing is batches[-1]))
               for packing in batches]  # fmt: skip
    stages += [("by share", _by_share, (lab, fast, packing, repeats)) for packing in shares]
    stages += [("its parts", _parts, (lab, fast, batches[-1], repeats))]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _inputs(lab, layer, packing):
    """(B, S, E), its padding filled with noise as large as the tokens."""
    shape = len(packing.lengths), packing.padded, layer.qkv.in_features
    return torch.randn(shape, device=lab.device).to(layer.qkv.weight.dtype)


def _exactness(lab, layer, packing):
    """Real tokens of both packed ways, against the padded layer in float64, beside the padded layer."""
    for dtype in (torch.float32, torch.float16) if lab.device == "cuda" else (torch.float32,):
        one, x = layer.to(dtype), _inputs(lab, layer.to(dtype), packing)
        padded = packing.pack(one.padded(x, packing.mask))
        found = {"packed": one.packed(packing.pack(x), packing),
                 "packed dense": one.packed(packing.pack(x), packing, padded_attention=True)}  # fmt: skip
        exact = packing.pack(layer.double().padded(x.double(), packing.mask))
        for method, out in found.items():
            lab.row(method=method, dtype=str(dtype).removeprefix("torch."), longest=packing.padded, alpha=packing.share,
                    error_ratio=error_ratio(out, padded, exact))  # fmt: skip
    layer.float()


def _heads(lab, layer, packing):
    """q, k and v of a batch: packed (T, H, D), and padded (B, H, S, D)."""
    packed = layer.qkv(packing.pack(_inputs(lab, layer, packing))).unflatten(-1, (3, layer.heads, -1)).unbind(1)
    return packed, [packing.unpack(x).transpose(1, 2) for x in packed]


def _unfused(q, k, v, mask):
    """Padded attention by two products and a softmax, as PyTorch ran it in 2022."""
    scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


def _count(lab, layer, packing):
    """Operations of attention's products, for each pair of tokens that there is."""
    (q, k, v), (wide_q, wide_k, wide_v) = _heads(lab, layer, packing)
    pairs = {"padded": len(packing.lengths) * packing.padded**2, "packed": sum(n * n for n in packing.lengths)}
    calls = {
        "padded": partial(_unfused, wide_q, wide_k, wide_v, packing.mask),
        "packed": partial(packed_attention, q, k, v, packing.offsets, impl="torch"),
    }
    for method, call in calls.items():
        with Products() as count:
            call()
        lab.row(method=method, alpha=packing.share, flops_a_pair=count.batched_flops / pairs[method])


def _ways(lab, layer, packing):
    x = _inputs(lab, layer, packing)
    rows = packing.pack(x)
    return {
        "padded": partial(layer.padded, x, packing.mask),
        "packed dense": partial(layer.packed, rows, packing, True),
        "packed": partial(layer.packed, rows, packing),
    }


def _time(lab, layer, packing, repeats, last):
    """The layer, its attention and its dense layers alone."""
    common = {"longest": packing.padded, "last": last, "alpha": packing.share}
    for method, samples in lab.time(repeats, **_ways(lab, layer, packing)).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, repeat=i, layer_ms=ms, **common)
    (q, k, v), (wide_q, wide_k, wide_v) = _heads(lab, layer, packing)
    calls = {
        "padded": partial(_unfused, wide_q, wide_k, wide_v, packing.mask),
        "PyTorch's fused": partial(scaled_dot_product_attention, wide_q, wide_k, wide_v, packing.mask),
        "packed": partial(packed_attention, q, k, v, packing.offsets, lengths=packing.lengths),
    }
    for method, samples in lab.time(repeats, **calls).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, repeat=i, attention_ms=ms, **common)
    x = _inputs(lab, layer, packing).flatten(0, 1)
    rows = {"padded": x, "packed": x[packing.rows]}
    for method, samples in lab.time(repeats, **{name: partial(_dense, layer, r) for name, r in rows.items()}).items():
        for i, ms in enumerate(samples):
            lab.row(method=method, repeat=i, row_us=ms * 1000 / len(rows[method]), **common)


def _dense(layer, x):
    """The four dense layers, on rows."""
    return layer.down(gelu(layer.up(layer.out(layer.qkv(x)[:, : x.shape[1]]))))


def _by_share(lab, layer, packing, repeats):
    times = lab.time(repeats, **_ways(lab, layer, packing))
    for method in ("packed dense", "packed"):
        for i, (padded, ms) in enumerate(zip(times["padded"], times[method], strict=True)):
            lab.row(method=method, alpha=round(packing.share, 2), repeat=i, gain=padded / ms)


def _parts(lab, layer, packing, repeats):
    """Milliseconds of each part on its own."""
    (q, k, v), (wide_q, wide_k, wide_v) = _heads(lab, layer, packing)
    x = _inputs(lab, layer, packing)
    attend = {
        "padded": partial(scaled_dot_product_attention, wide_q, wide_k, wide_v, packing.mask),
        "packed": partial(packed_attention, q, k, v, packing.offsets, lengths=packing.lengths),
    }
    for method, rows in (("padded", x.flatten(0, 1)), ("packed", packing.pack(x))):
        calls = {"qkv": partial(layer.qkv, rows), "attention": attend[method], "output": partial(layer.out, rows),
                 "up": partial(layer.up, rows), "down": partial(layer.down, layer.up(rows)),
                 "norm": partial(layer.norms[0], rows)}  # fmt: skip
        for part, samples in lab.time(repeats, **calls).items():
            for i, ms in enumerate(samples):
                lab.row(method=method, part=part, repeat=i, part_ms=ms)
