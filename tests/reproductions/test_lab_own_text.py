"""A model's own text: greedy as transformers writes it, states as it has them, and the second time at once."""

import os
import time

import pytest
import torch

from reproductions.lab import Lab, models, own_text, prepared


@pytest.fixture(scope="module")
def real():
    lm, tokenizer = models.load()
    texts = ["The old man went down to the", "A boat lay at the pier, and"]
    prompts = torch.stack([tokenizer(text, return_tensors="pt").input_ids[0, :6] for text in texts])
    return lm, prompts


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return Lab(tmp_path)


def test_greedy_text_and_its_states(real, lab, monkeypatch):
    lm, prompts = real
    found = own_text.write(lab, lm, prompts, 6, layers=[8, 30])
    right = lm.generate(prompts, do_sample=False, max_new_tokens=6, min_new_tokens=6)
    assert torch.equal(found.ids, right) and found.prompt == 6
    whole = lm(right, output_hidden_states=True)
    assert (found.states[8][:, :-1] - whole.hidden_states[8][:, :-1]).abs().max() < 2e-3 * whole.hidden_states[8].max()
    top = lm.lm_head(lm.model.norm(found.states[30][:, 5:-1].float())).argmax(-1)
    assert torch.equal(top, right[:, 6:])
    monkeypatch.setattr(own_text, "Reader", None)  # nothing is computed again
    again = own_text.write(lab, lm, prompts, 6, layers=[8, 30])
    assert torch.equal(again.ids, found.ids) and torch.equal(again.states[8], found.states[8])


def test_sampled_text_depends_on_the_seed(real, lab):
    lm, prompts = real
    one, two = (own_text.write(lab, lm, prompts, 6, 1.0, seed=seed).ids for seed in (0, 1))
    assert not torch.equal(one, two) and torch.equal(one[:, :6], prompts)


def test_states_of_a_given_text(real, lab):
    lm, prompts = real
    found = own_text.read(lab, lm, prompts, [30])
    right = lm(prompts, output_hidden_states=False).logits[:, :-1]
    logits = lm.lm_head(lm.model.norm(found.states[30][:, :-1].float()))
    assert (logits - right).abs().max() < 0.02 * right.abs().max()
    with pytest.raises(ValueError, match=r"expected 1 to 30, got \[31\]"):
        own_text.read(lab, lm, prompts, [31])


def test_what_is_kept_makes_room(lab, monkeypatch, tmp_path):
    def squares(n):
        return {"x": torch.full((1000,), float(n))}

    monkeypatch.setattr(prepared, "LIMIT", 9000)
    for n in (1, 2, 3):
        assert prepared.prepared(squares, n=n)["x"][0] == n
    names = list((tmp_path / "prepared").iterdir())
    assert len(names) == 2 and all(path.name.startswith("squares-") for path in names)


def test_what_a_killed_run_left_goes_and_what_another_is_writing_stays(lab, tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    for name, age in ((".new-left", 1.1), (".new-young", 0.9)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age * prepared.STALE_S,) * 2)
    prepared.prepared(lambda n: {"x": torch.ones(n)}, n=3)
    assert {path.name for path in folder.glob(".new-*")} == {".new-young"}


def test_another_model_is_another_content():
    torch.manual_seed(0)
    one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    assert prepared.fingerprint(one) == prepared.fingerprint(one) != prepared.fingerprint(two)
