"""The cache that can go back: a counter, no copies, and what stays of a tree."""

import pytest
import torch

from kernels.cache.contiguous import ContiguousCache


def new(n, value):
    return torch.full((1, 1, n, 2), float(value))


def test_write_cut_write_again_is_a_view():
    cache = ContiguousCache(2, 1, 1, 8, 2)
    for layer in range(2):
        k, v = cache.update(new(3, 1), new(3, 10), layer)
        assert k.shape == (1, 1, 3, 2) and k.data_ptr() == cache.k[layer].data_ptr()
    cache.keep([0, 1])
    assert cache.length == 2
    k, v = cache.update(new(2, 5), new(2, 50), 1)
    assert k[0, 0, :, 0].tolist() == [1, 1, 5, 5] and v[0, 0, :, 0].tolist() == [10, 10, 50, 50]
    cache.cut(0)
    assert cache.update(new(1, 7), new(1, 7), 0)[0].shape[2] == 1


def test_the_path_of_a_tree_moves_to_the_front_in_every_layer():
    cache = ContiguousCache(2, 1, 1, 8, 1)
    cache.update(torch.tensor([7.0]).view(1, 1, 1, 1), torch.tensor([7.0]).view(1, 1, 1, 1), 0)
    cache.keep([0])
    for layer in range(2):
        x = torch.arange(5.0).view(1, 1, 5, 1) + 10 * layer
        cache.update(x, -x, layer)
    cache.keep([0, 2, 4])
    assert cache.length == 4
    assert cache.k[0, 0, 0, :4, 0].tolist() == [7, 0, 2, 4]
    assert cache.v[1, 0, 0, 1:4, 0].tolist() == [-10, -12, -14]


def test_what_does_not_fit_is_refused():
    cache = ContiguousCache(1, 1, 1, 4, 2)
    with pytest.raises(ValueError, match="5 tokens do not fit into 4 slots"):
        cache.update(new(5, 0), new(5, 0), 0)
    with pytest.raises(ValueError, match="expected 0 to 4, got 5"):
        cache.cut(5)
