"""Leave when the exit's most likely class has a high probability: LITE (Varshney et al. 2023, arXiv:2310.18581), EE-LLM
(Chen et al. 2023, arXiv:2312.04916).

logits (..., C) of C classes, or tokens.
"""

import torch
from torch import Tensor


def confidence(logits: Tensor) -> Tensor:
    """The largest probability of softmax(logits): (...)."""
    return (logits.amax(-1) - logits.logsumexp(-1)).exp()


def leaves(logits: Tensor, threshold: float | Tensor) -> Tensor:
    """Whether the confidence is at least the threshold, (...), which may differ by exit; above 1 nothing leaves."""
    return confidence(logits) >= threshold


def calibrated(sure: Tensor, agrees: Tensor, target: float, fewest: int = 10) -> Tensor:
    """Thresholds (X,) by which each of X exits, seen at M positions (X, M), agrees with the whole model in at least the
    share `target` of those it answers: the lowest that does and leaves it `fewest` at least; 2, never, if none does."""
    ordered, order = sure.sort(dim=1, descending=True)
    answered = torch.arange(1, sure.shape[1] + 1, device=sure.device)
    share = agrees.gather(1, order).double().cumsum(1) / answered
    share[:, : fewest - 1] = 0.0
    share[:, :-1][ordered[:, :-1] == ordered[:, 1:]] = 0.0  # of equals, all leave or none
    count = torch.where(share >= target, answered, 0).amax(1)
    found = ordered.gather(1, (count - 1).clamp_min(0)[:, None])[:, 0]
    return torch.where(count > 0, found, 2.0)
