"""Stage-wise gradients with exits against plain autograd, in float64; also in two real processes."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.functional import cross_entropy

from kernels.early_exit import stages

E, V, B = 12, 9, 5


class Embed(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table, self.layer = table, nn.Linear(E, E)

    def forward(self, ids):
        return self.layer(self.table(ids)).tanh()


def build(tied):
    """Four stages, exits on the inner two and the last; exits have a norm of their own, and the table or a head."""
    torch.manual_seed(0)
    table = nn.Embedding(V, E)
    parts = [Embed(table), *(nn.Sequential(nn.Linear(E, E), nn.Tanh()) for _ in range(3))]
    heads = [None, *((nn.LayerNorm(E), table.weight if tied else nn.Parameter(torch.randn(V, E))) for _ in range(3))]
    whole = nn.ModuleDict({"parts": nn.ModuleList(parts), "norms": nn.ModuleList(h[0] for h in heads[1:])})
    for i, head in enumerate(heads[1:]):
        whole.register_parameter(f"head{i}", head[1])
    return whole.double()


def losses(whole, labels, weights=(0.25, 0.5, 1.0)):
    def of(i, w):
        return lambda x: w * cross_entropy(whole["norms"][i](x) @ getattr(whole, f"head{i}").T, labels)

    return [None, *(of(i, w) for i, w in enumerate(weights))]


def gradients(whole):
    return {name: p.grad for name, p in whole.named_parameters()}


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randint(V, (B,)), torch.randint(V, (B,))


@pytest.mark.parametrize("tied", [True, False])
def test_stage_wise_gradients_are_those_of_autograd(batch, tied):
    ids, labels = batch
    one = build(tied)
    two = copy.deepcopy(one)
    found = stages.pipelined(one["parts"], ids, losses(one, labels))
    assert found == pytest.approx(stages.together(two["parts"], ids, losses(two, labels)), rel=1e-14)
    for name, expected in gradients(two).items():
        torch.testing.assert_close(gradients(one)[name], expected, rtol=1e-12, atol=1e-14)


def test_a_gradient_that_is_not_handed_back_is_missed(batch, monkeypatch):
    ids, labels = batch
    one, two = build(False), build(False)
    stages.together(two["parts"], ids, losses(two, labels))
    real = stages.backward
    monkeypatch.setattr(
        stages, "backward", lambda output, own, g: real(output, own if own is not None else 0 * output.sum(), None)
    )
    stages.pipelined(one["parts"], ids, losses(one, labels))
    assert (gradients(one)["parts.1.0.weight"] - gradients(two)["parts.1.0.weight"]).abs().max() > 1e-3


def one_process(rank, ids, labels, path):
    """Two stages of a process each: x forward, g back, and nothing else."""
    dist.init_process_group("gloo", init_method=f"file://{path}/meet", rank=rank, world_size=2)
    whole = build(False)
    mine, own = whole["parts"][2 * rank : 2 * rank + 2], losses(whole, labels)[2 * rank : 2 * rank + 2]
    x = ids
    if rank:
        x = torch.empty(B, E, dtype=torch.float64)
        dist.recv(x, 0)
        x.requires_grad_()
    hidden, total = x, None
    for part, loss in zip(mine, own, strict=True):
        hidden = part(hidden)
        if loss:
            total = loss(hidden) if total is None else total + loss(hidden)
    if rank:
        stages.backward(hidden, total, None)
        dist.send(x.grad, 0)
    else:
        dist.send(hidden.detach(), 1)
        g = torch.empty_like(hidden)
        dist.recv(g, 1)
        stages.backward(hidden, total, g)
    torch.save({name: p.grad for name, p in whole.named_parameters() if p.grad is not None}, f"{path}/{rank}")
    dist.destroy_process_group()


def test_two_processes(batch, tmp_path):
    ids, labels = batch
    mp.spawn(one_process, (ids, labels, str(tmp_path)), nprocs=2)
    whole = build(False)
    stages.together(whole["parts"], ids, losses(whole, labels))
    found = torch.load(tmp_path / "0") | torch.load(tmp_path / "1")
    assert found.keys() == gradients(whole).keys()
    for name, expected in gradients(whole).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-14)


def test_what_is_refused():
    x = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match="got neither"):
        stages.backward(x, None, None)
    with pytest.raises(ValueError, match=r"expected shape \(2, 3\), got \(2,\)"):
        stages.backward(x, None, torch.ones(2))
