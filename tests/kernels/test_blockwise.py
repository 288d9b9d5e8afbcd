"""Blockwise heads: which token a head names, and that a mini-batch trains one of them."""

import torch

from kernels.decoding.blockwise import BlockwiseHeads

E = 16


def test_heads_start_as_the_models_own_and_learn_what_comes_after():
    torch.manual_seed(0)
    heads, table = BlockwiseHeads(E, 3), torch.randn(6, E)
    states = torch.randn(64, E)
    assert torch.equal(heads(states), states[:, None].expand(-1, 3, -1))
    assert heads(states, 2).shape == (64, 2, E)
    words = (states @ table.mT).argmax(-1)
    targets = torch.stack([(words + i) % 6 for i in (1, 2, 3)], 1)
    optimiser, draw = torch.optim.AdamW(heads.parameters(), lr=1e-2), torch.Generator().manual_seed(0)
    for _ in range(200):
        optimiser.zero_grad()
        heads.loss(states, targets, table, draw).backward()
        optimiser.step()
    assert ((heads(states) @ table.mT).argmax(-1) == targets).float().mean() > 0.95


def test_one_head_of_a_mini_batch_is_trained():
    heads, draw = BlockwiseHeads(E, 4), torch.Generator().manual_seed(1)
    heads.loss(torch.randn(8, E), torch.zeros(8, 4, dtype=torch.long), torch.randn(3, E), draw).backward()
    assert sum(outer.weight.grad is not None for outer in heads.outer) == 1
