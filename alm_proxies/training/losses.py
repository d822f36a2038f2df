"""What training makes small."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def answer_loss(logits: Tensor, shares: Tensor, labels: Sequence[int], end: int, weights: Tensor) -> Tensor:
    """Cross-entropy of an answer of one token and its end: - sum_k share_k log P(label k) - log P(end | an answer).

    logits (rows, 2, vocabulary) stand at the last token of the prompt and at the answer, shares (rows, labels) are what
    the label tokens `labels` should have; P is over the whole vocabulary, so that nothing but a label is ever said.
    The mean over rows is weighted.
    """
    log_p = logits.float().log_softmax(-1)
    said = -(shares * log_p[:, 0, list(labels)]).sum(-1)
    ended = -log_p[:, 1, end]
    return (weights * (said + ended)).sum() / weights.sum()
