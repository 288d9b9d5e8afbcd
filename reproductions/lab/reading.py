"""A causal model of transformers that reads a few tokens at a time, can go back, and can stop at a layer.

B sequences of one length, N new tokens, E width. The layers are the model's own; they get a `ContiguousCache` as their
cache, the mask of the new tokens, and the angles of their positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.cache.contiguous import ContiguousCache
from kernels.decoding.tree import depths, sees


class Reader:
    """`model` with an own cache of `capacity` tokens for each of `batch` sequences. ValueError when they do not fit.

    `read` sees tokens after what is kept; `keep` says which of them stay. What is not kept is read over next time.
    """

    def __init__(self, model, capacity: int, batch: int = 1):
        config = model.config
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.model, self.batch = model, batch
        self.cache = ContiguousCache(
            config.num_hidden_layers, batch, config.num_key_value_heads, capacity, dim, model.dtype, model.device
        )

    @torch.no_grad()
    def read(
        self, ids: Sequence[int] | Tensor, parents: list[int] | None = None, layers: range | None = None
    ) -> Tensor:
        """Hidden states (B, N, E) after the last norm, or after the last of `layers` without the norm.

        `ids` (N,) or (B, N). With `parents`, ids[1:] hang on the nodes they name (kernels/decoding/tree.py); else each
        token follows the one before it.
        """
        ids = torch.as_tensor(ids, device=self.model.device)
        hidden = self.model.model.embed_tokens(ids.expand(self.batch, -1))
        hidden = self.through(hidden, layers or range(len(self.model.model.layers)), parents)
        return hidden if layers else self.model.model.norm(hidden)

    @torch.no_grad()
    def through(self, hidden: Tensor, layers: range, parents: list[int] | None = None) -> Tensor:
        """`hidden` (B, N, E) through some layers, as new tokens from slot `cache.start` on; no norm at the end."""
        count, start = hidden.shape[1], self.cache.start
        one_by_one = list(range(count - 1))
        parents = one_by_one if parents is None else parents
        mask = None  # the layers' own causal attention, unless something stands before or beside
        if count > 1 and (start or parents != one_by_one):
            before = torch.ones(count, start, dtype=torch.bool)
            mask = torch.cat([before, sees(parents)], 1).to(hidden.device)[None, None]
        places = start + torch.tensor(depths(parents), device=hidden.device)
        angles = self.model.model.rotary_emb(hidden, places[None])
        for i in layers:
            layer = self.model.model.layers[i]
            hidden = layer(hidden, attention_mask=mask, position_embeddings=angles, cache=self.cache)
        return hidden

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V), float32, of normed hidden states (..., E)."""
        return self.model.lm_head(hidden).float()

    def keep(self, path: list[int] | int) -> None:
        """Of the tokens just read, those at `path`, or the first so many, stay."""
        self.cache.keep(list(range(path)) if isinstance(path, int) else path)
