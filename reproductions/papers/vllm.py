"""How much KV memory, and so batch size, do paged blocks win over contiguous chunks, and does the model read the same?

PagedAttention, vLLM (Kwon et al. 2023). A real model decodes prompts, forks and beams from a pool of shuffled blocks.
Serving is SIMULATED on a CPU: real allocators and scheduler, OPT-13B's memory on an A100 (15.7 K slots), an
iteration's time from that GPU's roofline. What differs from the paper: request lengths are log-normal with the data
sets' published means, not the data sets; "saturated" means that all requests wait from the start; beams are a small
model's, with no end-of-text; swapping is left out. On a GPU the same scheduler runs a real model with a pool as small;
contiguous chunks are then blocks in a row, read by the same kernel. Utilisation is of all slots, as in the paper's
Fig. 2. The saving of beams is of a dozen requests, and judged without an interval; that of ShareGPT's is not judged.
Changed after a first run at size cpu: sampling is counted over 400 requests a seed in place of 40, which were too few.
Since a review found it wrong: utilisation was of the slots that are allocated.
"""

import copy
import math
from functools import partial

import torch
from transformers import DynamicCache

from kernels.attention.paged import paged_attention
from kernels.attention.split_kv import split_kv_attention
from kernels.cache.paged import PAGE
from kernels.testing import error_ratio
from reproductions.lab import caching, models, paging, serving
from reproductions.spec import Check, Max, Mean, ParameterError, Ratio, Size, Value, bars, line

QUARTER = "a share, within 25 %, simulated"
HALF = "half of the stated {} on a log scale"


def _states(allocator: str) -> Mean:
    return Mean("share_of_slots", where={"allocator": allocator, "what": "token states"})


def _saved(kind: str, how: str, width: int, stated: float, **options) -> Check:
    metric = (Value if how == "beams" else Mean)("saved", where={"lengths": kind, "how": how, "width": width})
    return Check("sharing-saving", metric, at_least=0.75 * stated, at_most=1.25 * stated,
                 label=f"{how} {width}, {kind}", because=f"{stated:.1%}, a share, within 25 %")  # fmt: skip


CHECKS = [
    Check("kv-utilisation", _states("Orca (Max)"), at_least=0.153, at_most=0.255,
          label="Orca (Max)", because=QUARTER),
    Check("kv-utilisation", _states("Orca (Oracle)"), at_least=0.287, at_most=0.478,
          label="Orca (Oracle)", because=QUARTER),
    Check("paged-utilisation", _states("paged"), at_least=0.96, because="the stated share, simulated"),
    Check("paged-utilisation", Max("error_ratio"), at_most=2.0, scale_free=True, label="and reads the same",
          because="twice the error of a contiguous cache, for logits of a real model that reads shuffled blocks"),
    Check("paged-utilisation", Max("differing_tokens"), at_most=0, label="and writes the same",
          because="greedy tokens are those of a contiguous cache"),
    Check("batch-size", Ratio("running", of="paged", to="Orca (Oracle)", by="allocator", where={"load": "saturated"}),
          at_least=1.65, at_most=2.75, label="against Oracle", because="2.2, a count, within 25 %, simulated"),
    Check("batch-size", Ratio("running", of="paged", to="Orca (Max)", by="allocator", where={"load": "saturated"}),
          at_least=3.225, at_most=5.375, label="against Max", because="4.3, a count, within 25 %, simulated"),
    Check("request-rate", Ratio("rate", of="paged", to="Orca (Oracle)", by="allocator", where={"load": "engine"}),
          at_least=1.3, needs="cuda", label="against Oracle", because=HALF.format("1.7x")),
    Check("request-rate", Ratio("rate", of="paged", to="Orca (Max)", by="allocator", where={"load": "engine"}),
          at_least=1.64, needs="cuda", label="against Max", because=HALF.format("2.7x")),
    Check("request-rate", Ratio("rate", of="paged", to="Orca (Oracle)", by="allocator", where={"load": "saturated"}),
          at_least=1.3, label="simulated, against Oracle", because=HALF.format("1.7x")),
    Check("request-rate", Ratio("rate", of="paged", to="Orca (Max)", by="allocator", where={"load": "saturated"}),
          at_least=1.64, label="simulated, against Max", because=HALF.format("2.7x")),
    _saved("Alpaca", "samples", 2, 0.061), _saved("Alpaca", "samples", 6, 0.098),
    _saved("ShareGPT", "samples", 2, 0.162), _saved("ShareGPT", "samples", 6, 0.305),
    _saved("Alpaca", "beams", 2, 0.376), _saved("Alpaca", "beams", 6, 0.552),
    Check("kernel-overhead", Ratio("ms", of="paged", to="contiguous", best="case"), at_least=1.12, at_most=1.41,
          needs="cuda", because="half of the stated 1.26x to half more, on a log scale, at our worst case"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=120, model=models.DEFAULT, prompts=[2, 14], tokens=3, slots=4800, requests=40, seeds=5,
                  rates=[2.0], sharing=3, beam_requests=2, beam_scale=0.1, engine_requests=2, engine_scale=0.003,
                  engine_slots=64, engine_longest=16, engine_seeds=5, batches=[2], contexts=[64], repeats=5),
    "cpu": Size(limit_s=300, model=models.DEFAULT, prompts=[7, 33, 64, 90], tokens=24, slots=15700, requests=400,
                seeds=5, rates=[0.5, 1.0, 1.5, 2.0, 3.0, 4.0], sharing=400, beam_requests=12, beam_scale=1.0,
                engine_requests=3, engine_scale=0.02, engine_slots=128, engine_longest=32, engine_seeds=5,
                batches=[8], contexts=[64, 256], repeats=5),
    "full": Size(limit_s=3600, model=models.DEFAULT, prompts=[7, 100, 333, 1000], tokens=128, slots=15700,
                 requests=1000, seeds=10, rates=[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0], sharing=1000,
                 beam_requests=60, beam_scale=1.0, engine_requests=120, engine_scale=1.0, engine_slots=15700,
                 engine_longest=2048, engine_seeds=5, batches=[8, 32], contexts=[64, 128, 256], repeats=30,
                 memory_gib=40),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "prompts": (1, 1500), "tokens": (2, 512),
          "slots": (2048, 10**6), "requests": (20, 10**4), "seeds": (5, 50), "rates": (0.01, 100.0),
          "sharing": (2, 2000), "beam_requests": (2, 500), "beam_scale": (0.05, 2.0), "engine_requests": (2, 2000),
          "engine_scale": (0.001, 1.0), "engine_slots": (64, 10**6), "engine_longest": (16, 2048),
          "engine_seeds": (5, 20), "batches": (1, 256), "contexts": (16, 65536), "repeats": (5, 100)}  # fmt: skip
