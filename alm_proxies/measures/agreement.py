"""Agreement among raters, and between humans and proxies at an equal number of votes.

Computed from count tables (utterances x labels) in one pass, without loops over pairs of raters or utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, counts, same_rows
from alm_proxies.measures.bootstrap import Statistic, interval_by_speaker, mean_by_speaker
from alm_proxies.measures.divergence import jsd_base2
from alm_proxies.measures.ranges import DIFFERENCE, DIFFERENCE_OF_KAPPAS, SHARE
from alm_proxies.seeds import generator

_DRAWN_UTTERANCES = 200_000


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


def among_raters(votes: ArrayLike, speakers: ArrayLike | None, *, level: float = 0.95, seed: int = 0) -> AmongRaters:
    """Agreement of the votes of each row, with intervals by speaker; rows need two votes or more."""
    table = np.atleast_2d(counts(votes, "votes"))
    return AmongRaters(
        agreement=mean_by_speaker(pairwise_agreement(table), speakers, level=level, seed=seed, within=SHARE),
        alpha=interval_by_speaker(alpha_columns(table), speakers, alpha_of_sums, level=level, seed=seed).within(
            -inf, 1.0
        ),
        kappa=fleiss_kappa(table),
    )


def pairwise_agreement(table: Array) -> Array:
    """The probability that two different votes for a row agree: (sum c^2 - n) / (n (n - 1)); NaN below two votes."""
    n = table.sum(1)
    pairs = n * (n - 1)
    agree: Array = (np.square(table).sum(1) - n) / np.where(n >= 2, pairs, 1.0)
    return np.where(n >= 2, agree, np.nan)


def alpha_columns(table: Array) -> Array:
    """Columns of Krippendorff's alpha for nominal data, for `interval_by_speaker` with `alpha_of_sums`.

    Each row's disagreement, (m_u^2 - sum_k c_uk^2) / (m_u - 1) of its m_u votes, then its counts; rows with fewer than
    two votes are 0.
    """
    m = table.sum(1)
    pairable = m >= 2
    disagreement = np.where(pairable, (m**2 - np.square(table).sum(1)) / np.maximum(m - 1, 1.0), 0.0)
    return np.concatenate([disagreement[:, None], np.where(pairable[:, None], table, 0.0)], axis=1)


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


def fleiss_kappa(table: Array) -> float:
    """Fleiss' kappa, generalised to unequal numbers of votes as by Gwet (2014); with equal numbers it is Fleiss (1971).

    (P - E) / (1 - E): P is the mean over units with two votes or more of their pairwise agreement, E = sum_k s_k^2 with
    s_k the mean over all units with a vote of label k's share in the unit, so that each unit has equal weight, whatever
    its number of votes. NaN if only one label occurs, or no unit has two votes.
    """
    n = table.sum(1)
    agree = pairwise_agreement(table)[n >= 2]
    if len(agree) == 0:
        return float("nan")
    share = (table[n > 0] / n[n > 0, None]).mean(0)
    by_chance = float(np.square(share).sum())
    return float((agree.mean() - by_chance) / (1.0 - by_chance)) if by_chance < 1 - 1e-12 else float("nan")


def equal_votes(
    human: ArrayLike,
    proxy: ArrayLike,
    speakers: ArrayLike | None,
    *,
    votes: int = 2,
    seed: int = 0,
    level: float = 0.95,
) -> EqualVotes:
    """Agreement among humans, and between humans and proxies, with `votes` votes on every side; intervals by speaker.

    From each utterance, without replacement: one human sample, a second one disjoint from it, and a proxy sample.
    jsd_base2: the divergence between samples, averaged over 20 draws, fewer beyond 10,000 utterances (it depends on
    the number of votes, hence the equal number). agreement: the probability that two votes agree, computed exactly.
    kappa: the same beyond chance, 1 - (1 - agreement) / (1 - sum_k s_k t_k), s and t the two sides' mean shares.
    Utterances with fewer than 2 x votes human or votes proxy votes are left out and counted.
    """
    people, machines = _whole_votes(human, proxy, votes)
    return _equal(people, machines, None if speakers is None else np.asarray(speakers), votes, seed, level)


def equal_votes_by_group(
    human: ArrayLike,
    proxy: ArrayLike,
    speakers: ArrayLike | None,
    groups: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    *,
    votes: int = 2,
    fewest: int = 1,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[EqualVotes, dict[str, dict[str, EqualVotes]]]:
    """`equal_votes` of all utterances, and of each group with at least `fewest` utterances that have enough votes."""
    people, machines = _whole_votes(human, proxy, votes)
    enough = _enough(people, machines, votes)
    parts = {(title, value): enough & members for title, values in groups.items() for value, members in values.items()}
    chosen = {None: np.ones(len(people), dtype=np.bool_)} | {
        place: rows for place, rows in parts.items() if rows.sum() >= fewest
    }
    named = None if speakers is None else np.asarray(speakers)
    equal = {
        place: _equal(people[rows], machines[rows], None if named is None else named[rows], votes, seed, level)
        for place, rows in chosen.items()
    }
    within: dict[str, dict[str, EqualVotes]] = {}
    for place, part in equal.items():
        if place is not None:
            within.setdefault(place[0], {})[place[1]] = part
    return equal[None], within


def _whole_votes(human: ArrayLike, proxy: ArrayLike, votes: int) -> tuple[Array, Array]:
    people, machines = np.atleast_2d(counts(human, "human")), np.atleast_2d(counts(proxy, "proxy"))
    same_rows(human=people, proxy=machines)
    if votes < 1:
        raise SettingsError(f"{votes} votes are too few to compare", fix="Use 1 or more.")
    for name, table in (("human", people), ("proxy", machines)):
        if (table != np.round(table)).any():
            raise InputError("the counts are not whole votes", where=name, fix="Give counts of votes, unweighted.")
    return people, machines


def _enough(people: Array, machines: Array, votes: int) -> NDArray[np.bool_]:
    enough: NDArray[np.bool_] = (people.sum(1) >= max(2 * votes, 2)) & (machines.sum(1) >= votes)
    return enough


def _equal(
    people: Array, machines: Array, speakers: NDArray[Any] | None, votes: int, seed: int, level: float
) -> EqualVotes:
    enough = _enough(people, machines, votes)
    people, machines = people[enough], machines[enough]
    named = None if speakers is None else speakers[enough]
    both, mixed = _agreement_columns(people, machines)
    columns = np.concatenate([both[:, None], mixed[:, None], _shares(people), _shares(machines)], axis=1)
    columns = np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
    rng = generator(seed, "equal votes", votes)
    between, across = np.zeros(len(people)), np.zeros(len(people))
    repeats = min(max(_DRAWN_UTTERANCES // max(len(people), 1), 1), 20) if len(people) else 0
    for _ in range(repeats):
        first = draw_without_replacement(people, votes, rng)
        second = draw_without_replacement(people - first, votes, rng)
        other = draw_without_replacement(machines, votes, rng)
        between += jsd_base2(first / votes, second / votes) / repeats
        across += jsd_base2(first / votes, other / votes) / repeats

    def against(first: Array, second: Array) -> Against:
        values = (first, second, second - first)
        within = (SHARE, SHARE, DIFFERENCE)
        pairs = zip(values, within, strict=True)
        return Against(*(mean_by_speaker(value, named, level=level, seed=seed, within=ends) for value, ends in pairs))

    kappas: Sequence[tuple[Statistic, tuple[float, float]]] = (
        (_kappa_human, DIFFERENCE),
        (_kappa_proxy, DIFFERENCE),
        (lambda sums: _kappa_proxy(sums) - _kappa_human(sums), DIFFERENCE_OF_KAPPAS),
    )
    kappa = Against(
        *(interval_by_speaker(columns, named, kind, level=level, seed=seed).within(*ends) for kind, ends in kappas)
    )
    left_out = int((~enough).sum())
    return EqualVotes(votes, len(people), left_out, against(between, across), against(both, mixed), kappa)


def draw_without_replacement(table: Array, votes: int, rng: np.random.Generator) -> Array:
    """A random sample of each row's votes, without replacement, as counts."""
    left, wanted = table.sum(1).astype(np.int64), np.full(len(table), votes, dtype=np.int64)
    taken: NDArray[np.int64] = np.zeros(table.shape, dtype=np.int64)
    for label in range(table.shape[1]):
        here = table[:, label].astype(np.int64)
        left = left - here
        taken[:, label] = rng.hypergeometric(here, left, wanted)
        wanted = wanted - taken[:, label]
    return taken.astype(np.float64)


