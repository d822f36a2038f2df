"""Losses: one value per row, in nats; `weighted_sum` turns them into the number that is minimised."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from alm_proxies.errors import InputError

_LOG_2_PI = math.log(2 * math.pi)


def weighted_sum(losses: Tensor, weights: Tensor, total: float) -> Tensor:
    """sum_i w_i loss_i / total. With one total for all parts of a batch, any division of it into micro-batches and
    devices has the same gradient."""
    return (losses * weights).sum() / total


def kld(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target || prediction) = sum_k t_k (ln t_k - ln p_k), p = softmax(logits); soft cross-entropy minus H(target),
    with the same gradient.
    """
    return soft_cross_entropy(logits, target) - entropy(target)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """- sum_k t_k ln p_k."""
    return -(target * logits.float().log_softmax(-1)).sum(-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """- ln p of the target's most likely label; labels that tie share the weight of one."""
    return soft_cross_entropy(logits, most_likely(target))


def class_balanced(logits: Tensor, target: Tensor, class_weights: Tensor) -> Tensor:
    """Cross-entropy times the weight of the most likely label (Cui et al. 2019, Class-balanced loss)."""
    chosen = most_likely(target)
    return (chosen * class_weights).sum(-1) * soft_cross_entropy(logits, chosen)


def weighted_kld(logits: Tensor, target: Tensor, class_weights: Tensor) -> Tensor:
    """sum_k c_k t_k (ln t_k - ln p_k), the class weights inside the sum.

    Its minimum lies at p_k proportional to c_k t_k, not at the target: rare labels are predicted more often than
    listeners vote for them.
    """
    log_p = logits.float().log_softmax(-1)
    return (class_weights * (torch.xlogy(target, target) - target * log_p)).sum(-1)


def jsd(logits: Tensor, target: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats: (KL(t || m) + KL(p || m)) / 2, m = (t + p) / 2; at most ln 2."""
    log_p = logits.float().log_softmax(-1)
    p = log_p.exp()
    log_m = ((target + p) / 2).clamp(min=torch.finfo(p.dtype).tiny).log()
    from_target = (torch.xlogy(target, target) - target * log_m).sum(-1)
    from_prediction = (p * (log_p - log_m)).sum(-1)
    return (from_target + from_prediction) / 2


def jsd_entropy(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    """JSD + weight x H(prediction), the loss of arXiv 2601.14620's released code (weight .08), kept as a baseline.

    The entropy is added, so it is minimised too: of two predictions equally far from the target the more confident one
    costs less. That rewards over-confidence; a minus sign would be the usual entropy bonus.
    """
    log_p = logits.float().log_softmax(-1)
    return jsd(logits, target) - weight * (log_p.exp() * log_p).sum(-1)


def dirichlet_multinomial(log_alpha: Tensor, counts: Tensor) -> Tensor:
    """- ln P(counts | alpha), the probability of vote counts n whose distribution is drawn from Dirichlet(alpha):

    ln P = ln G(N+1) - sum_k ln G(n_k+1) + ln G(A) - ln G(A+N) + sum_k [ln G(alpha_k+n_k) - ln G(alpha_k)], A = sum
    alpha, N = sum n, G the gamma function. Counts are those of whole votes. Computed in float64: the terms are large
    and nearly cancel.
    """
    alpha, n = log_alpha.double().exp(), counts.double()
    total, votes = alpha.sum(-1), n.sum(-1)
    orders = torch.lgamma(votes + 1) - torch.lgamma(n + 1).sum(-1)
    urn = torch.lgamma(total) - torch.lgamma(total + votes)
    urn = urn + (torch.lgamma(alpha + n) - torch.lgamma(alpha)).sum(-1)
    return -(orders + urn)


def gaussian_nll(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """- ln N(target | mean, variance), averaged over the attributes that are known (not NaN); 0 if none is."""
    known = ~target.isnan()
    wanted = torch.where(known, target, mean.detach())
    nll = 0.5 * (_LOG_2_PI + log_variance + (wanted - mean).square() * (-log_variance).exp())
    return torch.where(known, nll, torch.zeros_like(nll)).sum(-1) / known.sum(-1).clamp(min=1)


def concordance(mean: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """1 - CCC over the rows, averaged over the attributes with two different known targets; 0 if there is none.

    CCC = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2), weighted (Lin 1989). It is a property of all rows of a
    micro-batch together, so unlike the other losses it depends on how a batch is divided.
    """
    known = ~target.isnan()
    w = torch.where(known, weights[:, None], 0.0)
    total = w.sum(0)
    usable = (known & (w > 0)).sum(0) > 1
    w = w / total.clamp(min=torch.finfo(w.dtype).tiny)
    y = torch.where(known, target, 0.0)
    mean_x, mean_y = (w * mean).sum(0), (w * y).sum(0)
    x_off, y_off = mean - mean_x, torch.where(known, y - mean_y, 0.0)
    var_x, var_y, cov = (w * x_off.square()).sum(0), (w * y_off.square()).sum(0), (w * x_off * y_off).sum(0)
    highest = torch.where(known & (w > 0), target, -torch.inf).amax(0)
    lowest = torch.where(known & (w > 0), target, torch.inf).amin(0)
    usable = usable & (highest > lowest)  # a variance of 0 may be rounded to something above it
    ccc = 2 * cov / torch.where(usable, var_x + var_y + (mean_x - mean_y).square(), 1.0)
    return torch.where(usable, 1 - ccc, 0.0).sum() / usable.sum().clamp(min=1)


def entropy(shares: Tensor) -> Tensor:
    """Shannon entropy in nats."""
    return -torch.xlogy(shares, shares).sum(-1)


def most_likely(target: Tensor) -> Tensor:
    """1 at the most likely label; m labels that tie have 1/m each."""
    top = (target >= target.amax(-1, keepdim=True) - 1e-9).to(target.dtype)
    return top / top.sum(-1, keepdim=True)


def class_weights(shares: Tensor, weights: Tensor, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n_k) for every class, scaled to a mean of 1 over rows; n_k = its mass, the weights of rows
    being taken in relation to their mean.

    beta = 0 gives all classes the same weight; beta towards 1 gives 1 / n_k. A class without rows has the weight of one
    row.
    """
    mass = (weights[:, None] * shares).sum(0).double()
    if not float(mass.sum()) > 0:
        raise InputError("no training row has a weight above 0", fix="Check the labels' weight column.")
    mass = mass / weights.double().mean()
    n = mass.clamp(min=1.0)
    effective = (1 - beta) / (1 - beta**n) if beta else torch.ones_like(n)
    return (effective * (mass.sum() / (effective * mass).sum())).to(shares.dtype)


def answer_loss(
    logits: Tensor, shares: Tensor, labels: Sequence[int], end: int | None, weights: Tensor, total: Tensor | None = None
) -> Tensor:
    """Cross-entropy of an answer of one token and its end: - sum_k share_k log P(label k) - log P(end | an answer).

    logits (rows, 1 or 2, vocabulary) are those at the last token of the prompt and at the answer, shares (rows, labels)
    are what the label tokens `labels` should have; P is over the whole vocabulary, so that only labels are answered.
    With end = None only the first term is used: it is KL(shares || P) plus the entropy of the shares, which no weight
    changes. The sum over rows is weighted and divided by `total`, the weights of the whole step.
    """
    log_p = logits.float().log_softmax(-1)
    losses = -(shares * log_p[:, 0, list(labels)]).sum(-1)
    if end is not None:
        losses = losses - log_p[:, 1, end]
    return (weights * losses).sum() / (weights.sum() if total is None else total)
