"""How many tokens does a step yield with heads trained for a minute on a frozen model, and what does a tree add?

Medusa (Cai et al. 2024) on a real language model: Medusa-1, greedy. What differs from the paper: a 135M model that
continues a novel, not Vicuna on MT-Bench; heads share the model's own frozen projection and may name only tokens of
their training text, some thousand tokens that the model wrote. Tokens a step are counted along unseen texts of the
model from the ranks of their tokens; a share of the texts gives the accuracies that the sparse tree is built from. A
small model's greedy text falls into loops, which flatters every head: its share of new 4-grams is shown, and sampled
text beside it. Typical acceptance is run at temperature 1 and shown; it is another distribution, and no claim here.

Changed after a result was seen: the chain has a token for each head, for always four; with four heads it is the same.
Texts of 80 tokens for 112, to save time, as the preparation is shared with blockwise parallel decoding.
"""

from kernels.decoding.medusa import MedusaHeads, TreeDrafter, accepted, dense, sparse, typical
from reproductions.lab import caching, heads, models, own_text, peaks
from reproductions.lab.reading import Reader
from reproductions.lab.speculating import decode, differs, distinct
from reproductions.spec import Check, Difference, Max, Mean, Ratio, Size, Untested, bars, line

HALF = "half of the stated {} on a log scale"
FIRST = {"head": 1, "text": "greedy"}
QUARTER, DENSE = "sparse, a quarter of its nodes", "dense"

CHECKS = [
    Check("medusa1-speed", Ratio("token_ms", of="plain", to="medusa", pair="of", best="nodes"), at_least=1.476,
          because=HALF.format("2.18x") + ", at our best tree", needs="cuda"),
    Untested("category-spread", "needs Medusa-2's fine-tuned model and MT-Bench's prompts", needs="cuda"),
    Check("sparse-tree", Difference("tokens", of=QUARTER, to=DENSE, pair="of", where={"text": "greedy"}), above=0.0,
          because="an effect: a quarter of the nodes accepts more", label="tokens a step"),
    Check("sparse-tree", Ratio("end_ms", of=peaks.SMALLEST, to=peaks.BEYOND_IT, by="end", pair="of"), above=1.0,
          because="an effect: up to the peak a larger tree is faster", label="a larger tree is faster"),
    Check("sparse-tree", Ratio("end_ms", of=peaks.LARGEST, to=peaks.SHORT_OF_IT, by="end", pair="of"), above=1.0,
          because="an effect: past the peak a larger tree is slower", label="too large a tree is slower"),
    Check("greedy-exact", Max("differs"), at_most=0, because="identity", scale_free=True),
    Check("head-accuracy", Mean("accuracy", FIRST | {"top": 1}), at_least=0.45, at_most=0.75,
          because="0.6, a share, within 25 %", label="top-1"),
    Check("head-accuracy", Mean("accuracy", FIRST | {"top": 5}), at_least=0.6,
          because="0.8, a share, within 25 %", label="top-5"),
    Check("head-accuracy", Ratio("accuracy", of="top-5", to="top-1", by="choices", pair="of", where=FIRST),
          at_least=1.155, because=HALF.format("0.8 / 0.6"), label="top-5 over top-1"),
]  # fmt: skip
SIZES = {
    "smoke": Size(limit_s=120, model=models.DEFAULT, texts=2, prompt=8, tokens=16, held=8, steps=2, ahead=3,
                  widths=[3, 2, 2], nodes=[8], timed=5, timed_tokens=2),
    "cpu": Size(limit_s=300, model=models.DEFAULT, texts=64, prompt=32, tokens=80, held=20, steps=150, ahead=4,
                widths=[5, 3, 2], nodes=[4, 12, 50], timed=6, timed_tokens=24),
    "full": Size(limit_s=3600, model="HuggingFaceTB/SmolLM2-1.7B", texts=1024, prompt=64, tokens=192, held=64,
                 steps=5000, ahead=4, widths=[8, 4, 4], nodes=[4, 16, 64, 256], timed=16, timed_tokens=128,
                 download=True),
}  # fmt: skip
LIMITS = {"model": [models.DEFAULT, "HuggingFaceTB/SmolLM2-1.7B"], "texts": (2, 4096), "prompt": (4, 512),
          "tokens": (16, 1024), "held": (8, 256), "steps": (1, 100_000), "ahead": (1, 8), "widths": (1, 32),
          "nodes": (1, 512), "timed": (5, 64), "timed_tokens": (2, 512)}  # fmt: skip
PLOTS = [
    line("Tokens a step", x="nodes", y="tokens", color="shape of tree", y_title="tokens a step", log=("x",)),
    bars("How often a head is right", x="head", y="accuracy", color="choices of text", x_title="tokens after the next",
         y_title="share"),
    line("Gain against plain greedy decoding", x="nodes", y="gain", log=("x",), y_title="plain / Medusa time"),
    line("Tokens a step against repetition", x="distinct", y="tokens", color="text", where={"method": DENSE}, log=(),
         x_title="share of 4-grams that are new", y_title="tokens a step"),
]  # fmt: skip


