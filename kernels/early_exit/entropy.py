"""DeeBERT (Xin et al. 2020, arXiv:2004.12993): leave when the exit's distribution has little entropy.

logits (..., C) of C classes.
"""

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Of softmax(logits), in nats: (...), from 0 to log C."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


def leaves(logits: Tensor, threshold: float) -> Tensor:
    """Whether the entropy is below the threshold S, (...): never for S = 0, the whole model."""
    if threshold < 0:
        raise ValueError(f"threshold: expected an entropy, 0 or more, got {threshold}")
    return entropy(logits) < threshold