PLOTS = [
    line("Normalised latency, simulated", x="request_rate", y="latency", color="allocator", log=("y",),
         x_title="requests a second", y_title="seconds a token"),
    bars("Where the KV memory goes, saturated, simulated", x="allocator", y="share_of_slots", color="what",
         y_title="share of all slots"),
    line("Blocks saved by sharing", x="width", y="saved", color="sharing", log=(),
         x_title="samples or beams of a request", y_title="share of blocks"),
]  # fmt: skip
WIDTHS = (2, 4, 6)


def run(lab, model, prompts, tokens, slots, requests, seeds, rates, sharing, beam_requests, beam_scale, engine_requests,
        engine_scale, engine_slots, engine_longest, engine_seeds, batches, contexts, repeats):  # fmt: skip
    if engine_longest > engine_slots:
        raise ParameterError(f"engine_longest: expected at most engine_slots, {engine_slots}, got {engine_longest}")
    lm, tokenizer = lab.model(model)
    ids = caching.passages(tokenizer, lab.text(), max(len(prompts), beam_requests), 1500, lab.device)
    stages = [
        partial(_exactness, lab, lm, [row[:n] for row, n in zip(ids, prompts, strict=False)], tokens),
        *(partial(_saturated, lab, slots, requests, seed) for seed in range(seeds)),
        *(partial(_latency, lab, slots, requests, rate) for rate in rates),
        *(partial(_samples, lab, kind, sharing, seeds) for kind in serving.MEANS),
        *(partial(_beams, lab, lm, ids, beam_requests, beam_scale, width) for width in WIDTHS),
        *(partial(_engine, lab, lm, ids[0], engine_requests, engine_scale, engine_slots, engine_longest, seed)
          for seed in range(engine_seeds)),
        *(partial(_kernel, lab, b, n, repeats) for b in batches for n in contexts),
    ]  # fmt: skip
    for done, stage in enumerate(stages):
        lab.progress(stage.func.__name__.removeprefix("_"), done, len(stages))
        stage()
    lab.progress("done", len(stages), len(stages))


