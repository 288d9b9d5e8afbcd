"""Does a language model keep its perplexity when all products get E4M3 inputs, where int8 loses it, and does it train?

FP8 formats (Micikevicius et al. 2022): all 256 codes of both against PyTorch's types; a model after training, with the
inputs of all products of its layers (attention's too) rounded, weights by output channel, activations by tensor with
the best of three calibrations, E4M3 beside int8; one exponent bias for all instead, with the residual stream rounded as
well; and a small model trained with E4M3 inputs and E5M2 gradients. What differs from the paper: a 135M Llama-like
model, whose weights come from a 4-bit grid, on one novel instead of GPT3 126M to 6.7B on WikiText-103 (its scaling
claim is for 1.3B); training is of byte-level models for minutes, attention's own products not rounded. Scales are set
on a part of the text that is not measured. Embedding and last projection are never rounded, here as there by choice.

Changed after results had been seen, the bounds apart: the text is the novel without its front matter, and the one bias
for all is the best of a wider range, which helps it.
"""

import torch
from torch import nn

from kernels.attention.grouped_query import GroupedAttention
from kernels.gemm import fp8
from reproductions.lab import casting, models, training
from reproductions.spec import Check, Max, Ratio, Size, Untested, Value, bars, line


def _perplexity(of: str, to: str) -> Ratio:
    return Ratio("nll", of=of, to=to, pair="block", transform="exp")


CHECKS = [
    Check("format-range", Value("largest", where={"format": "E4M3"}), at_least=448, at_most=448, scale_free=True,
          computed=True, because="the stated value, exactly", label="E4M3"),
    Check("format-range", Max("wrong"), at_most=0, scale_free=True, computed=True, label="all codes, whole table",
          because="codes, roundings and stated ranges that differ"),
    Check("ptq-small", _perplexity("int8", "E4M3"), at_least=1.208, label="int8 loses",
          because="half of the stated 1.46x on a log scale"),
    Check("ptq-small", _perplexity("E4M3", "fp32"), at_most=1.0447, label="E4M3 keeps",
          because="twice the stated rise, 19.01 to 19.43, on a log scale"),
    Untested("ptq-larger", "needs the authors' GPT3 models of 1.3B and 6.7B, which are not public", needs="cuda"),
    Untested("ptq-bert", "needs BERT fine-tuned on SQuAD and that data set", needs="cuda"),
    Check("training", Ratio("loss", of="FP8", to="fp32", by="training", pair="seed", transform="exp"), at_most=1.0104,
          because="twice the stated rise, 0.52 %, on a log scale; perplexity a byte"),
    Check("scaling-needed", _perplexity("single bias", "fp32"), at_least=1.1115, label="a single bias fails",
          because="half of the stated rise, 10.19 to 12.59, on a log scale"),
    Check("scaling-needed", _perplexity("single bias", "per-tensor scaling"), at_least=1.098, label="scaling restores",
          because="half of the stated fall, 12.59 to 10.44, on a log scale"),
    Check("scaling-needed", _perplexity("per-tensor scaling", "fp32"), at_most=1.0497, label="nearly all of it",
          because="twice the stated rise, 10.19 to 10.44, on a log scale"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, model=models.DEFAULT, depth=1, tokens=96, calibration=48, biases=[0], width=16, layers=1,
                  steps=4, seeds=5, pieces=8),
    "cpu": Size(limit_s=300, model=models.DEFAULT, depth=30, tokens=512, calibration=128, biases=[-8, -6, -4, -2, 0],
                width=64, layers=2, steps=100, seeds=5, pieces=200),
    "full": Size(limit_s=1800, model=models.DEFAULT, depth=30, tokens=4096, calibration=2048, biases=list(range(-9, 5)),
                 width=512, layers=6, steps=4000, seeds=5, pieces=1000, memory_gib=40),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "depth": (1, 200), "tokens": (32, 8192),
          "calibration": (32, 8192), "biases": (-20, 20), "width": (16, 2048), "layers": (1, 24),
          "steps": (1, 100_000), "seeds": (5, 20), "pieces": (1, 1000)}  # fmt: skip
PLOTS = [
    bars("Perplexity with rounded inputs", x="method", y="perplexity", color="rounded", log=("y",)),
    line("One scale 2^k for all, E4M3", x="bias", y="perplexity_set", color="rounded", log=("y",), x_title="k",
         y_title="perplexity (calibration text)"),
    line("Relative rounding error", x="magnitude", y="rounding", color="format", y_title="largest relative error"),
    bars("Loss after training", x="training", y="loss", y_title="nats a byte"),
]  # fmt: skip
KINDS = {"int8": "int8", "E4M3": "e4m3", "E5M2": "e5m2"}
STATED = {"E4M3": (448.0, 2.0**-6, 2.0**-9, 18), "E5M2": (57344.0, 2.0**-14, 2.0**-16, 32)}  # Table 1; binades
CONTEXT, HEADS, BLOCKS = 64, 8, 16


