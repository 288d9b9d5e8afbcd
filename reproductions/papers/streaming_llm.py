"""Does perplexity break when the first tokens leave a sliding cache, and do a few sinks repair it?

Perplexities come from the exact parallel form of StreamingLLM (Xiao et al. 2023), over tokens after the cache is full,
at one cache size and on one text; re-computing the window is measured at sampled tokens. "fresh" starts anew
shortly before the last quarter of the text. Speed: a step with a full cache against a forward pass over as many tokens.
Changed after a result was seen, to save time: all policies stand side by side on texts of 160 tokens for 192.
"""

import torch

from kernels.cache.streaming import StreamingCache, streaming_attention
from reproductions.lab import models, policies
from reproductions.spec import Check, ParameterError, Ratio, Size, bars, line

SINKS = 4  # the paper's own setting
EFFECT = "an effect: better than none"
REPAIRED = "what the paper itself calls repaired: 5.60 against 5.40"
ENOUGH = "half, on a log scale, of the last gain the paper still takes: 2 to 4 sinks, 10.51 to 9.59"
STABLE = "the end of a long stream against a fresh start, within " + REPAIRED
FASTER = "half of the stated 22.2x on a log scale, at our best cache size; a GPU's figure"


def _perplexity(of: str, to: str, **where) -> Ratio:
    return Ratio("nll", of=of, to=to, pair="block", where=where, transform="exp")


SAMPLED = Ratio("sampled_nll", of="sinks-4", to="recompute", pair="position", transform="exp")
SPEED = Ratio("ms", of="recompute", to="streaming", best="cache")
CHECKS = [
    Check("window-collapses", _perplexity("window", "sinks-4"), above=1.0, because=EFFECT),
    Check("newline-sinks", _perplexity("newlines-4", "sinks-4"), at_most=1.04, because=REPAIRED, label="as good"),
    Check("newline-sinks", _perplexity("window", "newlines-4"), above=1.0, because=EFFECT, label="they repair"),
    Check("four-sinks", _perplexity("window", "sinks-4"), above=1.0, because=EFFECT, label="4 against none"),
    Check("four-sinks", _perplexity("sinks-4", "sinks-8"), at_most=1.047, because=ENOUGH, label="4 against 8"),
    Check("stable-long", _perplexity("sinks-4", "fresh", late=True), at_most=1.04, because=STABLE, needs="cuda"),
    Check("speedup-recompute", SPEED, at_least=4.71, because=FASTER, label="speed", needs="cuda"),
    Check("speedup-recompute", SAMPLED, at_most=1.04, because=REPAIRED, label="equal perplexity"),
]
SAME, SHAPE = "the measured model", "Llama-2-7B"  # the shape has random weights: times do not depend on them
SIZES = {
    "smoke": Size(limit_s=60, model=models.DEFAULT, tokens=272, cache=96, sinks=[4, 8], block=8, samples=8,
                  timed=SAME, timed_caches=[32], repeats=5, beside=1, beside_tokens=40, beside_budgets=[50]),
    "cpu": Size(limit_s=300, model=models.DEFAULT, tokens=2048, cache=256, sinks=[1, 2, 4, 8], block=32, samples=32,
                timed=SAME, timed_caches=[64, 128, 256], repeats=6, beside=2, beside_tokens=160,
                beside_budgets=[20, 50]),
    "full": Size(limit_s=3600, model=models.DEFAULT, tokens=65536, cache=1024, sinks=[1, 2, 4, 8], block=32,
                 samples=512, timed=SHAPE, timed_caches=[256, 512, 1024, 2048, 4096], repeats=20,
                 beside=8, beside_tokens=1024, beside_budgets=[10, 20, 50]),
}  # fmt: skip
LIMITS = {
    "model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B", "meta-llama/Llama-2-7b-hf"],
    "tokens": (128, 262144),
    "cache": (16, 2048),
    "sinks": (1, 15),
    "block": (8, 256),
    "samples": (1, 4096),
    "timed": [SAME, SHAPE],
    "timed_caches": (16, 4096),
    "repeats": (5, 100),
    "beside": (1, 64),
    "beside_tokens": (40, 8192),
    "beside_budgets": (10, 100),
}
PLOTS = [
    line("Perplexity along the text", x="position", y="perplexity", color="method", log=("y",)),
    bars("Perplexity after the cache is full", x="method", y="total", y_title="perplexity"),
    line("Time of one more token", x="cache", y="ms", color="method", x_title="tokens in the cache", y_title="ms"),
    *policies.PLOTS,
]


