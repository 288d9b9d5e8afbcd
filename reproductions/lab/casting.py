"""A language model whose matrix products get rounded inputs: which sites there are, how they are scaled, and by what.

The sites of a Llama-like layer are the inputs of its products: what enters q, k and v, the rotated q and k, v, the
attention weights, what enters the output projection, gate and up, and down; and, named "... sum", the residual stream
after each addition. Embeddings and the last projection keep their precision. Rounding is simulated, as in the FP8
paper: values are rounded, products are not.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.cache.streaming import rotate
from kernels.gemm.fp8 import FORMATS
from reproductions.lab import models

LARGEST = {"int8": 127.0} | {name: of.largest for name, of in FORMATS.items()}
SUM = "sum"
SAMPLE = 16384  # values kept of a site to choose its scale by
CLIPS = [2.0 ** (-k / 2) for k in range(9)]  # shares of the largest value that "mse" tries


def cast(x: Tensor, kind: str, scale: Tensor | float) -> Tensor:
    """x rounded to `kind` ("int8", "e4m3", "e5m2") after multiplying by `scale`, saturating, and divided again."""
    large = LARGEST[kind]
    scaled = (x.float() * scale).clamp_(-large, large)
    rounded = scaled.round_() if kind == "int8" else scaled.to(FORMATS[kind].dtype).float()
    return (rounded / scale).to(x.dtype)


def rounding(kind: str, scales: dict[str, Tensor] | float, residual: bool = False) -> Callable[[str, Tensor], Tensor]:
    """For `token_losses`: every site cast with its own scale or with one for all; the residual stream if asked."""

    def at(site: str, x: Tensor) -> Tensor:
        if site.endswith(SUM) and not residual:
            return x
        return cast(x, kind, scales[site] if isinstance(scales, dict) else scales)

    return at


def unrounded(site: str, x: Tensor) -> Tensor:
    """For `token_losses`: x as it is."""
    return x


@dataclass
class Seen:
    """What a calibration saw at each site: the largest magnitude, and a sample with that value in it."""

    largest: dict[str, Tensor] = field(default_factory=dict)
    samples: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, site: str, x: Tensor) -> Tensor:
        size = x.abs().flatten().float()
        self.largest[site] = top = size.amax().clamp_min(1e-30)
        self.samples[site] = torch.cat([size[:: max(1, len(size) // SAMPLE)], top[None]])
        return x

    def scales(self, kind: str, how: str) -> dict[str, Tensor]:
        """A scale a site for `kind`: by its maximum ("max"), its 99.9th percentile, or the least squared error."""
        return {site: LARGEST[kind] / self._clip(site, kind, how).clamp_min(1e-30) for site in self.largest}

    def _clip(self, site: str, kind: str, how: str) -> Tensor:
        top, sample = self.largest[site], self.samples[site]
        if how == "percentile":
            return sample[:-1].quantile(0.999)
        if how == "mse":
            errors = [(cast(sample, kind, LARGEST[kind] / (top * clip)) - sample).square().mean() for clip in CLIPS]
            return top * CLIPS[int(torch.stack(errors).argmin())]
        return top


@contextlib.contextmanager
def cast_weights(model, kind: str, scale: float | None = None) -> Iterator[None]:
    """The weights of all layers' products rounded: a scale an output channel by its maximum, or one given for all."""
    weights = {name: p for name, p in model.model.layers.named_parameters() if p.dim() == 2}
    kept = {name: p.data for name, p in weights.items()}
    try:
        for p in weights.values():
            by = LARGEST[kind] / p.data.abs().amax(1, keepdim=True).float().clamp_min(1e-30) if scale is None else scale
            p.data = cast(p.data, kind, by)
        yield
    finally:
        for name, p in weights.items():
            p.data = kept[name]


@torch.no_grad()
def token_losses(model, ids: Tensor, at: Callable[[str, Tensor], Tensor]) -> Tensor:
    """Negative log likelihood, float32 (N - 1,), of ids (1, N), with `at(site, x)` in place of x at every site.

    ValueError for a model whose layers are not built like Llama's.
    """
    if model.config.model_type not in models.LIKE_LLAMA:
        raise ValueError(f"model: expected one of {', '.join(models.LIKE_LLAMA)}, got {model.config.model_type}")
    cos, sin = models.rotation(model, ids.shape[1])
    later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
    hidden = at(f"embedding {SUM}", model.model.embed_tokens(ids))
    for i, layer in enumerate(model.model.layers):
        own, mlp, x = layer.self_attn, layer.mlp, at(f"{i} qkv", layer.input_layernorm(hidden))
        q, k, v = (
            project(x).unflatten(-1, (-1, own.head_dim)).transpose(1, 2)
            for project in (own.q_proj, own.k_proj, own.v_proj)
        )
        repeat = q.shape[1] // k.shape[1]
        q, k, v = at(f"{i} q", rotate(q, cos, sin)), at(f"{i} k", rotate(k, cos, sin)), at(f"{i} v", v)
        scores = q @ k.repeat_interleave(repeat, 1).mT * own.head_dim**-0.5
        p = at(f"{i} p", scores.masked_fill(later, -torch.inf).softmax(-1))
        out = (p @ v.repeat_interleave(repeat, 1)).transpose(1, 2).flatten(2)
        hidden = at(f"{i} attention {SUM}", hidden + own.o_proj(at(f"{i} o", out)))
        x = at(f"{i} gate", layer.post_attention_layernorm(hidden))
        x = at(f"{i} down", mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))
        hidden = at(f"{i} {SUM}", hidden + mlp.down_proj(x))
    return models.token_nll(model, model.model.norm(hidden)[0, :-1], ids[0, 1:])
