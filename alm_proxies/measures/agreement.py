"""Agreement among raters, and between humans and proxies at an equal number of votes.

Computed from votes by utterance and label in one pass, without loops over pairs of raters or utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.errors import SettingsError
from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, same_rows
from alm_proxies.measures.bootstrap import Statistic, interval_by_speaker, mean_by_speaker
from alm_proxies.measures.ranges import DIFFERENCE, DIFFERENCE_OF_KAPPAS, SHARE
from alm_proxies.measures.tally import Tally, jsd_of_samples


@dataclass(frozen=True, slots=True)
class Against:
    """One measure between two sets of human votes, between human and proxy votes, and the second minus the first."""

    human_human: Interval
    human_proxy: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class EqualVotes:
    """Human-human and human-proxy agreement with the same number of votes on every side."""

    votes: int
    utterances: int
    left_out: int
    jsd_base2: Against
    agreement: Against
    kappa: Against


@dataclass(frozen=True, slots=True)
class AmongRaters:
    """Agreement among raters: the chance that two votes agree, Krippendorff's alpha, and Fleiss' kappa."""

    agreement: Interval
    alpha: Interval
    kappa: float


def among_raters(votes: Tally, speakers: ArrayLike | None, *, level: float = 0.95, seed: int = 0) -> AmongRaters:
    """Agreement of the votes of each row, with intervals by speaker; rows need two votes or more."""
    return AmongRaters(
        agreement=mean_by_speaker(pairwise_agreement(votes), speakers, level=level, seed=seed, within=SHARE),
        alpha=interval_by_speaker(
            alpha_columns(votes), speakers, alpha_of_sums, level=level, seed=seed, biased=True
        ).within(-inf, 1.0),
        kappa=fleiss_kappa(votes),
    )


def pairwise_agreement(votes: Tally) -> Array:
    """The probability that two different votes for a row agree; NaN below two votes.

    (sum_k c_k^2 - sum_b |v_b|^2) / (n (n - 1)) with v_b the shares of vote b; whole votes have |v_b|^2 = 1.
    """
    n = votes.sizes
    agree: Array = (np.square(votes.counts).sum(1) - votes.squares) / np.where(n >= 2, n * (n - 1), 1.0)
    return np.where(n >= 2, agree, np.nan)


def alpha_columns(votes: Tally) -> Array:
    """Columns of Krippendorff's alpha for nominal data, for `interval_by_speaker` with `alpha_of_sums`.

    Each row's disagreement, (m_u^2 - sum_k c_uk^2) / (m_u - 1) of its m_u whole votes, then its counts; rows with fewer
    than two votes are 0.
    """
    m = votes.sizes
    pairable = m >= 2
    apart = m**2 - m + votes.squares - np.square(votes.counts).sum(1)
    disagreement = np.where(pairable, apart / np.maximum(m - 1, 1.0), 0.0)
    return np.concatenate([disagreement[:, None], np.where(pairable[:, None], votes.counts, 0.0)], axis=1)


def alpha_of_sums(sums: Array) -> Array:
    """Krippendorff's alpha from sums of `alpha_columns`, one per row: 1 - observed / expected disagreement
    (Krippendorff 2011).

    With n votes, n_k of them for label k, and D the summed disagreement: 1 - (n - 1) D / (n^2 - sum_k n_k^2); NaN if
    only one label occurs, as alpha is then 0/0.
    """
    n = sums[:, 1:].sum(1)
    expected = n**2 - np.square(sums[:, 1:]).sum(1)
    alpha: Array = 1.0 - (n - 1) * sums[:, 0] / np.where(expected > 0, expected, 1.0)
    return np.where(expected > 0, alpha, np.nan)


def fleiss_kappa(votes: Tally) -> float:
    """Fleiss' kappa, generalised to unequal numbers of votes as by Gwet (2014); with equal numbers it is Fleiss (1971).

    (P - E) / (1 - E): P is the mean over units with two votes or more of their pairwise agreement, E = sum_k s_k^2 with
    s_k the mean over all units with a vote of label k's share in the unit, so that each unit has equal weight, whatever
    its number of votes. NaN if only one label occurs, or no unit has two votes.
    """
    n = votes.sizes
    agree = pairwise_agreement(votes)[n >= 2]
    if len(agree) == 0:
        return float("nan")
    share = (votes.counts[n > 0] / n[n > 0, None]).mean(0)
    by_chance = float(np.square(share).sum())
    return float((agree.mean() - by_chance) / (1.0 - by_chance)) if by_chance < 1 - 1e-12 else float("nan")


def equal_votes(
    human: Tally,
    proxy: Tally,
    speakers: ArrayLike | None,
    *,
    votes: int = 2,
    seed: int = 0,
    level: float = 0.95,
) -> EqualVotes:
    """Agreement among humans, and between humans and proxies, with `votes` votes on every side; intervals by speaker.

    From each utterance, without replacement: one human sample, a second one disjoint from it, and a proxy sample. Every
    estimate is the exact expectation over these samples, and over the label of a vote that is shared among labels; the
    seed is that of the intervals.
    jsd_base2: the divergence between samples (it depends on the number of votes, hence the equal number). agreement:
    the probability that two votes agree. kappa: the same beyond chance, 1 - (1 - agreement) / (1 - sum_k s_k t_k), s
    and t the two sides' mean shares.
    Utterances with fewer than 2 x votes human or votes proxy votes are left out and counted.
    """
    return equal_votes_by_group(human, proxy, speakers, {}, votes=votes, seed=seed, level=level)[0]


def equal_votes_by_group(
    human: Tally,
    proxy: Tally,
    speakers: ArrayLike | None,
    groups: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    *,
    votes: int = 2,
    fewest: int = 1,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[EqualVotes, dict[str, dict[str, EqualVotes]]]:
    """`equal_votes` of all utterances, and of each group with at least `fewest` utterances that have enough votes."""
    if votes < 1:
        raise SettingsError(f"{votes} votes are too few to compare", fix="Use 1 or more.")
    same_rows(human=human.counts, proxy=proxy.counts)
    enough: NDArray[np.bool_] = (human.sizes >= 2 * votes) & (proxy.sizes >= votes)
    columns = _columns(human.where(enough), proxy.where(enough), votes)
    named = None if speakers is None else np.asarray(speakers)[enough]

    def among(members: NDArray[np.bool_]) -> EqualVotes:
        rows = members[enough]
        some = _equal(columns[rows], None if named is None else named[rows], seed, level)
        return EqualVotes(votes, int(rows.sum()), int(members.sum() - rows.sum()), *some)

    within: dict[str, dict[str, EqualVotes]] = {}
    for title, values in groups.items():
        for value, members in values.items():
            if (enough & members).sum() >= fewest:
                within.setdefault(title, {})[value] = among(members)
    return among(np.ones(len(enough), dtype=np.bool_)), within


def _columns(people: Tally, machines: Tally, votes: int) -> Array:
    """By utterance: 1, both JSDs, both agreements, and the shares of the labels on either side."""
    between, across = jsd_of_samples(people, machines, votes)
    human, proxy = _shares(people), _shares(machines)
    agree, mixed = np.nan_to_num(pairwise_agreement(people)), (human * proxy).sum(1)
    first = np.stack([np.ones(len(human)), between, across, agree, mixed], axis=1)
    return np.concatenate([first, human, proxy], axis=1)


def _equal(columns: Array, speakers: NDArray[Any] | None, seed: int, level: float) -> tuple[Against, Against, Against]:
    """JSD, agreement and kappa."""

    def against(first: int) -> Against:
        of_humans, with_proxies = columns[:, first], columns[:, first + 1]
        values = ((of_humans, SHARE), (with_proxies, SHARE), (with_proxies - of_humans, DIFFERENCE))
        return Against(
            *(mean_by_speaker(value, speakers, level=level, seed=seed, within=ends) for value, ends in values)
        )

    kappas: Sequence[tuple[Statistic, tuple[float, float]]] = (
        (_kappa_human, DIFFERENCE),
        (_kappa_proxy, DIFFERENCE),
        (lambda sums: _kappa_proxy(sums) - _kappa_human(sums), DIFFERENCE_OF_KAPPAS),
    )
    kappa = Against(
        *(
            interval_by_speaker(columns, speakers, kind, level=level, seed=seed, biased=True).within(*ends)
            for kind, ends in kappas
        )
    )
    return against(1), against(3), kappa


def _shares(votes: Tally) -> Array:
    share: Array = votes.counts / np.maximum(votes.sizes[:, None], 1.0)
    return share


def _kappa_human(sums: Array) -> Array:
    many, labels = np.maximum(sums[:, :1], 1e-300), (sums.shape[1] - 5) // 2
    share = sums[:, 5 : 5 + labels] / many
    return _beyond_chance(sums[:, 3] / many[:, 0], np.square(share).sum(1))


def _kappa_proxy(sums: Array) -> Array:
    many, labels = np.maximum(sums[:, :1], 1e-300), (sums.shape[1] - 5) // 2
    share, other = sums[:, 5 : 5 + labels] / many, sums[:, 5 + labels :] / many
    return _beyond_chance(sums[:, 4] / many[:, 0], (share * other).sum(1))


def _beyond_chance(agree: Array, by_chance: Array) -> Array:
    room = 1.0 - by_chance
    kappa: Array = 1.0 - (1.0 - agree) / np.where(room > 1e-12, room, 1.0)
    return np.where(room > 1e-12, kappa, np.nan)
