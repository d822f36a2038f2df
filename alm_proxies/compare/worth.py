"""What votes are worth: how well k human votes predict another one, alone and with proxies, on held-out votes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from alm_proxies.ballots import Array, Index
from alm_proxies.compare.material import Material
from alm_proxies.compare.strata import Words, in_order
from alm_proxies.estimators.counts import COLUMNS, Counts, LeftOut
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.trials import Losses, Worth, score, worth_in_votes
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.seeds import generator

MOST_VOTES = 12
_FEWEST = 30


@dataclass(frozen=True, slots=True)
class Learning:
    """Log loss of the same held-out votes for every k; `given` human votes lie beneath the fused labels."""

    at: tuple[int, ...]
    human: tuple[Interval, ...]
    with_proxies: tuple[Interval, ...]
    fused: Interval
    given: int
    worth: dict[str, Worth]
    concentration_gain: dict[str, float]
    """Mean concentration_gain of the labels, overall and by stratum: what the proxies add to the concentration."""
    strength: tuple[float, ...]
    """Mean concentration of the fit to human votes alone, at every k."""
    utterances: int

    @property
    def strength_per_vote(self) -> float:
        """What one more human vote adds to the concentration beside those given, mean over the rest of the curve."""
        here = self.at.index(self.given) if self.given in self.at[:-1] else len(self.at) - 2
        if here < 0:
            return float("nan")
        return (self.strength[-1] - self.strength[here]) / (self.at[-1] - self.at[here])

    def votes(self, stratum: str = "all") -> tuple[float, float, float]:
        """What the proxies were worth in human votes, beyond those given, with its interval; inf beyond the curve."""
        worth = self.worth[stratum]
        return worth.votes - self.given, worth.low - self.given, worth.high - self.given


def learning(material: Material, counts: Counts, human_only: Estimator, strata: Words, *, seed: int) -> Learning | None:
    """Every held-out vote predicted from k of its utterance's other human votes, by fits that saw no held-out vote.

    The k votes are those of the fit first, then other held-out votes, in random order: they stand beside the vote
    predicted, so that the curve reaches beyond the votes of the fit, but no fit has seen them. Votes of the fit stand
    there as the counts have them, secondary labels merged; the others by their labels. Every k is scored on the same
    votes. Utterances have the most common number of fit votes, so that k means one thing. None with fewer than
    30 such utterances.
    """
    held, fit = material.held_out.sizes(), material.human.sizes()
    if not (held > 0).any():
        return None
    given = int(np.bincount(fit[held > 0]).argmax())
    usable = (held > 0) & (fit == given)
    beyond = int(min(MOST_VOTES - given, np.median(held[usable]) - 1))
    usable &= held > beyond
    if usable.sum() < _FEWEST or given + beyond < 1:
        return None
    sides = [human_only]
    if counts.blocks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            sides.append(Gated(seed=seed).fit(counts))
    at = tuple(range(0 if given == 0 else 1, given + beyond + 1))
    curves: list[dict[int, Losses]] = [{} for _ in sides]
    strength = []
    for k, left in _contexts(material, counts, usable, at, seed).items():
        beside = human_only.aligned(counts.rows(left.rows).with_human(left.contexts))
        strength.append(float(human_only.posterior(beside).concentration.mean()))
        for curve, side in zip(curves, sides, strict=True):
            curve[k] = score(side, counts, left)
    fused = _losses_of(material, usable)
    rows = np.flatnonzero(usable)
    names = None if material.speakers is None else material.speakers[rows]
    codes = rows if names is None else np.unique(names, return_inverse=True)[1]

    def some(losses: Losses) -> Losses:
        return Losses(losses.loss[rows], losses.votes[rows])

    def interval(losses: Losses) -> Interval:
        part = some(losses)
        return mean_by_speaker(part.loss / part.votes, names, weights=part.votes, seed=seed)

    alone = {k: some(losses) for k, losses in curves[0].items()}
    chosen = strata[rows]
    found = worth_in_votes(alone, some(fused), codes, strata=chosen.tolist(), seed=seed) if len(alone) > 1 else {}
    worth = {name: found[name] for name in ("all", *in_order(chosen)) if name in found}
    members = {name: rows if name == "all" else rows[chosen == name] for name in worth}
    human, *others = ([interval(curve[k]) for k in at] for curve in curves)
    together = tuple(others[0]) if others else ()
    return Learning(
        at=at,
        human=tuple(human),
        with_proxies=together,
        fused=interval(fused),
        given=given,
        worth=worth,
        concentration_gain={
            name: float(material.concentration_gain[some_rows].mean()) for name, some_rows in members.items()
        },
        strength=tuple(strength),
        utterances=len(rows),
    )


def human_only(counts: Counts, *, seed: int) -> Estimator:
    """The default estimator without proxies, the rival that they have to beat; columns may steer it as they do fuse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        return Gated(seed=seed).fit(counts.only((COLUMNS,)))


def _losses_of(material: Material, usable: Array) -> Losses:
    held = np.where(usable[:, None], material.held_out.counts(), 0.0)
    loss = -(held * np.log(np.maximum(material.fused, 1e-300))).sum(1)
    return Losses(loss, held.sum(1))


def _contexts(material: Material, counts: Counts, usable: Array, at: tuple[int, ...], seed: int) -> dict[int, LeftOut]:
    """For every k and every held-out vote: k other votes of its utterance."""
    random = generator(seed, "learning")
    human, held = material.human, material.held_out
    cast = human.vectors if counts.draws is None else counts.draws[1]  # the same draws in the same order
    target = np.flatnonzero(usable[held.rows])
    rows = held.rows[target]
    contexts: dict[int, LeftOut] = {}
    running = np.zeros((len(target), held.vectors.shape[1]))
    fit_order, held_order = (_places(part.rows, random) for part in (human, held))
    by_fit = _lookup(human.rows, fit_order, len(material))
    by_held = _lookup(held.rows, held_order, len(material))
    own = held_order[target]
    given = int(human.sizes()[usable].max())
    mass = np.ones(len(target))
    for k in range(at[-1] + 1):
        if k > 0:
            if k <= given:
                running = running + cast[by_fit[rows, k - 1]]
            else:
                next_one = k - given - 1
                place = next_one + (own <= next_one)  # skips the vote predicted
                running = running + held.vectors[by_held[rows, place]]
        if k in at:
            contexts[k] = LeftOut(rows, running, held.vectors[target], mass)
    return contexts


def _places(rows: Index, random: np.random.Generator) -> Index:
    """The place of every ballot among those of its utterance, in random order."""
    order = np.lexsort((random.random(len(rows)), rows))
    sorted_rows = rows[order]
    first = np.searchsorted(sorted_rows, sorted_rows)
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = np.arange(len(rows)) - first
    return place


def _lookup(rows: Index, places: Index, utterances: int) -> Index:
    table = np.zeros((utterances, int(places.max(initial=0)) + 1), dtype=np.int64)
    table[rows, places] = np.arange(len(rows))
    return table
