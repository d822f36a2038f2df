"""Worth of votes: how well k human votes predict another vote, alone and with proxies, on held-out votes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alm_proxies.compare.averaged import Averaged, DrawnLosses
from alm_proxies.compare.draws import Pool, drawn
from alm_proxies.compare.material import Material
from alm_proxies.compare.refitted import Refit, refitted
from alm_proxies.compare.strata import agreement, in_order
from alm_proxies.estimators.counts import Counts
from alm_proxies.estimators.trials import Losses, Worth, score
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import speaker_codes
from alm_proxies.seeds import generator

MOST_VOTES = 12
"""The most points of the curve: it ends at this number of votes, or one vote after those given if these are as many."""
DRAWS = 8
"""Number of random splits of an utterance's votes into votes of the fit and held-out ones."""
_MANY = 5000
"""Above this number of utterances, half as many draws are made."""
_FEWEST = 30


@dataclass(frozen=True, slots=True)
class Learning:
    """Log loss of the same held-out votes for every k; the fused labels use `given` human votes."""

    at: tuple[int, ...]
    human: tuple[Interval, ...]
    with_proxies: tuple[Interval, ...]
    fused: Interval
    given: int
    worth: dict[str, Worth]
    concentration_gain: dict[str, float]
    """Mean concentration_gain of the labels, overall and by stratum."""
    strength: tuple[float, ...]
    """Mean concentration of the fit to human votes alone, for every k."""
    utterances: int
    draws: int = 1
    """Number of draws of the held-out votes that all figures are averaged over."""
    refitted: str = ""
    """The fusion that with_proxies refits in every draw, in words."""
    alone: str = ""
    """The method of human votes alone, likewise."""
    in_equal_parts: bool = False
    """Whether it is the methods of auto in equal parts, not the method of the labels."""

    @property
    def strength_per_vote(self) -> float:
        """The mean increase of the concentration per human vote beyond the given ones."""
        here = self.at.index(self.given) if self.given in self.at[:-1] else len(self.at) - 2
        if here < 0:
            return float("nan")
        return (self.strength[-1] - self.strength[here]) / (self.at[-1] - self.at[here])

    def votes(self, stratum: str = "all") -> tuple[float, float, float]:
        """The worth of the proxies in human votes beyond the given ones, with its interval; inf beyond the curve."""
        worth = self.worth[stratum]
        return worth.votes - self.given, worth.low - self.given, worth.high - self.given


def learning(
    material: Material,
    counts: Counts,
    *,
    seed: int,
    draws: int | None = None,
    refit: Refit | None = None,
) -> Learning | None:
    """Learning curves: predict every held-out vote from k other human votes of its utterance, averaged over draws.

    The first draw is the corpus's own split: the k votes are first those of the fit, then other
    held-out votes, in random order. In every other draw the same votes are split anew and the methods refitted, so
    that no fit uses a vote that it is scored on. Votes of the fit count as in `counts`, with secondary labels
    merged, the others by their labels. The labels exist for the corpus's own split only: their loss in the
    other draws is that of the refitted fusion, plus their difference from it in the first draw.

    Every k is scored on the same votes. Only utterances with the most common number of fit votes are used.
    None with fewer than 30 such utterances. `refit` replaces the default methods: the fusion of the labels
    on human votes alone, and with proxies (see refitted).
    """
    held, fit = material.held_out.sizes(), material.human.sizes()
    if not (held > 0).any():
        return None
    given = int(np.bincount(fit[held > 0]).argmax())
    usable = (held > 0) & (fit == given)
    beyond = int(min(max(MOST_VOTES - given, 1), np.median(held[usable]) - 1))
    usable &= held > beyond
    if usable.sum() < _FEWEST or given + beyond < 1:
        return None
    first = 0 if given == 0 else max(given + beyond - MOST_VOTES + 1, 1)
    at = tuple(range(first, given + beyond + 1))
    pool = Pool.of(material, counts, usable, given)
    random = generator(seed, "learning")
    fusion = refitted(material.table, len(counts), seed=seed)
    refit = refit or fusion.fit
    fitted = refit(counts)
    codes, _ = speaker_codes(material.speakers, len(material))
    drawn_losses, strength = [], []
    if draws is None:
        draws = DRAWS if usable.sum() <= _MANY else DRAWS // 2
    for number in range(draws):
        draw = drawn(pool, random, as_given=number == 0)
        known = counts if number == 0 else draw.counts(counts)
        sides = fitted if number == 0 or given == 0 else refit(known)
        curves: list[list[Losses]] = [[] for _ in sides]
        for left in draw.contexts(at).values():
            beside = left.beside(counts)
            if number == 0:
                concentration = sides[0].posterior(sides[0].aligned(beside)).concentration
                strength.append(float(np.average(concentration, weights=left.mass)))
            for curve, side in zip(curves, sides, strict=True):
                curve.append(score(side, beside, left, len(counts)))
        drawn_losses.append(DrawnLosses(curves, agreement(draw.cast(len(counts)))))
    own = material.held_out.counts()
    with np.errstate(divide="ignore"):
        own_loss = -(own * np.where(own > 0, np.log(material.fused), 0.0)).sum(1)
    averaged = Averaged.of(drawn_losses, own_loss, own.sum(1), codes, usable, at.index(given))
    replicates = averaged.replicates(seed)
    names = ["all", *(name for name in in_order(np.unique(averaged.strata)) if name in replicates)]
    worth = {name: replicates[name].worth(at) for name in names} if len(at) > 1 else {}
    everyone = replicates["all"]
    stratum = agreement(material.human.counts())
    return Learning(
        at=at,
        human=everyone.curve(0),
        with_proxies=everyone.curve(1) if len(fitted) > 1 else (),
        fused=everyone.fused,
        given=given,
        worth=worth,
        concentration_gain={
            name: float(material.concentration_gain[usable & ((stratum == name) | (name == "all"))].mean())
            for name in worth
        },
        strength=tuple(strength),
        utterances=int(usable.sum()),
        draws=len(drawn_losses),
        refitted=fusion.words,
        alone=fusion.alone,
        in_equal_parts=fusion.in_equal_parts,
    )
