"""A BERT layer on padded or on packed tokens (ByteTransformer, Zhai et al. 2022, arXiv:2210.03052, Fig. 3).

B sequences padded to S, T real tokens, E width, H heads. The same weights in three ways: `padded` as frameworks run
it, with a mask; `packed` dense layers around attention that is unpacked and padded; and `packed` throughout.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from kernels.attention.packed import packed_attention
from kernels.encoder.fusions import bias_gelu, bias_residual_norm
from kernels.encoder.packing import Packing


class EncoderLayer(nn.Module):
    """Post-norm: x = norm(x + attention(x)), then norm(x + feed-forward(x)); GELU; for inference."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"expected heads that divide the width, got {heads} and {width}")
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(2))
        self.requires_grad_(False)

    def padded(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, S, E), mask (B, 1, 1, S) of real keys -> (B, S, E); rows of padding hold nothing of use."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norms[0](x + self.out(seen.transpose(1, 2).flatten(2)))
        return self.norms[1](x + self.down(gelu(self.up(x))))

    def packed(self, x: Tensor, packing: Packing, padded_attention: bool = False) -> Tensor:
        """x (T, E) -> (T, E). `padded_attention`: only the dense layers are packed."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        if padded_attention:
            q, k, v = (packing.unpack(each).transpose(1, 2) for each in (q, k, v))
            seen = packing.pack(scaled_dot_product_attention(q, k, v, packing.mask).transpose(1, 2))
        else:
            seen = packed_attention(q, k, v, packing.offsets, lengths=packing.lengths)
        x = self._add(linear(seen.flatten(1), self.out.weight), self.out, x, 0)
        up = bias_gelu(linear(x, self.up.weight), self.up.bias)
        return self._add(linear(up, self.down.weight), self.down, x, 1)

    def _add(self, x: Tensor, last: nn.Linear, residual: Tensor, norm: int) -> Tensor:
        one = self.norms[norm]
        return bias_residual_norm(x, last.bias, residual, one.weight, one.bias, one.eps)


def random_lengths(sequences: int, longest: int, share: float, generator: torch.Generator) -> list[int]:
    """Lengths spread evenly around `share` of `longest` (0.6: from 0.2 to 1 of it), the first of them the longest."""
    spread = min(share, 1 - share) * longest
    drawn = torch.rand(sequences, generator=generator) * 2 - 1
    lengths = [max(1, round(share * longest + spread * one)) for one in drawn.tolist()]
    return [longest, *lengths[1:]]
