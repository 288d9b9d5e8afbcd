"""Attention from sketches: the polynomial, the streams, and what is read off them."""

import math

import pytest
import torch

from kernels.attention.sketched import Hash, Sketches, polynomial_features, sketched_attention, sketched_reference
from kernels.testing import error


def stream(n, d=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(n, d, generator=draw, dtype=torch.float64) * 2 - 1 for _ in range(3)]


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("degree", [1, 2, 5])
def test_features_give_the_taylor_polynomial(d, degree):
    x, y, _ = stream(20, d)
    features = polynomial_features(x, degree)
    assert features.shape == (20, math.comb(d + degree, degree))
    exact = sum((x @ y.mT / d) ** power / math.factorial(power) for power in range(degree + 1))
    assert error(features @ polynomial_features(y, degree).mT, exact) < 1e-14


def test_the_reference_is_attention():
    q, k, v = stream(50)
    assert error(sketched_reference(q, k, v, chunk=7), (q @ k.mT / 3).softmax(-1) @ v) < 1e-14


def test_large_sketches_give_the_outputs_themselves():
    q, k, v = stream(40)
    rows, values = sketched_attention(q, k, v, 40, Sketches(40, 3, 6, 5, 2**12, 2**16))
    exact = sketched_reference(q, k, v)
    for column in range(3):
        assert sorted(rows[column].tolist()) == list(range(40))
        assert error(values[column], exact[rows[column], column]) < 1e-4  # the polynomial's own error


def test_a_stream_may_come_in_any_chunks():
    q, k, v = stream(100)
    states = []
    for chunk in (1, 7, 100):
        sketches = Sketches(100, 3, 3, 3, 32, 64)
        sketched_attention(q, k, v, 5, sketches, chunk)
        states.append(sketches)
    for other in states[1:]:
        assert error(other.queries, states[0].queries) < 1e-12 and error(other.keys, states[0].keys) < 1e-12


def test_the_heavy_rows_are_named():
    """By most sketches: one in fifty is drawn so that two heavy rows share too many buckets."""
    side = torch.where(torch.arange(2000) % 2 == 0, 1.0, -1.0).double()
    k = v = side[:, None].expand(-1, 3)
    q, heavy = torch.zeros(2000, 3, dtype=torch.float64), torch.tensor([0, 17, 1023, 1999])
    q[heavy] = 1.0
    exact, right = sketched_reference(q, k, v), 0
    for seed in range(3):
        rows, values = sketched_attention(q, k, v, 4, Sketches(2000, 3, 4, 5, 128, 2**17, seed))
        named = all(set(row.tolist()) == set(heavy.tolist()) for row in rows)
        right += named and error(values, exact.T.gather(1, rows)) < 0.05
    assert right >= 2


def test_hashes_are_spread_and_independent():
    hashed = Hash.draw(4, torch.Generator().manual_seed(0))(torch.arange(20_000)) % 16
    counts = torch.stack([torch.bincount(row, minlength=16) for row in hashed]).double()
    assert (counts - 1250).abs().max() < 6 * 1250**0.5
    together = torch.bincount(hashed[0] * 16 + hashed[1], minlength=256).double()
    assert ((together - 78.1) ** 2 / 78.1).sum() < 255 + 6 * (2 * 255) ** 0.5


def test_floats_are_what_is_kept():
    sketches = Sketches(1000, 2, 3, 5, 8, 16)
    assert sketches.floats == 10 + 16 * 10 + 16 * 2 + 5 * 8 * 11 * 10


@pytest.mark.parametrize("sizes", [(0, 3, 1, 1, 1, 1), (10, 3, 0, 1, 1, 1), (10, 3, 1, 1, 1, 0)])
def test_sizes_that_cannot_be(sizes):
    with pytest.raises(ValueError, match="expected n, d"):
        Sketches(*sizes)


def test_what_is_refused():
    q, k, v = stream(10)
    with pytest.raises(ValueError, match=r"expected q, k and v \(n, d\)"):
        sketched_attention(q, k[:5], v, 1, Sketches(10, 3, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="raise the degree"):
        sketched_attention(-9 * k.abs(), 9 * k.abs(), v, 1, Sketches(10, 3, 1, 1, 4, 4))