@torch.no_grad()
def _exactness(lab, lm, prompts, tokens):
    """Two continuations of each prompt that share its blocks, decoded at once; each read alone with its own cache."""
    blocks = sum(2 * -(-(len(prompt) + tokens) // PAGE) for prompt in prompts) + 3
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(lab.seed)).tolist()
    cache = paging.new_cache(lm, blocks, order)
    texts, found = paging.branches(lm, cache, prompts, tokens, width=2)
    double = copy.deepcopy(lm).double()
    peers, exacts = [], []
    for i, text in enumerate(texts):
        start, past, rows = len(prompts[i // 2]), DynamicCache(config=lm.config), []
        for part in (text[: start + 1], *text[start + 1 :].split(1)):
            rows.append(lm(part[None], cache=past).logits[0, -1].float())
        peers.append(torch.stack(rows))
        lab.row(text=i, differing_tokens=(peers[-1][:-1].argmax(-1) != text[start + 1 :]).sum().item())
        exacts.append(double(text[None]).logits[0, start:])
    exact, peer = torch.stack(exacts), torch.stack(peers)
    lab.row(error_ratio=error_ratio(found, peer, exact), copied_blocks=cache.copied, blocks_left=cache.pool.used)


def _memories(slots, longest=serving.LONGEST):
    chunks = {name: serving.Reserved(slots, room, longest) for name, room in serving.ROOMS.items()}
    return chunks | {"paged": serving.Paged(slots)}


def _saturated(lab, slots, requests, seed):
    """All requests wait from the start: what runs at once, and what the memory holds."""
    for name, memory in _memories(slots).items():
        seen = serving.serve(serving.trace("ShareGPT", requests, math.inf, seed), memory, serving.Roofline())
        if not seen.seconds:
            raise ParameterError(f"requests: expected so many that some wait for {slots} slots, got {requests}")
        states, allocated, coming = (seen.mean(what) / slots for what in ("states", "allocated", "coming"))
        lab.row(load="saturated", allocator=name, repeat=seed, running=seen.mean("running"), rate=seen.mean("finished"))
        parts = {"token states": states, "tokens to come": coming, "allocated in vain": allocated - states - coming,
                 "free": 1 - allocated}  # fmt: skip
        for what, share in parts.items():
            lab.row(allocator=name, what=what, repeat=seed, share_of_slots=share)


def _latency(lab, slots, requests, rate):
    for name, memory in _memories(slots).items():
        made = serving.trace("ShareGPT", requests, rate, seed=100)
        serving.serve(made, memory, serving.Roofline())
        lab.row(allocator=name, request_rate=rate, latency=sum(one.latency for one in made) / len(made),
                preempted=sum(one.preempted for one in made))  # fmt: skip


def _samples(lab, kind, requests, seeds):
    """Parallel sampling: only lengths matter, so the allocator alone says it."""
    for width in WIDTHS:
        for seed in range(seeds):
            blocks = [serving.sampled(one, width) for one in serving.trace(kind, requests, math.inf, seed)]
            shared, apart = (sum(column) for column in zip(*blocks, strict=True))
            lab.row(lengths=kind, how="samples", width=width, sharing=f"samples, {kind}", repeat=seed,
                    saved=1 - shared / apart)  # fmt: skip


def _beams(lab, lm, ids, requests, scale, width):
    """Beam search: which beams survive is the model's, so it runs. One figure for all requests, as the paper has it."""
    made = serving.trace("Alpaca", requests, math.inf, lab.seed, scale)
    lengths = [max(2, one.output) for one in made]
    most = max(one.prompt + length for one, length in zip(made, lengths, strict=True))
    cache = paging.new_cache(lm, (width + 1) * requests * -(-most // PAGE))
    found = paging.search(lm, cache, [row[: one.prompt] for row, one in zip(ids, made, strict=False)], lengths, width)
    shared, apart = sum(one.shared for one in found), sum(one.apart for one in found)
    lab.row(lengths="Alpaca", how="beams", width=width, sharing="beams, Alpaca", saved=1 - shared / apart)


def _engine(lab, lm, ids, requests, scale, slots, longest, seed):
    """The same scheduler with a model that runs: requests finished a second of those iterations' time."""
    memories = _memories(slots, longest)
    for name in ("Orca (Max)", "Orca (Oracle)", "paged"):
        made = serving.trace("ShareGPT", requests, math.inf, seed, scale)
        for one in made:
            one.prompt, one.output = min(one.prompt, longest // 2), min(one.output, longest // 2)
        serving.serve(made, memories[name], paging.Engine(lm, ids, longest))
        lab.row(load="engine", allocator=name, repeat=seed, rate=len(made) / max(one.finished for one in made))


def _kernel(lab, batch, context, repeats):
    """One decoding step of 40 heads of 128, as OPT-13B has, over blocks in any order, and over a row of keys."""
    dtype = torch.float16 if lab.device == "cuda" else torch.float32
    pages = -(-context // PAGE)

    def make():
        q, k, v = (torch.randn(batch, 40, n, 128, device=lab.device).to(dtype) for n in (1, pages * PAGE, pages * PAGE))
        order = torch.randperm(batch * pages, device=lab.device)
        pools = [torch.empty_like(x.transpose(1, 2)).reshape(-1, PAGE, 40, 128) for x in (k, v)]
        for pool, x in zip(pools, (k, v), strict=True):
            pool[order] = x.transpose(1, 2).reshape(-1, PAGE, 40, 128)
        lengths = torch.full((batch,), context, dtype=torch.int32, device=lab.device)
        return q, k, v, *pools, order.view(batch, pages).int(), lengths

    times = lab.time(
        repeats,
        make,
        contiguous=lambda q, k, v, kp, vp, table, lengths: split_kv_attention(q, k, v, lengths),
        paged=lambda q, k, v, kp, vp, table, lengths: paged_attention(q, kp, vp, table, lengths),
    )
    for method, samples in times.items():
        for i, ms in enumerate(samples):
            lab.row(method=method, case=f"{batch} x {context}", repeat=i, ms=ms)
