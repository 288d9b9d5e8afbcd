"""Leave when the exit's most likely class has a high probability: LITE (Varshney et al. 2023, arXiv:2310.18581), EE-LLM
(Chen et al. 2023, arXiv:2312.04916).

logits (..., C) of C classes, or tokens.
"""

from torch import Tensor


def confidence(logits: Tensor) -> Tensor:
    """The largest probability of softmax(logits): (...)."""
    return (logits.amax(-1) - logits.logsumexp(-1)).exp()


def leaves(logits: Tensor, threshold: float | Tensor) -> Tensor:
    """Whether the confidence is at least the threshold, (...), which may differ by exit; above 1 nothing leaves."""
    return confidence(logits) >= threshold
