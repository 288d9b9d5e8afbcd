"""The reproduction of online speculative decoding at its smallest size, and that it would find the opposite."""

import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kernels.decoding import online
from kernels.decoding.online import OnlineDraft
from reproductions.lab.reading import Reader
from reproductions.papers import online_speculative_decoding as paper
from reproductions.spec import ParameterError
from tests.reproductions import no_time
from tests.reproductions.judging import outcomes

verdicts = partial(outcomes, paper.CHECKS)
V, ASKED = 12, 6
LAST, REAL = "in the last third of the stream", "in real decoding, after the stream"
COUNTED, OWN = "the share counted is the sum of min(p, q)", "one draft a domain adds"
SHIFT = ("alpha drops", "it recovers", "in the stream's last requests", OWN)


def test_the_smallest_size_reaches_every_check(lab):
    paper.run(lab, **paper.SIZES["smoke"].parameters)
    assert "no result" not in verdicts(lab, "cuda").values()
    assert verdicts(lab)["acceptance-gain", COUNTED] != "contradicted"
    assert verdicts(lab)["latency", ""] == verdicts(lab)["update-cheap", ""] == "not testable here"


def test_a_stream_that_does_not_come_out_even_is_refused(lab):
    with pytest.raises(ParameterError, match="expected a multiple of the interval, 4, got 6"):
        paper.run(lab, **paper.SIZES["smoke"].parameters | {"requests": 6})


class Logits(nn.Module):
    """A draft that says the same everywhere, at first mostly what the stream never says."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0] * 8 + [3.0] * 4))

    def log_q(self, where):
        return self.logits.expand(int(where.sum()), V).log_softmax(-1)


@pytest.fixture
def serve(lab, monkeypatch):
    """Serves a stream whose prose and code have each their own four words; -> verdicts on a GPU.

    `told(p)`: what the draft learns instead of the target's p."""

    def stream(told=lambda p: p, steps=12):
        draw = torch.Generator().manual_seed(0)

        def batches(model, text, size):
            for done in range(0, len(text.ids), size):
                p = torch.full((size, ASKED, V), -3.0)
                half = 3 * done // len(text.ids) % 2
                p[..., half * 4 : half * 4 + 4] = 0
                target = (p + 0.3 * torch.randn(p.shape, generator=draw)).softmax(-1)
                tokens = torch.multinomial(target.view(-1, V), 1, generator=draw).view(size, ASKED)
                yield SimpleNamespace(inputs=(), target=target.__getitem__, tokens=tokens)

        def learning(model, layer, interval, steps):
            draft = OnlineDraft(layer.log_q, layer.parameters(), interval, steps, 0.15)
            served = draft.served
            draft.served = lambda inputs, p, wrong: served(inputs, told(p), wrong)
            return draft

        monkeypatch.setattr(paper.streams, "batches", batches)
        monkeypatch.setattr(paper.streams, "online", learning)
        paper._serve(lab, None, Logits(), SimpleNamespace(ids=torch.zeros(72, 1)), 8, steps)
        return verdicts(lab, "cuda")

    return stream


def test_a_draft_that_learns_replicates(serve):
    found = serve()
    assert {found["adapts-to-shift", label] for label in SHIFT} == {found["acceptance-gain", LAST]} == {"replicated"}
    assert found["acceptance-gain", COUNTED] == "computed"


def test_a_draft_that_never_learns_gains_nothing(serve):
    found = serve(steps=0)
    assert found["acceptance-gain", LAST] == found["adapts-to-shift", OWN] == "contradicted"
    assert found["adapts-to-shift", "in the stream's last requests"] == "contradicted"


def test_a_draft_that_learns_what_is_unlikely_loses(serve, monkeypatch):
    """The sign of the loss, turned."""
    right = online.forward_kl
    monkeypatch.setattr(online, "forward_kl", lambda p, log_q: -right(p, log_q))
    found = serve()
    assert found["acceptance-gain", LAST] == found["adapts-to-shift", "in the stream's last requests"] == "contradicted"


def test_a_draft_that_learns_the_other_topic_falls_and_recovers_the_wrong_way(serve):
    found = serve(told=lambda p: torch.cat([p[..., 4:8], p[..., :4], p[..., 8:]], -1))
    assert found["adapts-to-shift", "alpha drops"] == found["adapts-to-shift", "it recovers"] == "contradicted"


def test_a_wrong_count_of_what_is_refused_is_caught(serve, monkeypatch):
    monkeypatch.setattr(paper, "refused", lambda p, q, tokens, draw: torch.zeros_like(tokens, dtype=torch.bool))
    assert serve()["acceptance-gain", COUNTED] == "contradicted"


def test_a_slow_update_contradicts(serve, monkeypatch):
    monkeypatch.setattr(OnlineDraft, "step", lambda self: time.sleep(0.125))
    assert serve(steps=1)["update-cheap", ""] == "contradicted"


class Told(nn.Module):
    """A layer that says how many of its drafts are right, and how long they take."""

    def __init__(self, good, seconds):
        super().__init__()
        self.good, self.seconds = good, seconds


@pytest.mark.parametrize(
    ("static", "learnt", "seconds", "gain", "latency"),
    [(0, 2, 0.0, "replicated", "replicated"), (1, 1, 0.02, "contradicted", "contradicted")],
)
def test_real_decoding_says_what_the_drafts_are_worth(static, learnt, seconds, gain, latency, lab, monkeypatch):
    no_time.stub(monkeypatch)
    monkeypatch.setattr(Reader, "read", lambda self, ids, parents=None: no_time.read(self, ids, parents, 0.005))
    monkeypatch.setattr(
        paper.drafters, "FeatureDrafter",
        lambda lm, layer, words, widths, *_: no_time.Drafts(
            len(widths), lambda count: layer.good, lambda count: layer.seconds),
    )  # fmt: skip
    lm = SimpleNamespace(config=SimpleNamespace(vocab_size=no_time.VOCABULARY), dtype=torch.float32)
    layers = {paper.STATIC: Told(static, seconds), paper.ONLINE: Told(learnt, seconds)}
    paper._decode(lab, lm, layers, [[1, 2, 3]] * 6, 10, 2)
    found = verdicts(lab, "cuda")
    assert found["acceptance-gain", REAL] == gain
    assert found["latency", ""] == latency
