"""Variance components of proxy votes: utterance, model, prompt, temperature, label order and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from alm_proxies.ballots import Array, Ballots
from alm_proxies.compare.strata import Words
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import interval_by_speaker
from alm_proxies.measures.ranges import SHARE
from alm_proxies.printable import counted
from alm_proxies.report.charts import Bars, Series
from alm_proxies.report.drawing import number
from alm_proxies.report.page import Section
from alm_proxies.stages.align.prepared import Cell
from alm_proxies.tables import Finding

CHANCE, UTTERANCE = "chance", "utterance"
_ENOUGH = 30


@dataclass(frozen=True, slots=True)
class Component:
    """The share of the proxies' variance due to a factor, with its interval over speakers."""

    name: str
    share: Interval


@dataclass(frozen=True, slots=True)
class Variance:
    """Components in the order of the factors; `total` = P(two proxy votes of two utterances differ)."""

    components: tuple[Component, ...]
    total: float
    utterances: int
    findings: tuple[Finding, ...]


def variance(
    ballots: Ballots, cells: Mapping[str, Sequence[Cell]], speakers: Words | None, *, seed: int
) -> Variance | None:
    """Variance components of proxy votes by the factors that differ between two votes of one utterance.

    With d(i, j) = |y_i - y_j|^2 / 2 (1 if two votes differ, 0 if not), pairs of votes of one utterance, i of annotator
    a and j of annotator b, follow
        E d(i, j) = (chance_a + chance_b) / 2 + sum over factors f of v_f [i and j differ in f],
    fitted by least squares weighted by the number of pairs; pairs of different utterances follow the same plus
    v_utterance. Chance is the mean of chance_a over votes. A vote's cell is its draw modulo the cells of its annotator;
    a factor that only one of two annotators crosses does not differ between them. None with fewer than 30 utterances
    that have two votes.
    """
    enough = ballots.sizes() >= 2
    if enough.sum() < _ENOUGH:
        return None
    states, owners, factors = _states(ballots.names, cells)
    sizes = np.bincount(owners, minlength=len(ballots.names))
    offset = np.cumsum(sizes) - sizes
    cell = offset[ballots.annotators] + ballots.draws % sizes[ballots.annotators]
    number, total, squares = _sums(ballots, cell, len(states))
    merged, findings = _merged(states, factors)
    patterns = _patterns(states, owners, merged)
    design = np.array([row for row, _ in patterns])
    columns = [np.stack(_pairs(number, total, squares, mask), axis=1)[enough] for _, mask in patterns]
    names = None if speakers is None else speakers[enough]
    across = _across(number[enough], total[enough], squares[enough])
    table = np.concatenate([np.stack(columns, axis=1).reshape(int(enough.sum()), -1), *across], axis=1)
    weights = np.bincount(ballots.annotators, minlength=len(ballots.names)) / len(ballots.annotators)
    pieces = [UTTERANCE, *(" and ".join(factor) for factor in merged), CHANCE]

    def share(place: int) -> Interval:
        def statistic(sums: Array) -> Array:
            return _shares(sums, design, weights, total.shape[2])[:, place]

        return interval_by_speaker(table, names, statistic, seed=seed).within(*SHARE)

    overall = float(_totals(table.sum(0, keepdims=True), total.shape[2])[0])
    if overall <= 0:
        return None
    components = [Component(piece, share(place)) for place, piece in enumerate(pieces)]
    return Variance(tuple(components), overall, int(enough.sum()), tuple(findings))


def _states(
    names: Sequence[str], cells: Mapping[str, Sequence[Cell]]
) -> tuple[list[dict[str, str]], NDArray[np.int64], list[str]]:
    """The cells of all annotators, with their annotator, and the factors that vary among them."""
    of = [[dict(cell) for cell in cells.get(name) or ({"model": name},)] for name in names]
    states = [state for some in of for state in some]
    owners = np.repeat(np.arange(len(names)), [len(some) for some in of])
    keys = dict.fromkeys(key for state in states for key in state)
    return states, owners, [key for key in keys if len({state.get(key, "") for state in states} - {""}) > 1]


def _differ(states: Sequence[Cell], factor: str) -> NDArray[np.bool_]:
    values = np.array([state.get(factor, "") for state in states])
    known = values != ""
    differs: NDArray[np.bool_] = (values[:, None] != values[None, :]) & known[:, None] & known[None, :]
    return differs


def _merged(states: Sequence[Cell], factors: Sequence[str]) -> tuple[list[tuple[str, ...]], list[Finding]]:
    """Merge factors that always change together, because their effects cannot be separated."""
    merged: list[tuple[str, ...]] = []
    for factor in factors:
        differs = _differ(states, factor)
        same = next((m for m in merged if np.array_equal(_differ(states, m[0]), differs)), None)
        if same is None:
            merged.append((factor,))
        else:
            merged[merged.index(same)] = (*same, factor)
    findings = [
        Finding("align", "confounded", f"{' and '.join(m)} always change together", "Cross them in the annotator file.")
        for m in merged
        if len(m) > 1
    ]
    return merged, findings


