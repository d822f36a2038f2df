"""What the human votes are worth by themselves: how far raters agree, which stands out, what k votes are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alm_proxies.ballots import Array, is_rater
from alm_proxies.compare.material import Material
from alm_proxies.interval import Interval
from alm_proxies.measures.agreement import alpha_columns, alpha_of_sums, fleiss_kappa, pairwise_agreement
from alm_proxies.measures.bootstrap import interval_by_speaker, mean_by_speaker
from alm_proxies.measures.rater_agreement import (
    FEWEST_ITEMS,
    RatersApart,
    raters_apart,
    reliability_of_votes,
    votes_for_reliability,
)
from alm_proxies.report.drawing import listed, number
from alm_proxies.report.page import Block, Cell, Column, Section, Table, Text

_SHOWN = (1, 2, 3, 5, 10, 20)
_ENOUGH = (0.8, 0.9)
_OPEN = 15
"""A longer table of raters opens on demand."""
_NAMED = 3
"""No more raters than these are named in a sentence."""


@dataclass(frozen=True, slots=True)
class People:
    """Agreement of all human votes, held out or not, of utterances with two or more."""

    utterances: int
    agreement: Interval
    """The chance that two human votes of an utterance agree."""
    alpha: Interval
    """Krippendorff's alpha."""
    kappa: float
    """Fleiss' kappa for unequal numbers of votes: every utterance weighs the same."""
    votes: int
    """The median number of human votes that labels with any rest on."""
    reliability: dict[int, Interval]
    """By number of votes: the share of the variance of their shares that is the utterance's own."""
    raters: tuple[str, ...]
    """Every rater whose name is known; `apart` numbers them from 0."""
    apart: RatersApart

    @property
    def outliers(self) -> list[str]:
        """The raters who agree with the others less than those do among themselves, beyond chance."""
        return [self.raters[one.rater] for one in self.apart.lowest if one.stands_out]


def people_of(material: Material, counts: Array, *, seed: int) -> People | None:
    """How far human votes agree; `counts` are all of them as whole votes. None where no two meet."""
    rows = np.flatnonzero(counts.sum(1) >= 2)
    if not len(rows):
        return None
    speakers = None if material.speakers is None else material.speakers[rows]
    alpha = interval_by_speaker(alpha_columns(counts[rows]), speakers, alpha_of_sums, seed=seed)
    given = material.human.sizes()
    votes = int(np.median(given[given > 0])) if (given > 0).any() else int(np.median(counts[rows].sum(1)))
    names, apart = _raters(material, seed)
    known = math.isfinite(alpha.estimate)
    return People(
        utterances=len(rows),
        agreement=mean_by_speaker(pairwise_agreement(counts[rows]), speakers, seed=seed),
        alpha=alpha,
        kappa=fleiss_kappa(counts[rows]),
        votes=votes,
        reliability={k: _reliability(alpha, k) for k in sorted({*_SHOWN, votes})} if known else {},
        raters=names,
        apart=apart,
    )


def verdict(people: People) -> str:
    """The reliability of labels made from this number of human votes, in a sentence."""
    if not math.isfinite(people.alpha.estimate):
        return "All human votes say the same label, so their reliability cannot be estimated."
    if people.alpha.estimate <= 0 or people.alpha.low <= 0:
        return "The human votes agree hardly more than by chance: labels made of them are mostly noise."
    share = f"{100 * people.reliability[people.votes].estimate:.0f} % of the variance"
    who = f"the mean of an utterance's {people.votes} human votes" if people.votes > 1 else "a single human vote"
    return f"{share} of {who} comes from the utterance, the rest from who voted."


def grounds(people: People) -> str:
    """What the verdict rests on, and how many votes would be enough; empty where alpha is not known."""
    alpha = people.alpha
    if not math.isfinite(alpha.estimate):
        return ""
    ends = "" if math.isnan(alpha.low) else f" ({number(alpha.low, 2)} to {number(alpha.high, 2)})"
    sentence = f"Krippendorff's alpha of the human votes is {number(alpha.estimate, 2)}{ends}"
    if alpha.estimate <= 0 or alpha.low <= 0:
        return f"{sentence}."
    found = people.reliability[people.votes]
    who = f"the mean of {people.votes} votes" if people.votes > 1 else "one vote"
    sentence += f", so that the reliability of {who} is {_percent(found)}"
    enough = next((share for share in _ENOUGH if found.estimate < share - 0.005), None)
    if enough is not None:
        sentence += (
            f"; {100 * enough:.0f} % would take {math.ceil(votes_for_reliability(alpha.estimate, enough))} votes"
        )
    return f"{sentence}."


