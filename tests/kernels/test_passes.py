"""The recurrences of three, two and one pass: right, at every tile, masked too, and counted."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention import passes
from kernels.attention.passes import Stream, passes_reference
from kernels.testing import error

ATTENTION = [passes.three_passes, passes.two_passes, passes.one_pass]


def streams(n, rows=8, d=5, masked=False):
    torch.manual_seed(n)
    x, v = torch.randn(rows, n, dtype=torch.float64), torch.randn(n, d, dtype=torch.float64)
    if masked:
        x[:, : n // 2], x[0] = -torch.inf, -torch.inf
    return x, v


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_all_agree_with_pytorch(n, masked):
    x, v = streams(n, masked=masked)
    exact = passes_reference(x, v)
    seen = x.isfinite().any(-1)
    q = torch.eye(8, dtype=torch.float64)  # logits as a product, for an independent judge
    own = scaled_dot_product_attention(q, x.nan_to_num(neginf=-1e300).mT.contiguous(), v, scale=1.0)
    assert error(exact[seen], own[seen]) < 1e-14 and not exact[~seen].any()
    for count, algorithm in zip((3, 2, 1), ATTENTION, strict=True):
        stream = Stream(x, v)
        assert error(algorithm(stream), exact) < 1e-13
        assert stream.requests == count * x.numel()
    for tile in (1, 2, 3, n, n + 5):
        assert error(passes.tiled(Stream(x, v), tile), exact) < 1e-13


def test_what_is_held_on_the_way_is_the_attention_over_the_prefix():
    x, v = streams(20)
    seen = []
    passes.one_pass(Stream(x, v), lambda i, m, d, o: seen.append((i, m, d, o)))
    for i, m, d, o in seen:
        head = x[:, : i + 1]
        assert torch.equal(m, head.amax(-1, keepdim=True))
        assert error(d, (head - m).exp().sum(-1, keepdim=True)) < 1e-14
        assert error(o, passes_reference(head, v[: i + 1])) < 1e-14


def test_a_softmax_takes_two_passes():
    x, v = streams(30)
    stream = Stream(x, v)
    assert error(passes.softmax_two_passes(stream), x.softmax(-1)) < 1e-14 and stream.requests == 2 * x.numel()
    stream = Stream(x, v)
    assert error(passes.softmax_written_at_once(stream), x.softmax(-1)) > 0.1 and stream.requests == x.numel()


def test_what_is_refused():
    x, v = streams(3)
    for bad in ((x[0], v), (x, v[:2]), (x, v.float())):
        with pytest.raises(ValueError, match=r"expected logits \(R, N\)"):
            Stream(*bad)
