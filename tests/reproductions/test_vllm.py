"""PagedAttention at its smallest size, its scheduler by hand, and that it would find the opposite."""

import math
import time
from functools import partial

import pytest
import torch

from kernels.cache.paged import BlockPool, BlockTable
from reproductions.lab import Lab, models, paging, serving
from reproductions.papers import vllm as paper
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)

SMOKE = paper.SIZES["smoke"]


@pytest.fixture(scope="module")
def model():
    lm, tokenizer = models.load()
    words = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals."
    return lm, tokenizer(words, return_tensors="pt").input_ids[0]


def test_the_smallest_size_reaches_every_check(tmp_path):
    lab = Lab(tmp_path)
    paper.run(lab, **SMOKE.parameters | {"tokens": 2, "engine_scale": 0.001, "beam_scale": 0.05})
    assert "no result" not in verdicts(lab, "cuda").values()
    found = verdicts(lab)
    assert found["paged-utilisation", "and reads the same"] == "replicated"
    assert found["paged-utilisation", "and writes the same"] == "replicated"
    assert found["request-rate", "against Max"] == found["kernel-overhead", ""] == "not testable here"
    assert [row["blocks_left"] for row in lab.rows() if "blocks_left" in row] == [0]


def test_beams_are_those_of_plain_beam_search(model):
    lm, ids = model
    prompts, lengths, width = [ids[:9], ids[:16]], [7, 4], 3
    cache = paging.new_cache(lm, 40)
    found = paging.search(lm, cache, prompts, lengths, width)
    assert cache.pool.used == 0 and cache.copied > 0
    for prompt, length, one in zip(prompts, lengths, found, strict=True):
        beams = [(0.0, prompt)]
        for _ in range(length):
            likely = lm(torch.stack([text for _, text in beams])).logits[:, -1].log_softmax(-1).topk(width)
            beams = [(score + more.item(), torch.cat([text, token[None]]))
                     for (score, text), mores, tokens in zip(beams, *likely, strict=True)
                     for more, token in zip(mores, tokens, strict=True)]  # fmt: skip
            beams = sorted(beams, key=lambda beam: -beam[0])[:width]
        assert one.tokens.tolist() == [text[len(prompt) :].tolist() for _, text in beams]
        assert one.scores.tolist() == pytest.approx([score for score, _ in beams], abs=1e-3)
        assert one.shared <= one.apart


def test_a_model_that_is_served_writes_what_it_would_alone(model):
    """Also where a request was preempted, its prompt and text computed again; and in chunks that are reserved."""
    lm, ids = model
    made = [serving.Request(0.0, prompt, 6) for prompt in (14, 12, 7)]
    reserved = [serving.Request(0.0, prompt, 3) for prompt in (15, 5)]
    memory, engine = serving.Paged(48), paging.Engine(lm, ids, 64)
    serving.serve(made, memory, engine)
    serving.serve(reserved, serving.Reserved(48, serving.ROOMS["Orca (Oracle)"]), engine)
    assert sum(one.preempted for one in made) and memory.pool.used == 0
    for one in made + reserved:
        text = engine.texts[one]
        assert torch.equal(text[: one.prompt], ids[: one.prompt]) and len(text) == one.prompt + one.output
        assert torch.equal(text[one.prompt :], lm(text[None]).logits[0, one.prompt - 1 : -1].argmax(-1))


def second(fresh, others, memory):
    return 1.0


def test_first_come_first_served_and_the_latest_gives_way():
    made = [serving.Request(0.0, 16, 18), serving.Request(0.5, 16, 18), serving.Request(0.6, 1, 1)]
    memory = serving.Paged(64)  # 4 blocks: two prompts and one block for each fit, a third for each does not
    serving.serve(made, memory, second)
    # From 1 s on all three run; the last needs a token only. At their 17th token both others want a third block.
    assert [one.preempted for one in made] == [0, 1, 0]
    assert [one.finished for one in made] == [18.0, 20.0, 2.0]
    assert made[0].latency == 1.0 and memory.pool.used == 0 and not memory.tables


def test_time_passes_while_nobody_is_there_and_too_large_a_request_is_refused():
    made = [serving.Request(0.0, 3, 2), serving.Request(9.0, 3, 2)]
    serving.serve(made, serving.Paged(64), second)
    assert [one.finished for one in made] == [2.0, 11.0]
    with pytest.raises(ValueError, match=r"a request of 60 \+ 9 tokens: no room for it"):
        serving.serve([serving.Request(0.0, 60, 9)], serving.Paged(64), second)