def people_section(people: People | None, of_fit: People | None = None, *, held_out: bool = False) -> Section | None:
    """How far the human raters agree, what shares of k votes are worth, and every rater beside the others.

    Where votes are `held_out` the table gives the agreement without them too.
    """
    if people is None:
        return None
    lead = (
        f"Two human votes for one utterance agree {100 * people.agreement.estimate:.0f} % of the time, "
        f"{people.utterances:,} utterances with two or more."
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
        words = f"No rater voted on {FEWEST_ITEMS} utterances that two others judged, too few to compare raters."
        blocks.append(Text(words))
    else:
        blocks.append(Text("Who cast each vote is not known, so no rater can be compared with the others."))
    return Section("Do the human raters agree?", lead, tuple(blocks))


def _raters(material: Material, seed: int) -> tuple[tuple[str, ...], RatersApart]:
    sides = (material.human, material.held_out)
    names = np.array(sorted({name for side in sides for name in side.names}), dtype=np.str_)
    known = tuple(str(name) for name in names if is_rater(name))
    place = {name: number for number, name in enumerate(known)}
    unit, rater, vote = [], [], []
    for side in sides:
        codes = np.array([place.get(name, -1) for name in side.names], dtype=np.int64)
        who = codes[side.annotators] if len(codes) else np.zeros(0, dtype=np.int64)
        unit.append(side.rows[who >= 0])
        rater.append(who[who >= 0])
        vote.append(side.vectors[who >= 0])
    apart = raters_apart(
        np.concatenate(unit), np.concatenate(rater), np.concatenate(vote), material.speakers, seed=seed
    )
    return known, apart


def _reliability(alpha: Interval, votes: int) -> Interval:
    """Grows with alpha, so the ends of its interval are those of alpha's."""
    least = -0.999 / max(votes - 1, 1)
    ends = [reliability_of_votes(max(end, least), votes) for end in (alpha.estimate, alpha.low, alpha.high)]
    return Interval(ends[0], ends[1], ends[2], alpha.method, alpha.speakers)


def _outliers(people: People) -> str:
    found = people.outliers
    if not found:
        return ""
    if len(found) > _NAMED:
        return (
            f"{len(found)} raters agree with the others less than those do among themselves: see the table of raters."
        )
    return f"{listed(found)} agree{'s' if len(found) == 1 else ''} with the others less than those do among themselves."


def _reliability_table(people: People) -> Table:
    rows: list[list[Cell]] = [[k, found] for k, found in people.reliability.items()]
    hint = "The share of the variance of the shares that is the utterance's own: 1 with endless votes."
    caption = f"What the shares of k human votes are worth (Spearman-Brown from alpha; here k = {people.votes})"
    return Table.of([Column("Votes"), Column("Reliability", 2, hint)], rows, caption)


def _raters_table(people: People) -> Table:
    rows: list[list[Cell]] = [
        [
            people.raters[one.rater],
            one.items,
            one.agreement,
            one.others.estimate,
            one.difference,
            "yes" if one.stands_out else "no",
        ]
        for one in people.apart.lowest
    ]
    columns = [
        Column("Rater"),
        Column("Items", 0, "Utterances that two others or more judged too."),
        Column("Agrees with the others", 2, "The chance that the rater's vote agrees with that of another rater."),
        Column("The others among themselves", 2, "On the same utterances."),
        Column("Difference", 2),
        Column("Stands out", 0, "Below the others by more than chance explains for this number of raters."),
    ]
    shown, compared = len(rows), people.apart.compared
    which = f"the {shown} lowest of {compared:,}" if shown < compared else f"all {compared:,}, the lowest first"
    left = f"; {people.apart.left_out:,} with fewer than {FEWEST_ITEMS} items left out" if people.apart.left_out else ""
    return Table.of(columns, rows, f"Every rater beside the others: {which}{left}", folded=shown > _OPEN)


def _percent(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{100 * interval.estimate:.0f} %"
    return f"{100 * interval.estimate:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
