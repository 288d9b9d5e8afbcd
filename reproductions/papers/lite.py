"""Can intermediate layers be taught to decode, and how many layers does a confidence threshold then save?

LITE (Varshney et al. 2023) on a real model: exits after some layers share its LM head and learn the next token, then a
token leaves at the first exit that is sure enough, with stricter thresholds where validation texts ask for them, and
its state stands for that of the layers it skipped. What differs from the paper: 135M parameters, not LLaMA-2; the model
is frozen, so its last layer cannot get worse, and each exit has a linear map and a norm of its own, since one norm for
all asks for the training of all layers; an exit learns the model's distribution of the next token for some seconds, on
its own text and a novel, not instructions; quality is the perplexity of the model's own sampled text, not a judge's
choice; layers are counted, and beside them the LM head at each exit, which at this size costs what eight layers do.
Changed after a look at a result: exits that learned the next token alone, in 60 steps and at a third of the rate,
agreed little more than untrained ones; one before the twelfth layer was dropped; and quality is that of thresholds that
save something: the chosen ones had let nothing go, and had passed.
"""

import torch

from kernels.early_exit import confidence, depth
from reproductions.lab import exit_heads, models
from reproductions.lab.exiting import ExitDecoder, measured
from reproductions.spec import Check, Difference, Mean, Ratio, Size, Untested, bars, line

SAVING, QUALITY = 0.212, 1.02
LARGER = "needs a LLaMA-2 of {} parameters and its tuning on instructions with LITE's losses"
RIGHT = {"column": "agreement", "by": "exits", "pair": "place"}
CHECKS = [
    Check("cost-7b", Mean("saved", where={"exits": "trained", "text": "sampled", "target": "chosen"}), at_least=SAVING,
          label="layers, at 135M", because="half of the stated saving of 37.86 % on a log scale"),
    Check("cost-7b", Ratio("nll", of="trained", to="all layers", by="exits", pair="place", transform="exp"),
          at_most=QUALITY, label="quality, at 135M", because="unchanged quality: 1.02 times the perplexity, by the "
          "strictest thresholds that save half of the stated saving, on a log scale, of other texts"),
    Untested("cost-13b", LARGER.format("13B"), needs="cuda"),
    Check("lite-needed", Difference(of="trained", to="untrained", where={"text": "sampled"}, **RIGHT), above=0.0,
          label="sampled text", because="an effect: exits agree more with the last layer after training"),
    Check("lite-needed", Difference(of="trained", to="untrained", where={"text": "greedy"}, **RIGHT), above=0.0,
          label="greedy text", because="an effect: exits agree more with the last layer after training"),
    Check("lite-needed", Mean("agreement", where={"exits": "trained", "text": "greedy"}), at_least=0.5,
          label="and decode well", because="well, read as most of the last layer's own tokens, mean over the exits"),
    Check("confidence-aligns", Difference("agreement", of="sure", to="unsure", by="half", pair="place"), above=0.0,
          because="an effect: the surer half of an exit's tokens agrees more than the other"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=60, model=models.DEFAULT, exits=[10, 20], texts=2, held=5, tokens=10, corpus=1,
                  corpus_tokens=40, steps=4, batch=16, prompts=1, decoded=5),
    "cpu": Size(limit_s=300, model=models.DEFAULT, exits=[12, 16, 20, 24, 27], texts=20, held=6, tokens=64,
                corpus=20, corpus_tokens=192, steps=120, batch=256, prompts=3, decoded=32),
    "full": Size(limit_s=3600, model=models.DEFAULT, exits=[8, 12, 16, 20, 24, 27], texts=400, held=60, tokens=256,
                 corpus=200, corpus_tokens=512, steps=3000, batch=1024, prompts=20, decoded=128),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "exits": (1, 79), "texts": (1, 2000),
          "held": (5, 500), "tokens": (8, 2048), "corpus": (1, 1000), "corpus_tokens": (16, 2048), "steps": (1, 20000),
          "batch": (8, 8192), "prompts": (1, 500), "decoded": (2, 1024)}  # fmt: skip
PLOTS = [
    line("Agreement with the whole model against the saving", x="saved_all", y="agreement_all", color="exits and text",
         log=(), x_title="share of layers left out", y_title="share of tokens"),
    line("Agreement of each exit", x="layer", y="agreement", color="exits and text", log=(),
         y_title="share of tokens"),
    bars("Where tokens leave, sampled text", x="layer", y="tokens", color="target", y_title="tokens"),
]  # fmt: skip
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)


