"""Small models that are trained, and decoders that generate."""

import torch

from kernels.attention.multi_query import Attention
from reproductions.lab import decoding, text, training


def block(width=16):
    return training.Block(width, Attention(width, 4, 4), 2 * width)


def model():
    torch.manual_seed(0)
    return training.ByteModel(16, 16, [block()])


def test_a_fit_learns_and_depends_on_its_seed_alone():
    train, rest = training.corpus(text.load(), "cpu")
    assert 8.9 < len(train) / len(rest) < 9.1
    before = training.validate(model(), rest, 16, 40)
    done = []
    after = [
        training.validate(
            training.fit(model(), train, steps=30, batch=8, context=16, seed=seed, on_step=done.append), rest, 16, 40
        )
        for seed in (1, 1, 2)
    ]
    assert after[0] == after[1] != after[2] and max(after) < before - 0.3
    assert done[:31] == list(range(31))


def decoder(vocabulary=11, layers=2):
    torch.manual_seed(1)
    parts = [block() for _ in range(layers)], [Attention(16, 4, 4) for _ in range(layers)]
    return decoding.Decoder(16, vocabulary, *parts).double()


def scores(lm, source, found):
    """log p of each sequence, all tokens at once."""
    ids = torch.nn.functional.pad(found, (1, 0))[:, :-1]
    x = lm.embed(ids)
    for one, layer in zip(lm.blocks, lm.across, strict=True):
        x = one(x)
        x = x + layer.look(x, *layer.keys(source))
    return lm.head(x).log_softmax(-1).gather(2, found[..., None]).sum((1, 2))


def test_greedy_takes_the_likeliest_token_each_time():
    lm, source = decoder(), torch.randn(3, 5, 16, dtype=torch.float64)
    found = lm.generate(source, 4)
    for i in range(4):
        others = [torch.cat([found[:, :i], torch.full((3, 1), t)], 1) for t in range(11)]
        best = torch.stack([scores(lm, source, ids) for ids in others]).argmax(0)
        assert best.equal(found[:, i])


def test_a_beam_as_wide_as_all_there_is_finds_the_best_sequence():
    lm, source = decoder(vocabulary=3), torch.randn(2, 5, 16, dtype=torch.float64)
    found = lm.generate(source, 3, beam=9)
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    for i in range(2):
        best = every[scores(lm, source[i : i + 1].expand(27, -1, -1), every).argmax()]
        assert found[9 * i].equal(best)