def run(lab, model, depth, tokens, calibration, biases, width, layers, steps, seeds, pieces):
    _formats(lab)
    lm, tokenizer = lab.model(model)
    lm.model.layers = lm.model.layers[:depth]
    text = lab.text()
    start = len(text) // 3  # the novel itself, not its front matter
    ids = tokenizer(text[start : start + 16 * (tokens + calibration)], return_tensors="pt").input_ids.to(lab.device)
    chosen, measured = ids[:, :calibration], ids[:, calibration : calibration + tokens]
    seen = casting.Seen()
    casting.token_losses(lm, chosen, seen)
    stages: list[tuple] = [("after training", _post_training, (lab, lm, seen, chosen, measured))]
    stages += [("one bias", _single_bias, (lab, lm, seen, chosen, measured, biases))]
    stages += [
        (f"training, seed {seed}", _training, (lab, width, layers, steps, seed, pieces)) for seed in range(seeds)
    ]
    for done, (name, stage, arguments) in enumerate(stages):
        lab.progress(name, done, len(stages))
        stage(*arguments)
    lab.progress("done", len(stages), len(stages))


def _formats(lab):
    """Codes that PyTorch reads otherwise than by the paper's rules, wrong roundings, other ranges than stated."""
    draw = torch.Generator().manual_seed(lab.seed)
    for name, (largest, normal, least, binades) in STATED.items():
        kind, of = KINDS[name], fp8.FORMATS[KINDS[name]]
        read = torch.arange(256, dtype=torch.uint8).view(of.dtype).double()
        rules = torch.tensor([of.decode(code) for code in range(256)], dtype=torch.float64)
        positive = read[:128][read[:128].isfinite() & (read[:128] > 0)]
        x = torch.randn(100_000, generator=draw) * 2.0 ** torch.randint(-18, 17, (100_000,), generator=draw)
        rounded = fp8.quantise(x[None].to(lab.device), kind, scale=torch.ones((), device=lab.device))[0][0]
        found = positive.max().item(), read[1 << of.mantissa].item(), positive.min().item()
        span = int(positive.max().log2().floor() - positive.min().log2()) + 1
        wrong = int((~(read.eq(rules) | read.isnan() & rules.isnan())).sum())
        wrong += int((rounded.double().cpu() != fp8.round_reference(x.double(), kind)).sum())
        wrong += sum(a != b for a, b in zip((*found, span), (largest, normal, least, binades), strict=True))
        lab.row(format=name, largest=found[0], binades=span, wrong=wrong)
    for name, kind in KINDS.items():
        for power in range(-18, 9):
            x = 2.0**power * (1 + torch.rand(2000, generator=draw)).clamp(max=1.75)
            error = (casting.cast(x, kind, 127 / 448 if kind == "int8" else 1.0) - x).abs() / x
            lab.row(format=name, magnitude=2.0**power, rounding=error.max().item())


def _tell(lab, method, losses, rounded):
    lab.row(method=method, rounded=rounded, perplexity=losses.mean().exp().item())
    if rounded != "weights":
        for i, part in enumerate(losses.tensor_split(BLOCKS)):
            lab.row(method=method, block=i, nll=part.mean().item())


def _post_training(lab, lm, seen, chosen, measured):
    """Weights a scale a channel; activations a scale a site, by the calibration that is best on the text chosen by."""
    _tell(lab, "fp32", casting.token_losses(lm, measured, casting.unrounded), "nothing")
    for name, kind in KINDS.items():
        with casting.cast_weights(lm, kind):
            _tell(lab, name, casting.token_losses(lm, measured, casting.unrounded), "weights")
            ways = [casting.rounding(kind, seen.scales(kind, how)) for how in ("max", "percentile", "mse")]
            best = min(ways, key=lambda way: casting.token_losses(lm, chosen, way).mean().item())
            _tell(lab, name, casting.token_losses(lm, measured, best), "weights and activations")


def _single_bias(lab, lm, seen, chosen, measured, biases):
    """E4M3 with the residual stream: the best single scale 2^k, then a scale a tensor."""
    found = {}
    scaled = casting.rounding("e4m3", seen.scales("e4m3", "max"), True)
    with casting.cast_weights(lm, "e4m3"):
        level = casting.token_losses(lm, chosen, scaled).mean().exp().item()
        _tell(lab, "per-tensor scaling", casting.token_losses(lm, measured, scaled), "and the residual stream")
    for k in biases:
        with casting.cast_weights(lm, "e4m3", 2.0**k):
            for residual, rounded in ((False, "products"), (True, "products and residual stream")):
                losses = casting.token_losses(lm, chosen, casting.rounding("e4m3", 2.0**k, residual))
                lab.row(bias=k, rounded=rounded, perplexity_set=losses.mean().exp().item())
            found[k] = losses.mean().item()
        lab.row(bias=k, rounded="both, with a scale a tensor", perplexity_set=level)
    best = min(found, key=found.__getitem__)
    with casting.cast_weights(lm, "e4m3", 2.0**best):
        losses = casting.token_losses(lm, measured, casting.rounding("e4m3", 2.0**best, True))
    _tell(lab, "single bias", losses, "and the residual stream")


def _training(lab, width, layers, steps, seed, pieces):
    data, rest = training.corpus(lab.text(), lab.device)
    for name in ("fp32", "FP8"):
        torch.manual_seed(1000 * lab.seed + seed)
        blocks = [training.Block(width, GroupedAttention(width, HEADS, width // HEADS, HEADS), 4 * width)
                  for _ in range(layers)]  # fmt: skip
        for module in [m for block in blocks for m in block.modules() if type(m) is nn.Linear]:
            module.__class__ = fp8.FP8Linear if name == "FP8" else nn.Linear  # the same weights, other products
        model = training.ByteModel(width, CONTEXT, blocks).to(lab.device)
        training.fit(model, data, steps=steps, batch=16, context=CONTEXT, seed=1000 * lab.seed + seed)
        lab.row(training=name, seed=seed, loss=training.validate(model, rest, CONTEXT, pieces))