def _agreement_columns(people: Array, machines: Array) -> tuple[Array, Array]:
    mixed: Array = (people * machines).sum(1) / np.maximum(people.sum(1) * machines.sum(1), 1.0)
    return np.nan_to_num(pairwise_agreement(people)), mixed


def _shares(table: Array) -> Array:
    share: Array = table / np.maximum(table.sum(1, keepdims=True), 1.0)
    return share


def _kappa_human(sums: Array) -> Array:
    many, labels = np.maximum(sums[:, :1], 1e-300), (sums.shape[1] - 3) // 2
    share = sums[:, 3 : 3 + labels] / many
    return _beyond_chance(sums[:, 1] / many[:, 0], np.square(share).sum(1))


def _kappa_proxy(sums: Array) -> Array:
    many, labels = np.maximum(sums[:, :1], 1e-300), (sums.shape[1] - 3) // 2
    share, other = sums[:, 3 : 3 + labels] / many, sums[:, 3 + labels :] / many
    return _beyond_chance(sums[:, 2] / many[:, 0], (share * other).sum(1))


def _beyond_chance(agree: Array, by_chance: Array) -> Array:
    room = 1.0 - by_chance
    kappa: Array = 1.0 - (1.0 - agree) / np.where(room > 1e-12, room, 1.0)
    return np.where(room > 1e-12, kappa, np.nan)