def _patterns(
    states: Sequence[Cell], owners: NDArray[np.int64], merged: Sequence[tuple[str, ...]]
) -> list[tuple[tuple[float, ...], Array]]:
    """Each type of cell pair: its row of the design (chance by annotator, then factors), and a mask of its pairs."""
    differs = [_differ(states, factor[0]) for factor in merged]
    masks: dict[tuple[float, ...], Array] = {}
    for c, d in [*((c, c) for c in range(len(states))), *combinations(range(len(states)), 2)]:
        chance = np.bincount([owners[c], owners[d]], minlength=int(owners[-1]) + 1) / 2
        row = (*chance.tolist(), *(float(factor[c, d]) for factor in differs))
        masks.setdefault(row, np.zeros((len(states), len(states))))[c, d] = 1.0
    return sorted(masks.items(), key=lambda item: item[0])


def _sums(ballots: Ballots, cell: NDArray[np.int64], cells: int) -> tuple[Array, Array, Array]:
    """The number of votes, their sum and the sum of their squared lengths, utterances x cells."""
    shape = (ballots.utterances, cells)
    number, squares = np.zeros(shape), np.zeros(shape)
    total = np.zeros((*shape, ballots.vectors.shape[1]))
    np.add.at(number, (ballots.rows, cell), 1.0)
    np.add.at(squares, (ballots.rows, cell), np.square(ballots.vectors).sum(1))
    np.add.at(total, (ballots.rows, cell), ballots.vectors)
    return number, total, squares


def _pairs(number: Array, total: Array, squares: Array, mask: Array) -> tuple[Array, Array]:
    """The summed d(i, j) and the number of pairs of votes in the cells that `mask` pairs, for every utterance."""
    between, within = mask - np.diag(np.diag(mask)), np.diag(mask)
    apart = (squares * (number @ between.T) + number * (squares @ between.T)).sum(1) / 2
    apart -= (total * np.einsum("cd,udk->uck", between, total)).sum((1, 2))
    apart += ((number * squares - np.square(total).sum(2)) / 2) @ within
    pairs = (number * (number @ between.T)).sum(1) + (number * (number - 1) / 2) @ within
    return apart, pairs


def _across(number: Array, total: Array, squares: Array) -> tuple[Array, Array]:
    """Each utterance's mean vote and mean squared length, for pairs across utterances."""
    votes = number.sum(1, keepdims=True)
    return total.sum(1) / votes, np.concatenate([squares.sum(1, keepdims=True) / votes, np.ones_like(votes)], axis=1)


def _totals(sums: Array, labels: int) -> Array:
    """The mean d(i, j) over pairs of different utterances: mean |y|^2 - |mean y|^2."""
    mean, squared, count = sums[:, -labels - 2 : -2], sums[:, -2], sums[:, -1]
    spread: Array = squared / count - np.square(mean / count[:, None]).sum(1)
    return spread


def _shares(sums: Array, design: Array, weights: Array, labels: int) -> Array:
    """Utterance, factors and chance as shares of the whole variance, one row for every row of sums."""
    pairs = sums[:, 1 : 2 * len(design) : 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.where(pairs > 0, sums[:, 0 : 2 * len(design) : 2] / pairs, 0.0)
    left = np.einsum("rp,pf,pg->rfg", pairs, design, design)
    right = np.einsum("rp,pf,rp->rf", pairs, design, apart)
    fitted = np.einsum("rfg,rg->rf", np.linalg.pinv(left, hermitian=True), right)
    chance = fitted[:, : len(weights)] @ weights
    inside = np.concatenate([fitted[:, len(weights) :], chance[:, None]], axis=1)
    totals = _totals(sums, labels)
    signal = totals - inside.sum(1)
    return np.concatenate([signal[:, None], inside], axis=1) / np.where(totals > 0, totals, np.nan)[:, None]


def variance_section(measured: Variance | None) -> Section | None:
    """The variance components of a proxy vote."""
    if measured is None:
        return None
    rows = [component.name for component in measured.components]
    series = [Series("share of the variance", "proxy", [component.share for component in measured.components])]
    largest = max(measured.components, key=lambda component: component.share.estimate).name
    chart = Bars(
        "variance",
        "Sources of differences between proxy votes",
        "share of the variance",
        rows,
        series,
        alt=f"Shares of the variance of proxy votes; the largest is {largest}.",
        note=(
            f"Random-effects components from pairs of votes, {counted(measured.utterances, 'utterance')}; two proxy "
            f"votes for different utterances differ with probability {number(measured.total, 2)}. "
            "Negative shares mean zero."
        ),
    )
    lead = (
        "The share of the variance of a single proxy vote that is due to the utterance, which is the signal, and the "
        "shares due to model, prompt, temperature, label order, or chance, which differ between votes of one utterance."
    )
    return Section("Why proxy votes differ", lead, (chart,))
