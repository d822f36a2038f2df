"""Agreement of the human raters: reliability of k votes, and raters that stand out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alm_proxies.compare.strata import Words
from alm_proxies.interval import FEWEST_TO_TEST, Interval
from alm_proxies.measures.agreement import among_raters
from alm_proxies.measures.rater_agreement import (
    FEWEST_ITEMS,
    RatersApart,
    raters_apart,
    reliability_interval,
    votes_for_reliability,
)
from alm_proxies.printable import counted
from alm_proxies.report.drawing import listed, number
from alm_proxies.report.page import Block, Cell, Column, Section, Table, Text
from alm_proxies.stages.align.prepared import Prepared, Raters, Side

_SHOWN = (1, 2, 3, 5, 10, 20)
_ENOUGH = (0.8, 0.9)
_OPEN = 15
"""A table of raters with more rows than this is folded."""
_NAMED = 3
"""Maximum number of raters named in a sentence."""
_STANDS_OUT = {True: "yes", False: "no", None: f"under {FEWEST_TO_TEST} speakers"}


@dataclass(frozen=True, slots=True)
class People:
    """Agreement of all human votes, held out or not, of utterances with two or more."""

    utterances: int
    agreement: Interval
    """The chance that two human votes of an utterance agree."""
    alpha: Interval
    """Krippendorff's alpha."""
    kappa: float
    """Fleiss' kappa for unequal numbers of votes, with equal weight for every utterance."""
    median_votes_of_fit: int
    """The median number of human votes of the fit, among utterances with any; of all votes where none is fitted."""
    reliability: dict[int, Interval]
    """By number of votes: the share of the variance of vote shares that is due to the utterance."""
    raters: tuple[str, ...]
    """All raters with known names; `apart` refers to them by index."""
    apart: RatersApart

    @property
    def outliers(self) -> list[str]:
        """Raters who agree with the others significantly less than the others agree with each other."""
        return [self.raters[rater.rater] for rater in self.apart.lowest if rater.stands_out]


def people_of(prepared: Prepared, *, seed: int) -> tuple[People | None, People | None]:
    """The agreement of all human votes, and of those of the fit; None if no utterance has two votes."""
    given = prepared.fit.ballots.sizes()
    votes = int(np.median(given[given > 0])) if (given > 0).any() else None
    sides = ((prepared.people, prepared.raters), (prepared.fit, prepared.raters_of_fit))
    every, of_fit = (_people_of(side, raters, votes, prepared.material.speakers, seed) for side, raters in sides)
    return every, of_fit


def _people_of(side: Side, raters: Raters, votes: int | None, speakers: Words | None, seed: int) -> People | None:
    rows = side.tally.sizes >= 2
    if not rows.any():
        return None
    pairable = side.tally.where(rows)
    agree = among_raters(pairable, None if speakers is None else speakers[rows], seed=seed)
    votes = int(np.median(pairable.sizes)) if votes is None else votes
    known = math.isfinite(agree.alpha.estimate)
    return People(
        utterances=int(rows.sum()),
        agreement=agree.agreement,
        alpha=agree.alpha,
        kappa=agree.kappa,
        median_votes_of_fit=votes,
        raters=raters.names,
        apart=raters_apart(raters.rows, raters.raters, raters.votes, speakers, seed=seed),
        reliability={k: reliability_interval(agree.alpha, k) for k in sorted({*_SHOWN, votes})} if known else {},
    )


def verdict(people: People) -> str:
    """The reliability of labels from this number of human votes, in one sentence."""
    if not math.isfinite(people.alpha.estimate):
        return "All human votes are for the same label, so their reliability cannot be estimated."
    if people.alpha.estimate <= 0 or people.alpha.low <= 0:
        return "The human votes agree hardly more than by chance: labels from them are mostly noise."
    votes = people.median_votes_of_fit
    share = f"{100 * people.reliability[votes].estimate:.0f} % of the variance"
    who = f"the mean of an utterance's {votes} human votes" if votes > 1 else "a single human vote"
    return f"{share} of {who} is due to the utterance, the rest depends on who voted."