def run(lab, model, texts, prompt, tokens, held, steps, ahead, widths, nodes, timed, timed_tokens):
    lm, tokenizer = lab.model(model)
    book, top = lab.text(), [len(lm.model.layers)]
    cut = len(book) * 9 // 10
    prompts = caching.passages(tokenizer, book[:cut], texts, prompt + tokens, lab.device)[:, :prompt]
    unseen = caching.passages(tokenizer, book[cut:], max(held, timed), prompt, lab.device)
    states, targets = heads.examples(lm, own_text.write(lab, lm, prompts, tokens, layers=top), ahead)
    trained, words = heads.trained(lab, lm, MedusaHeads, states, targets, steps=steps)
    table, most = lm.lm_head.weight[words], max(10, *widths)
    accuracy = None
    for text, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        written = own_text.write(lab, lm, unseen[:held], tokens, temperature, layers=top)
        ranks = heads.ranks(trained, words, table, *heads.examples(lm, written, ahead), most).view(held, -1, ahead)
        if accuracy is None:  # from the first third; the rest is what is measured
            accuracy = [[(ranks[: held // 3, :, k] == i).float().mean().item() for i in range(most)]
                        for k in range(ahead)]  # fmt: skip
        new = [distinct(ids) for ids in written.ids[:, written.prompt :].tolist()]
        _accuracies(lab, text, ranks[held // 3 :])
        _tokens(lab, text, ranks[held // 3 :], new[held // 3 :], accuracy, widths, nodes)
    _decode(lab, lm, trained, words, unseen[:timed].tolist(), timed_tokens, accuracy, nodes)


def _accuracies(lab, text, ranks):
    """Of each text and head, how often the true token is the first, or among the first five, choices."""
    for i, of in enumerate(ranks):
        for head in range(ranks.shape[2]):
            for top in (1, 5):
                lab.row(text=text, of=i, head=head + 1, top=top, choices=f"top-{top}",
                        accuracy=(of[:, head] < top).float().mean().item(),
                        **{"choices of text": f"top-{top}, {text}"})  # fmt: skip


def _tokens(lab, text, ranks, new, accuracy, widths, nodes):
    """Mean tokens of a step along each text, by trees of each kind and size."""
    full = dense(widths)
    trees = {
        DENSE: full,
        QUARTER: sparse(accuracy, max(1, len(full) // 4)),
        "chain": [(0,) * n for n in range(1, ranks.shape[2] + 1)],
    }
    trees |= {f"dense {d}": dense(widths[:d]) for d in range(1, len(widths))} | {n: sparse(accuracy, n) for n in nodes}
    for method, paths in trees.items():
        shape = "chain" if method == "chain" else "dense" if str(method).startswith("dense") else "sparse"
        for i, of in enumerate(ranks.tolist()):
            found, place = [], 0
            while place < len(of):
                found.append(1 + accepted(of[place], set(paths)))
                place += found[-1]
            lab.row(method=str(method), text=text, of=i, nodes=len(paths), tokens=sum(found) / len(found),
                    distinct=new[i], **{"shape of tree": f"{shape}, {text}"})  # fmt: skip


def _decode(lab, lm, trained, words, prompts, count, accuracy, nodes):
    """Plain and Medusa decoding of the same prompts in turn: equal texts, and times; then typical acceptance."""
    reader, table = Reader(lm, len(prompts[0]) + count + max(nodes) + 1), lm.lm_head.weight[words]
    trees = {n: sparse(accuracy, n) for n in nodes} | {1: [(0,)]}
    times: dict[int, list[float]] = {n: [] for n in trees}
    for i, ids in enumerate([prompts[0], *prompts]):  # the first once more, to warm up
        lab.progress("decoding", i, len(prompts) + 1)
        plain = decode(reader, ids, count)
        for n, paths in trees.items():
            drafter = TreeDrafter(trained, words, table, paths)
            found = decode(reader, ids, count, drafter)
            if not i:
                continue
            wrong = differs(reader, ids, plain.tokens, found.tokens)
            lab.row(method="medusa", nodes=n, of=i, token_ms=1e3 * found.seconds / count, live_tokens=found.per_call,
                    gain=plain.seconds / found.seconds, differs=int(wrong))  # fmt: skip
            lab.row(method="plain", nodes=n, of=i, token_ms=1e3 * plain.seconds / count)
            times[n].append(1e3 * found.seconds / count)
    for row in peaks.ends(times):
        lab.row(**row)
    drafter = TreeDrafter(trained, words, table, trees[max(nodes)])
    for i, ids in enumerate(prompts[:2]):
        lab.row(of=i, typical_tokens=decode(reader, ids, count, drafter, temperature=1.0, rule=typical).per_call)
