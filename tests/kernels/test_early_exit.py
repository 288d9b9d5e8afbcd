"""Exit rules against plain loops, and a network that stops where they say."""

import math

import pytest
import torch
from torch import nn

from kernels.early_exit import confidence, depth, entropy, learned

L, B, C = 5, 40, 7


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return 4 * torch.randn(L, B, C, dtype=torch.float64)


def softmax(row):
    powers = [math.exp(x) for x in row]
    return [x / sum(powers) for x in powers]


def plain_first(scores, good):
    """The first layer, from 1, whose score is good; else the last."""
    return [next((i + 1 for i in range(L) if good(scores[i][b])), L) for b in range(B)]


def test_entropy_by_its_formula(logits):
    expected = [[-sum(p * math.log(p) for p in softmax(row)) for row in rows] for rows in logits.tolist()]
    torch.testing.assert_close(entropy.entropy(logits), torch.tensor(expected, dtype=torch.float64))
    assert entropy.entropy(torch.tensor([[0.0, 2000.0], [3.0, 3.0]])).tolist() == pytest.approx([0.0, math.log(2)])


def test_confidence_by_its_formula(logits):
    expected = [[max(softmax(row)) for row in rows] for rows in logits.tolist()]
    torch.testing.assert_close(confidence.confidence(logits), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("threshold", [0.6, 0.9, 1.2])
def test_leaving_by_entropy(logits, threshold):
    logits = logits / 3
    found = depth.first(entropy.leaves(logits, threshold))
    assert found.tolist() == plain_first(entropy.entropy(logits).tolist(), lambda e: e < threshold)
    assert len(set(found.tolist())) > 2, "the case is not trivial"


def test_leaving_by_confidence_with_a_threshold_for_each_exit(logits):
    thresholds = torch.linspace(0.99, 0.5, L, dtype=torch.float64)[:, None]
    scores = (confidence.confidence(logits) - thresholds).tolist()
    assert depth.first(confidence.leaves(logits, thresholds)).tolist() == plain_first(scores, lambda c: c >= 0)


def test_leaving_by_the_learned_module():
    torch.manual_seed(1)
    module, h = learned.ExitModule(6).double(), torch.randn(L, B, 6, dtype=torch.float64)
    c, b = module.linear.weight[0].tolist(), module.linear.bias.item()
    u = [
        [1 / (1 + math.exp(-sum(x * y for x, y in zip(c, row, strict=True)) - b)) for row in rows]
        for rows in h.tolist()
    ]
    torch.testing.assert_close(module(h), torch.tensor(u, dtype=torch.float64))
    assert depth.first(learned.leaves(module(h), 0.6)).tolist() == plain_first(u, lambda x: x >= 0.6)


def test_what_the_module_learns(logits):
    labels = logits.argmax(-1)
    labels[:, ::2] = (labels[:, ::2] + 1) % C
    assert learned.right(logits, labels)[:, :4].tolist() == [[0, 1, 0, 1]] * L
    assert learned.near(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5])).tolist() == pytest.approx(
        [1, 1 - math.tanh(1.5)]
    )
    certainty = torch.tensor([0.25, 1.0], requires_grad=True)
    wanted = torch.tensor([1.0, 1.0], requires_grad=True)
    loss = learned.exit_loss(certainty, wanted)
    loss.backward()
    assert loss.item() == 0.75**2 / 2 and certainty.grad[0] == -0.75 and wanted.grad is None


def test_the_module_learns_which_exits_are_right():
    """A shared module tells a feature that goes with right answers, whatever the layer."""
    torch.manual_seed(2)
    h = torch.randn(L, 500, 6)
    wanted = (h[..., 2] > 0).float()
    module = learned.ExitModule(6)
    optimiser = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        learned.exit_loss(module(h), wanted).backward()
        optimiser.step()
    assert ((module(h) > 0.5) == wanted.bool()).float().mean() > 0.98


def test_what_never_leaves_runs_all_layers(logits):
    for found in (entropy.leaves(logits, 0.0), confidence.leaves(logits, 1.001)):
        assert depth.first(found).tolist() == [L] * B
    assert depth.first(torch.ones(L, B, dtype=torch.bool)).tolist() == [1] * B


def test_saving_and_answers_of_known_exits():
    depths = torch.tensor([1, 1, 3, 5])
    assert depth.saving(depths, 5) == pytest.approx(1 - (2 * 1 + 3 + 5) / (5 * 4))
    answers = torch.arange(20).view(5, 4)
    assert depth.pick(answers, depths).tolist() == [0, 1, 10, 19]
    assert depth.pick(answers[..., None], depths).shape == (4, 1)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 10.0])
def test_a_network_that_stops_answers_as_all_of_it_would_have_at_that_exit(threshold):
    torch.manual_seed(3)
    layers = [nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(L)]
    heads, x = [nn.Linear(8, C) for _ in range(L)], 3 * torch.randn(B, 8)
    with torch.no_grad():
        states, h = [], x
        for layer in layers:
            h = layer(h)
            states.append(h)
        every = torch.stack([head(state) for head, state in zip(heads, states, strict=True)]) * 3
        depths = depth.first(entropy.leaves(every, threshold))
        for b in range(B):
            found, ran = depth.run_until(
                layers,
                x[b : b + 1],
                lambda i, h: 3 * heads[i](h),
                lambda i, h, out: entropy.leaves(out, threshold).item(),
            )
            assert ran == depths[b]
            torch.testing.assert_close(found[0], depth.pick(every, depths)[b])


def test_layers_after_the_exit_do_not_run():
    ran = []
    layers = [lambda x, i=i: ran.append(i) or x + 1 for i in range(L)]
    found, count = depth.run_until(layers, torch.zeros(1), lambda i, x: x, lambda i, x, out: out.item() >= 2)
    assert (found.item(), count, ran) == (2, 2, [0, 1])


def test_what_is_refused():
    with pytest.raises(ValueError, match="threshold: expected an entropy"):
        entropy.leaves(torch.zeros(1, 2), -0.1)
    with pytest.raises(ValueError, match="layers: expected at least one"):
        depth.run_until([], torch.zeros(1), lambda i, x: x, lambda i, x, out: True)


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
def test_thresholds_that_agree_often_enough(target):
    draw = torch.Generator().manual_seed(4)
    sure = (torch.rand(4, 200, generator=draw) * 50).round() / 50  # with equals
    agrees = torch.rand(4, 200, generator=draw) < sure
    agrees[3] = False
    found = confidence.calibrated(sure, agrees, target)
    for row, right, threshold in zip(sure, agrees, found, strict=True):
        good = [t for t in row.unique() if (n := (row >= t).sum()) >= 10 and right[row >= t].sum() / n >= target]
        assert threshold == (min(good) if good else 2)