def grounds(people: People) -> str:
    """The evidence for the verdict, and how many votes would be enough; empty if alpha is unknown."""
    alpha = people.alpha
    if not math.isfinite(alpha.estimate):
        return ""
    ends = "" if math.isnan(alpha.low) else f" ({number(alpha.low, 2)} to {number(alpha.high, 2)})"
    sentence = f"Krippendorff's alpha of the human votes is {number(alpha.estimate, 2)}{ends}"
    if alpha.estimate <= 0 or alpha.low <= 0:
        return f"{sentence}."
    votes = people.median_votes_of_fit
    reliability = people.reliability[votes]
    who = f"the mean of {votes} votes" if votes > 1 else "one vote"
    sentence += f", so that the reliability of {who} is {_percent(reliability)}"
    enough = next((share for share in _ENOUGH if reliability.estimate < share - 0.005), None)
    if enough is not None:
        sentence += (
            f"; {100 * enough:.0f} % would take {math.ceil(votes_for_reliability(alpha.estimate, enough))} votes"
        )
    return f"{sentence}."


def people_section(people: People | None, of_fit: People | None = None, *, held_out: bool = False) -> Section | None:
    """How far the human raters agree, what shares of k votes are worth, and each rater compared with the others.

    Where votes are `held_out` the table gives the agreement without them too.
    """
    if people is None:
        return None
    lead = (
        f"Two human votes for one utterance agree {100 * people.agreement.estimate:.0f} % of the time, "
        f"{counted(people.utterances, 'utterance')} with two or more."
    )
    rows: list[list[Cell]] = [
        ["chance that two votes agree", people.agreement, None if of_fit is None else of_fit.agreement],
        ["Krippendorff's alpha", people.alpha, None if of_fit is None else of_fit.alpha],
        ["Fleiss' kappa, for unequal numbers of votes", people.kappa, None if of_fit is None else of_fit.kappa],
    ]
    names = ["Measure", "All human votes, held-out ones too", "Without held-out votes"]
    if not held_out:
        names, rows = ["Measure", "Among humans"], [row[:2] for row in rows]
    blocks: list[Block] = [Table.of(names, rows)]
    if people.reliability:
        lead += f" {grounds(people)} {_outliers(people)}".rstrip()
        blocks.append(_reliability_table(people))
    if people.apart.lowest:
        blocks.append(_raters_table(people))
    elif people.raters:
        words = f"No rater shares {FEWEST_ITEMS} utterances with two other raters, which comparing raters needs."
        blocks.append(Text(words))
    else:
        blocks.append(Text("The raters of the votes are not known, so they cannot be compared."))
    return Section("Do the human raters agree?", lead, tuple(blocks))


def _outliers(people: People) -> str:
    outliers = people.outliers
    if not outliers:
        return ""
    if len(outliers) > _NAMED:
        agree = counted(len(outliers), "rater agrees", "raters agree")
        return f"{agree} with the others less than those with each other: see the table of raters."
    return (
        f"{listed(outliers)} agree{'s' if len(outliers) == 1 else ''} with the others less than those with each other."
    )


def _reliability_table(people: People) -> Table:
    rows: list[list[Cell]] = [[k, reliability] for k, reliability in people.reliability.items()]
    hint = "The share of the variance of vote shares that is due to the utterance; 1 with infinitely many votes."
    here = f"here k = {people.median_votes_of_fit}, the median of the human votes of the fit"
    caption = f"Reliability of the shares of k human votes (Spearman-Brown from alpha; {here})"
    return Table.of([Column("Votes"), Column("Reliability", 2, hint)], rows, caption)


def _raters_table(people: People) -> Table:
    rows: list[list[Cell]] = [
        [
            people.raters[rater.rater],
            rater.items,
            rater.agreement,
            rater.others.estimate,
            rater.difference,
            _STANDS_OUT[rater.stands_out],
        ]
        for rater in people.apart.lowest
    ]
    columns = [
        Column("Rater"),
        Column("Items", 0, "Utterances with votes of at least two other raters."),
        Column("Agrees with the others", 2, "The probability that the rater's vote agrees with that of another rater."),
        Column("The others among themselves", 2, "On the same utterances."),
        Column("Difference", 2, signed=True),
        Column("Stands out", 0, "Significantly below the others, corrected for the number of raters."),
    ]
    shown, compared = len(rows), people.apart.compared
    which = f"the {shown} lowest of {compared:,}" if shown < compared else f"all {compared:,}, the lowest first"
    left = f"; {people.apart.left_out:,} with fewer than {FEWEST_ITEMS} items left out" if people.apart.left_out else ""
    return Table.of(columns, rows, f"Each rater compared with the others: {which}{left}", folded=shown > _OPEN)


def _percent(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{100 * interval.estimate:.0f} %"
    return f"{100 * interval.estimate:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
