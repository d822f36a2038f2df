"""Leakage of human votes into proxies: proxies that depend on the human votes, which cross-validation cannot show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alm_proxies.ballots import summed
from alm_proxies.estimators.counts import Array, Block, Counts, Index
from alm_proxies.estimators.estimator import fitting_rows
from alm_proxies.tables import Finding

NEEDED = 50
"""The lowest number of utterances for a test."""
_MOST = 5
_CORPORA = 20
_SURE = 3.5
"""Standard errors by which an inequality must fail."""


def leaking(counts: Counts) -> dict[str, str]:
    """The blocks that depend on the human votes, each with the reason.

    Take m human votes of an utterance and a label z chosen without them; M of the m are z. Given the utterance M is
    binomial, so over utterances a_j = P(M = j) / C(m, j) = E[t^j (1 - t)^(m - j)] and a_j a_(j+2) >= a_(j+1)^2 (Cauchy
    and Schwarz), however the chance t varies, so however good a proxy is. Two kinds of leak violate this:

    votes made from the human votes: z is the proxy's vote, j < m // 2, m = 2 to 5. A copy of one rater or of the
    majority always agrees with some voter; proxies asked for depending on the human votes, say where they disagree: z
    is any fixed label, all j, among the utterances with the proxy's votes or among those without.

    Blocks are reported that violate an inequality by 3.5 standard errors over speakers, and by 3.5 Poisson standard
    errors in numbers of utterances. Measured on CREMA-D, 3 voice votes per clip: a copy of one vote fails by 18 to 20,
    the majority by 11; audio-visual and face listeners of the same clips fail none. Occasional copies, noisy ones, and
    those of some hundred nearly unanimous utterances are not found; human votes shared among labels are not tested. A
    distribution (`score`) is treated as a vote drawn from it: one that repeats the shares of the human votes is found;
    a classifier trained on them, which smooths them, is not: the exchange test on held-out votes finds it
    (measures.exchange).
    """
    if counts.draws is not None:
        return {}
    counts = fitting_rows(counts)
    scores = {}
    for block in counts.blocks:
        if asked_by_votes(counts, block) > _SURE:
            scores[block.name] = "the choice of the utterances it voted on depends on the human votes"
        elif copying(counts, block) > _SURE:
            scores[block.name] = "its votes agree with the human votes more than independent votes can"
    return scores


def leaks_found(leaks: dict[str, str], effect: str) -> list[Finding]:
    """A finding for each block of proxies that depends on the human votes."""
    fix = "Give proxies that never saw these human votes, asked of all utterances or of a random part of them."
    return [Finding.of("proxies_leak", f"{message}, {effect}", fix, where=name) for name, message in leaks.items()]


def copying(counts: Counts, block: Block) -> float:
    """By how many standard errors its votes violate the inequality for votes independent of the human votes."""
    there = block.votes > 0
    part = counts.rows(np.flatnonzero(there))
    share = block.counts[there] / block.counts[there].sum(1, keepdims=True)
    return max(_worst(part, part.human, share, m, m // 2) for m in range(2, _MOST + 1))


def asked_by_votes(counts: Counts, block: Block) -> float:
    """By how many standard errors the human votes of utterances with, or without, its votes violate the inequality;
    -inf if all do.

    Tested within each corpus, since the proxies do not decide which utterances a corpus has.
    """
    there, gains = block.votes > 0, [-np.inf]
    for corpus in _corpora(counts):
        beside, away = corpus & there, corpus & ~there
        if beside.any() and away.any() and _any_label(counts, corpus) <= _SURE:
            gains += [_any_label(counts, beside), _any_label(counts, away)]
    return max(gains)


def _corpora(counts: Counts) -> list[NDArray[np.bool_]]:
    """The utterances of each corpus, by the prefix of their ids; all together if there are many prefixes."""
    prefix = counts.utterances.str.extract("^([^/]*)/").fill_null("").rank("dense").to_numpy()
    many = int(prefix.max(initial=0))
    return [prefix == corpus for corpus in range(1, many + 1)] if many <= _CORPORA else [prefix > 0]


def _any_label(counts: Counts, rows: NDArray[np.bool_]) -> float:
    counts = counts.rows(np.flatnonzero(rows))
    cast = counts.human.sum(1)
    m = int(np.clip(np.median(cast[cast >= 2]), 2, _MOST)) if (cast >= 2).any() else 2
    everywhere = np.ones((len(counts), 1))
    return max(_worst(counts, label[:, None], everywhere, m, m - 1) for label in counts.human.T)


def _worst(counts: Counts, agree: Array, share: Array, m: int, inequalities: int) -> float:
    """The largest violation among the first inequalities.

    agree: the votes of each utterance for each possible z (utterances x labels); share: the probability of each z.
    """
    from scipy.special import comb

    cast = counts.human.sum(1)
    rows = cast >= m
    if rows.sum() < NEEDED:
        return -np.inf
    agreed, total, share = agree[rows].astype(np.int64), cast[rows].astype(np.int64), share[rows]
    ways = comb(m, np.arange(m + 1))
    of = comb(np.arange(int(total.max()) + 1)[:, None], np.arange(m + 1))
    part = [(share * of[agreed, j] * of[total[:, None] - agreed, m - j]).sum(1) for j in range(m + 1)]
    each = np.stack(part, axis=1) / of[total, m][:, None] / ways
    _, speaker = np.unique(counts.speakers[rows], return_inverse=True)
    return max(_failing(each, ways, j, speaker) for j in range(inequalities))


def _failing(each: Array, ways: Array, j: int, speaker: Index) -> float:
    """Standard errors of a_(j+1)^2 - a_j a_(j+2) by the delta method, or of the missing utterances if that is lower.

    The second matters if disagreement is rare: zero observed is weak evidence if few were expected. Missing are those
    with j or with j + 2 votes of z, whichever are fewer relative to the expected number.
    """
    mean = each.mean(0)
    first, middle, last = mean[j], mean[j + 1], mean[j + 2]
    gap = float(middle**2 - first * last)
    away = each - mean
    slope = 2 * middle * away[:, j + 1] - first * away[:, j + 2] - last * away[:, j]
    groups = int(speaker.max()) + 1
    by_speaker = np.square(summed(speaker, slope, groups)).sum() * groups / max(groups - 1, 1)
    error = float(np.sqrt(max(by_speaker, np.square(slope).sum())) / len(each))
    if gap <= 0 or error <= 0:
        return -np.inf
    sides = [(ways[j], last), (ways[j + 2], first)]
    missing = [np.sqrt(len(each) * many / other) * gap / middle for many, other in sides if other > 0]
    return float(min([gap / error, *missing]))