def run(lab, model, exits, texts, held, tokens, corpus, corpus_tokens, steps, batch, prompts,
        decoded):  # fmt: skip
    lm, tokenizer = lab.model(model)
    amounts = {"texts": texts, "held": held, "tokens": tokens, "corpus": corpus, "corpus_tokens": corpus_tokens}
    train, validation, test = exit_heads.material(lab, lm, tokenizer, exits, **amounts)
    heads = exit_heads.trained(lab, lm, train.values(), exits, steps=steps, batch=batch, seed=lab.seed)
    ways, thresholds = {"untrained": exit_heads.untrained(lm, exits), "trained": heads}, {}
    for done, (name, one) in enumerate(ways.items()):
        lab.progress("looking", done, 3)
        both = exit_heads.see(lm, one, list(validation.values()))
        sampled = exit_heads.see(lm, one, [validation["sampled"]])
        thresholds = choose(both, sampled, [*exits, len(lm.model.layers)])
        for kind, text in test.items():
            report(lab, lm, exits, exit_heads.see(lm, one, [text]), thresholds, {"exits": name, "text": kind}, held)
    lab.progress("generating", 2, 3)
    generate(lab, lm, heads, thresholds, test["greedy"].ids[:prompts, : exit_heads.PROMPT].tolist(), decoded)
    lab.progress("done", 3, 3)


def choose(seen, sampled, layers):
    """Thresholds for each target; "chosen", those that save most at an unchanged perplexity of sampled text, and
    "saving", the strictest that save `SAVING` of its layers, or else those that save most."""
    found = {t: confidence.calibrated(seen.confidence[:-1], seen.agrees[:-1], t) for t in TARGETS}
    never = torch.full_like(found[TARGETS[0]], 2.0)
    tried = {t: exit_heads.leave(sampled, x) for t, x in found.items()}
    good = [t for t, d in tried.items() if (depth.pick(sampled.nll, d) - sampled.nll[-1]).mean().exp() <= QUALITY]
    enough = [t for t, d in tried.items() if _saved(layers, d).mean() >= SAVING]
    return found | {"chosen": found[min(good)] if good else never, "saving": found[max(enough, default=min(TARGETS))]}


def _saved(layers, depths):
    """The share of the layers that each position left out, (M,)."""
    return 1 - torch.tensor(layers, device=depths.device)[depths - 1].double() / layers[-1]


def report(lab, lm, exits, seen, thresholds, common, held):
    """Of `held` test texts: each exit alone, its surer half against the other, and what thresholds save."""
    layers = [*exits, len(lm.model.layers)]
    label = {"exits and text": f"{common['exits']}, {common['text']}"}
    for i, layer in enumerate(exits):
        for n, (right, sure) in enumerate(zip(seen.agrees[i].chunk(held), seen.confidence[i].chunk(held), strict=True)):
            place = {"place": f"{layer}.{n}", "layer": layer}
            lab.row(agreement=right.double().mean().item(), **place, **common, **label)
            if common == {"exits": "trained", "text": "sampled"}:
                order = right[sure.argsort()].double()
                for half, part in zip(("unsure", "sure"), order.chunk(2), strict=True):
                    lab.row(half=half, place=f"{layer}.{n}", agreement=part.mean().item())
    costs = lm.lm_head.weight.numel() / sum(p.numel() for p in lm.model.layers[0].parameters())  # of a head, in layers
    for target, taus in thresholds.items():
        d = exit_heads.leave(seen, taus)
        saved, right = _saved(layers, d), depth.pick(seen.agrees, d).double()
        with_heads = (layers[-1] * (1 - saved) + costs * d).mean().item() / (layers[-1] + costs)
        lab.row(target=str(target), saved_all=saved.mean().item(), agreement_all=right.mean().item(),
                saved_with_heads=1 - with_heads, **common, **label)  # fmt: skip
        if target == "chosen":
            for n, one in enumerate(saved.chunk(held)):
                lab.row(saved=one.mean().item(), target=target, place=n, **common)
        if target == "saving" and common == {"exits": "trained", "text": "sampled"}:
            both = zip(depth.pick(seen.nll, d).chunk(held), seen.nll[-1].chunk(held), strict=True)
            for n, (nll, plain) in enumerate(both):
                lab.row(nll=nll.mean().item(), place=n, exits="trained")
                lab.row(nll=plain.mean().item(), place=n, exits="all layers")
        if common == {"exits": "trained", "text": "sampled"} and target in (0.7, 0.9, "chosen"):
            for i, layer in enumerate(layers):
                lab.row(layer=layer, target=f"target {target}", tokens=(d == i + 1).sum().item())


def generate(lab, lm, heads, thresholds, prompts, decoded):
    """Real greedy text with exits and copied states, beside the whole model's; batch 1."""
    never = torch.full((len(heads),), 2.0)
    for target in ("never", 0.9, "chosen"):
        taus = dict(zip(heads, thresholds.get(target, never).tolist(), strict=True))
        mine = {} if target == "never" else heads
        decoder = ExitDecoder(lm, mine, {n: taus[n] for n in mine}, "copy", exit_heads.PROMPT + decoded)
        for i, prompt in enumerate(prompts):
            lab.row(generated=str(target), place=i, **measured(decoder, prompt, decoder.decode(prompt, decoded)))