def run(lab, model, tokens, cache, sinks, block, samples, timed, timed_caches, repeats,
        beside, beside_tokens, beside_budgets):  # fmt: skip
    lm, tokenizer = lab.model(model)
    ids = tokenizer(lab.text()[: 16 * tokens], return_tensors="pt").input_ids[:, :tokens].to(lab.device)
    late = cache + (tokens - cache) * 3 // 4 // block * block  # where the last quarter starts
    if late <= cache:
        raise ParameterError(f"tokens: expected more than {cache + 2 * block}, the cache and some blocks, got {tokens}")
    losses = {}
    cases = _cases(lm, ids, cache, sinks, late) | {"newlines-4": (with_line_breaks(ids, tokenizer), SINKS, cache)}
    for done, (method, (seen, first, size)) in enumerate(cases.items()):
        lab.progress(method, done, len(cases) + 2)
        losses[method] = token_losses(lm, seen, first, size - first, start=cache)
        _emit(lab, losses[method], method, late if method == "fresh" else cache, late, block)
    lab.progress("recompute", len(cases), len(cases) + 2)
    _sample(lab, lm, ids, losses, cache, samples)
    lab.progress("time", len(cases) + 1, len(cases) + 2)
    timed_lm = lm if timed == SAME else models.untrained(timed, lab.device)
    for size in timed_caches:
        _time(lab, timed_lm, size, repeats)
    policies.side_by_side(lab, lm, tokenizer, beside, beside_tokens, beside_budgets)


def _cases(lm, ids, cache, sinks, late):
    """method -> (tokens, sinks, cache size); dense attention knows no position beyond those it was trained on."""
    trained = min(ids.shape[1], lm.config.max_position_embeddings)
    cases = {"dense": (ids[:, :trained], 0, trained), "window": (ids, 0, cache)}
    cases |= {f"sinks-{n}": (ids, n, cache) for n in sorted({SINKS, *sinks})}
    return cases | {"fresh": (ids[:, late - cache :], SINKS, cache)}


def with_line_breaks(ids, tokenizer):
    """The text with its first four tokens replaced by line breaks."""
    line_break = tokenizer("\n", add_special_tokens=False).input_ids[-1]
    return torch.cat([ids.new_full((1, SINKS), line_break), ids[:, SINKS:]], dim=1)


def token_losses(lm, ids, sinks, window, start):
    """Negative log likelihood of each token after position `start`, as a streaming cache would give it."""
    cos, sin = models.rotation(lm, max(ids.shape[1], sinks + window))

    def attend(layer, q, k, v):
        return streaming_attention(q, k, v, cos, sin, sinks=sinks, window=window)

    hidden = models.forward(lm, ids, attend)
    return models.token_nll(lm, hidden[0, start:-1], ids[0, start + 1 :])


def _emit(lab, losses, method, start, late, block):
    whole = losses[: len(losses) // block * block].view(-1, block).mean(1)
    for i, nll in enumerate(whole.tolist()):
        at = start + i * block
        running = whole[: i + 1].mean().exp().item()
        lab.row(method=method, block=at, position=at, late=at >= late, tokens=block, nll=nll, perplexity=running)
    if method != "fresh":
        lab.row(method=method, total=losses.mean().exp().item())


def _sample(lab, lm, ids, losses, cache, samples):
    """Re-compute the window before sampled positions, one forward pass each, as the baseline does for every token."""
    make = torch.Generator().manual_seed(lab.seed)
    positions = (cache + torch.randperm(ids.shape[1] - 1 - cache, generator=make)[:samples]).tolist()
    for at in positions:
        logits = lm(ids[:, at + 1 - cache : at + 1], logits_to_keep=1, use_cache=False).logits[0, -1].float()
        lab.row(method="recompute", position=at, sampled_nll=-logits.log_softmax(-1)[ids[0, at + 1]].item())
        for method in ("window", f"sinks-{SINKS}"):
            lab.row(method=method, position=at, sampled_nll=losses[method][at - cache].item())


def _time(lab, lm, size, repeats):
    """Milliseconds for one more token: a step with a full streaming cache, and a forward pass over the same tokens."""
    make = torch.Generator().manual_seed(lab.seed)
    ids = torch.randint(lm.config.vocab_size, (1, size), generator=make).to(lab.device)
    cos, sin = models.rotation(lm, size)
    caches = [StreamingCache(SINKS, size - SINKS, cos, sin) for _ in lm.model.layers]

    def prefill(layer, q, k, v):
        caches[layer].prefill(k, v)
        return streaming_attention(q, k, v, cos, sin, sinks=SINKS, window=size - SINKS)

    models.forward(lm, ids, prefill)
    times = lab.time(
        repeats,
        recompute=lambda: lm(ids, logits_to_keep=1, use_cache=False),
        streaming=lambda: lm.lm_head(models.forward(lm, ids[:, -1:], lambda i, q, k, v: caches[i].attend(q, k, v))),
    )
    for method, samples in times.items():
        for repeat, ms in enumerate(samples):
            lab.row(method=method, cache=size, repeat=repeat, ms=ms)
