"""Reading by caches token by token, and the rate that training shares."""

from functools import partial

import pytest
import torch

from kernels.cache.kept import FullCache, WindowCache
from reproductions.lab import caching, heads, models


@pytest.fixture(scope="module")
def real():
    return models.load()


def test_steps_are_a_pass_over_the_whole_text(real):
    """Several texts and policies at once; a window that holds all of it is the full cache, a short one is not."""
    lm, tokenizer = real
    texts = ["The old man went down to the sea in the morning", "A boat lay at the pier, and nobody was near it"]
    ids = torch.stack([tokenizer(text, return_tensors="pt").input_ids[0, :10] for text in texts])
    makers = [FullCache, partial(WindowCache, 10), partial(WindowCache, 3)]
    found, held = [], []
    for hidden, caches in caching.steps(lm, ids, makers):
        assert hidden.shape == (3, 2, lm.config.hidden_size) and not hidden.requires_grad
        assert [len(layers) for layers in caches] == [len(lm.model.layers)] * 3
        found.append(lm.lm_head(hidden).detach())
        held.append([layers[0].tokens for layers in caches])
    full, wide, short = torch.stack(found, 2)  # each (texts, tokens but the last, V)
    with torch.no_grad():
        right = lm(ids).logits[:, :-1]
    scale = right.abs().max()
    assert (full - right).abs().max() < 1e-4 * scale and (wide - right).abs().max() < 1e-4 * scale
    assert (short - right)[:, :3].abs().max() < 1e-4 * scale < 0.01 * scale < (short - right)[:, 3:].abs().max()
    assert held == [[n, n, min(n, 3)] for n in range(1, 10)]


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_a_rate_that_warms_up_and_falls(steps):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = []
    for step in heads.falling(optimiser, 0.5, steps):
        assert step == len(rates)
        rates.append(optimiser.param_groups[0]["lr"])
    assert len(rates) == steps and max(rates) == 0.5
    top = rates.index(0.5)
    assert top == max(1, steps // 10) - 1, "a tenth of the steps is the way up"
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    if steps == 100:
        assert rates[0] == pytest.approx(0.05) and 0 < rates[-1] < 0.006