def test_what_is_held_is_counted_while_somebody_waits():
    made = [serving.Request(0.0, 16, 9) for _ in range(3)]
    memory = serving.Reserved(64, serving.ROOMS["Orca (Oracle)"])  # chunks of 32: two at once
    seen = serving.serve(made, memory, second)
    assert seen.mean("running") == 2 and seen.mean("allocated") == 64 and seen.seconds == 9
    assert seen.mean("states") == 2 * (16 + 4) and seen.mean("coming") == 2 * (9 - 4)
    assert memory.allocated == 0


def test_lengths_have_the_published_means():
    made = serving.trace("Alpaca", 20000, 2.0, 0)
    assert sum(one.prompt for one in made) / len(made) == pytest.approx(19.31, rel=0.05)
    assert sum(one.output for one in made) / len(made) == pytest.approx(58.45, rel=0.05)
    assert made[-1].arrival == pytest.approx(10000, rel=0.05)
    assert max(one.prompt + one.output for one in serving.trace("ShareGPT", 9000, math.inf, 0)) == serving.LONGEST


def test_paging_that_reserves_all_wins_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "Paged", lambda slots: serving.Reserved(slots, serving.ROOMS["Orca (Max)"]))
    lab = Lab(tmp_path)
    for seed in range(5):
        paper._saturated(lab, 15700, 60, seed)
    found = verdicts(lab)
    assert found["paged-utilisation", ""] == "contradicted"
    for label in ("against Oracle", "against Max"):
        assert found["batch-size", label] == found["request-rate", f"simulated, {label}"] == "contradicted"


def test_other_reservations_are_told_apart(tmp_path, monkeypatch):
    of = serving.ROOMS
    monkeypatch.setattr(serving, "ROOMS", {"Orca (Max)": of["Orca (Oracle)"], "Orca (Oracle)": lambda *given: 4096})
    lab = Lab(tmp_path)
    for seed in range(5):
        paper._saturated(lab, 15700, 150, seed)
    found = verdicts(lab)
    assert found["kv-utilisation", "Orca (Max)"] == found["kv-utilisation", "Orca (Oracle)"] == "contradicted"


def test_a_write_into_a_shared_block_is_found(model, tmp_path, monkeypatch):
    lm, ids = model
    monkeypatch.setattr(BlockPool, "_copies", lambda self, table, tokens: False)
    lab = Lab(tmp_path)
    paper._exactness(lab, lm, [ids[:3], ids[:10]], 5)
    found = verdicts(lab)
    assert found["paged-utilisation", "and reads the same"] == "contradicted"
    assert found["paged-utilisation", "and writes the same"] == "contradicted"


def test_forks_that_copy_save_nothing(model, tmp_path, monkeypatch):
    def apart(self, table):
        other = BlockTable()
        self.grow(other, table.length)
        return other

    real = paging.new_cache
    monkeypatch.setattr(BlockPool, "fork", apart)
    monkeypatch.setattr(paging, "new_cache", lambda lm, blocks: real(lm, 2 * blocks))  # old and new beams at once
    lab = Lab(tmp_path)
    for kind in ("Alpaca", "ShareGPT"):
        paper._samples(lab, kind, 3, 5)
    for width in (2, 6):
        paper._beams(lab, *(model[0], model[1].repeat(2, 30)), 2, 0.2, width)
    found = {label: outcome for (claim, label), outcome in verdicts(lab).items() if claim == "sharing-saving"}
    assert len(found) == 6 and set(found.values()) == {"contradicted"}


def test_slow_paging_contradicts_the_speed(model, tmp_path, monkeypatch):
    real, attention = paging.feed, paper.paged_attention

    def slow(lm, cache, *rest):
        time.sleep(0.02 if cache.pool.used else 0)  # only paging takes blocks of the pool itself
        return real(lm, cache, *rest)

    def late(*given):
        time.sleep(0.05)
        return attention(*given)

    monkeypatch.setattr(paging, "feed", slow)
    monkeypatch.setattr(paper, "paged_attention", late)
    lab = Lab(tmp_path)
    for seed in range(5):
        paper._engine(lab, *model, 2, 0.001, 64, 16, seed)
    paper._kernel(lab, 2, 64, 5)
    found = verdicts(lab, "cuda")
    assert found["request-rate", "against Oracle"] == found["request-rate", "against Max"] == "contradicted"
    assert found["kernel-overhead", ""] == "contradicted"
