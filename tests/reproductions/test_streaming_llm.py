"""The reproduction of StreamingLLM at its smallest size: what it finds, and that it would have found the opposite."""

import time

import pytest

from kernels.cache.streaming import StreamingCache, streaming_attention
from reproductions.lab import Lab, models
from reproductions.papers import streaming_llm
from reproductions.spec import ParameterError, judge

pytestmark = pytest.mark.xdist_group("streaming-llm")  # the run that nothing breaks is made once
SMOKE = streaming_llm.SIZES["smoke"]


def outcomes(folder, device="cpu"):
    """(claim, label) -> outcome; "cuda" judges the rows as a GPU's, to reach the checks that ask for one."""
    folder.mkdir(exist_ok=True)
    lab = Lab(folder, device="cpu", seed=0)
    if not lab.rows():
        streaming_llm.run(lab, **SMOKE.parameters)
    verdicts = judge(streaming_llm.CHECKS, lab.rows(), device=device, scale=SMOKE.scale)
    assert all(verdict.outcome != "no result" for verdict in verdicts), verdicts
    return {(verdict.claim, verdict.label): verdict.outcome for verdict in verdicts}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intact")
    return folder, outcomes(folder)


@pytest.fixture(autouse=True)
def only_its_own(intact, monkeypatch):
    """What breaks StreamingLLM is not seen in the figures of all policies."""
    monkeypatch.setattr(streaming_llm.policies, "side_by_side", lambda *_: None)


def test_the_claims_hold_at_the_smallest_size(intact):
    found = intact[1]
    assert found["window-collapses", ""] == "replicated"
    assert found["newline-sinks", "they repair"] == "replicated"
    assert found["newline-sinks", "as good"] != "contradicted"
    assert found["four-sinks", "4 against none"] == found["four-sinks", "4 against 8"] == "replicated"
    assert found["stable-long", ""] == found["speedup-recompute", "speed"] == "not testable here"


def test_nothing_that_waits_for_a_gpu_is_contradicted_by_the_cpus_rows(intact):
    found = outcomes(intact[0], device="cuda")
    assert found["stable-long", ""] != "contradicted"
    assert found["speedup-recompute", "equal perplexity"] != "contradicted"


def test_every_method_is_measured_on_the_same_blocks_after_the_cache_is_full(intact):
    rows = [row for row in Lab(intact[0]).rows() if "nll" in row]
    blocks = {}
    for row in rows:
        blocks.setdefault(row["method"], []).append(row["block"])
    assert set(blocks) == {"dense", "window", "sinks-4", "sinks-8", "newlines-4", "fresh"}
    whole = blocks.pop("dense")
    assert whole[0] == SMOKE.parameters["cache"] and len(whole) >= 20
    assert blocks.pop("fresh") == whole[-5:] == [row["block"] for row in rows if row["late"]][:5]
    assert all(found == whole for found in blocks.values())


def test_sinks_that_are_evicted_like_any_token_contradict(tmp_path, monkeypatch):
    """Four sinks are lost, eight are kept."""

    def forgetful(*tensors, sinks, window):
        first = sinks if sinks >= 8 else 0
        return streaming_attention(*tensors, sinks=first, window=window + sinks - first)

    monkeypatch.setattr(streaming_llm, "streaming_attention", forgetful)
    found = outcomes(tmp_path)
    assert found["window-collapses", ""] == "contradicted"
    assert found["four-sinks", "4 against none"] == found["four-sinks", "4 against 8"] == "contradicted"
    assert outcomes(tmp_path, device="cuda")["speedup-recompute", "equal perplexity"] == "contradicted"


def test_sinks_that_work_by_their_content_contradict(tmp_path, monkeypatch):
    """A cache that loses its place when the text starts with line breaks."""
    real = streaming_llm.token_losses

    def by_content(lm, ids, sinks, window, start):
        broken = bool((ids[0, :4] == ids[0, 0]).all())
        return real(lm, ids, 0 if broken else sinks, 2 if broken else window, start)

    monkeypatch.setattr(streaming_llm, "token_losses", by_content)
    found = outcomes(tmp_path)
    assert found["newline-sinks", "as good"] == found["newline-sinks", "they repair"] == "contradicted"


def test_a_cache_that_decays_and_is_slow_contradicts(tmp_path, monkeypatch):
    """Sinks are lost after 200 tokens of a stream; a step takes longer than the whole window."""
    real = StreamingCache.attend

    def decaying(*tensors, sinks, window):
        out = streaming_attention(*tensors, sinks=sinks, window=window)
        if window < 200:
            out[:, :, 200:] = streaming_attention(*tensors, sinks=0, window=window)[:, :, 200:]
        return out

    def slow(self, *token):
        time.sleep(0.02)
        return real(self, *token)

    monkeypatch.setattr(streaming_llm, "streaming_attention", decaying)
    monkeypatch.setattr(StreamingCache, "attend", slow)
    found = outcomes(tmp_path, device="cuda")
    assert found["stable-long", ""] == found["speedup-recompute", "speed"] == "contradicted"


def test_the_first_four_tokens_become_line_breaks():
    tokenizer = models.load()[1]
    ids = tokenizer("Call me Ishmael. Some years ago", return_tensors="pt").input_ids
    breaks = streaming_llm.with_line_breaks(ids, tokenizer)
    assert tokenizer.decode(breaks[0, :4]) == "\n" * 4 and breaks[0, 4:].equal(ids[0, 4:])


def test_a_text_no_longer_than_the_cache_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="tokens: expected more than"):
        streaming_llm.run(Lab(tmp_path), **SMOKE.parameters | {"tokens": 100})
