"""What votes and proxies are worth: the learning curve in a section, in sentences and as a key figure."""

from __future__ import annotations

import math

from alm_proxies.compare.rivals import ALONE, FUSED
from alm_proxies.compare.worth import Learning
from alm_proxies.printable import counted
from alm_proxies.report.charts import Curves, Line, Series
from alm_proxies.report.drawing import number
from alm_proxies.report.page import Block, Cell, Chart, Column, Figure, Section, Table, Text

TOO_FEW = "too few speakers for an interval"
CONCENTRATION_GAIN = (
    "Mean concentration_gain of the labels: what the proxies add to the concentration, without held-out votes."
)


def worth_section(
    learned: Learning | None, *, judged: int | None, has_proxies: bool, uses_proxies: bool
) -> Section | None:
    """The learning curve and the worth of the proxies; `judged` is the number of utterances with held-out votes."""
    if learned is None:
        return None
    lead = (
        f"The same held-out votes, predicted from k other human votes of the utterance (human votes alone). The fused "
        f"labels use {_votes_of(learned.given, 'human vote')}"
    )
    lead += " and proxies: the curve shows how many human votes without proxies are as good." if uses_proxies else "."
    if learned.draws > 1 and learned.given:
        lead += (
            f" All values are averages over {learned.draws} draws: each splits an utterance's human votes into "
            f"{learned.given} for the fit and the others to be predicted, refits, and predicts only votes that its "
            "own fits have not used."
        )
        lead += "" if math.isnan(learned.fused.low) else " The intervals are over speakers and draws."
        if learned.with_proxies:
            lead += (
                " The labels exist for the first draw alone, the corpus's own split: their point is the refitted "
                "fusion, averaged over the draws, plus the labels' difference from it in the first draw. Their own log "
                "loss is in the section Against held-out votes."
            )
    if judged is not None and learned.utterances < judged:
        lead += (
            f" These are {learned.utterances:,} of the {counted(judged, 'utterance')} with held-out votes, those with "
            f"{_scored(learned)}: their log loss is not that of all {judged:,}."
        )
    blocks: list[Block] = [_chart(learned, uses_proxies=uses_proxies)]
    if learned.worth and uses_proxies:
        blocks += [Text(_both_worths(learned)), _table(learned)]
    return Section("What the proxies were worth" if has_proxies else "What votes are worth", lead, tuple(blocks))


def worth_figure(learned: Learning) -> Figure:
    """The worth of an utterance's proxies as a key figure."""
    beside = (
        f"{_range(learned)}, over {counted(learned.utterances, 'utterance')} and {counted(learned.draws, 'draw')}; "
    )
    beside += f"concentration_gain is {number(learned.concentration_gain['all'], 1)}"
    value = _votes(learned.votes()[0], learned)
    return Figure(value, "human votes: the worth of an utterance's proxies", beside)


def _chart(learned: Learning, *, uses_proxies: bool) -> Chart:
    """Log loss over the number of human votes, alone and with proxies."""
    at = tuple(float(k) for k in learned.at)
    lines = [Line(Series(ALONE, "human-only", learned.human), at)]
    if learned.with_proxies:
        lines.append(Line(Series("with proxies, refitted", "proxy", learned.with_proxies), at))
    lines.append(Line(Series(FUSED, "fused", [learned.fused]), (float(learned.given),)))
    alone = dict(zip(learned.at, learned.human, strict=True)).get(learned.given)
    alt = f"Log loss falls with the number of human votes; fused labels reach {number(learned.fused.estimate)}"
    alt += f" where {learned.given} human votes alone reach {number(alone.estimate)}." if alone else "."
    note = (
        f"{counted(learned.utterances, 'utterance')} with {_scored(learned)}. Beyond {_votes_of(learned.given)} the "
        "others are further held-out votes, which no fit of the same draw has used."
    )
    if learned.with_proxies:
        note += f" Human votes alone: {learned.alone}; with proxies: {learned.refitted}; fitted anew in every draw."
        if learned.in_equal_parts:
            note += (
                " What the labels' own method learned is not used there, as other draws predict votes that it learned "
                "from; with weak proxies the labels can be better than this curve."
            )
    drawn = uses_proxies and math.isfinite(learned.fused.estimate)
    reference = [(f"{FUSED}:", "fused", learned.fused.estimate)] if drawn else []
    return Curves(
        "learning",
        f"Log loss of the same held-out votes of {learned.utterances:,} utterances, by the number of human votes known",
        "human votes of the utterance",
        "log loss per held-out vote (nats)",
        lines,
        alt=alt,
        note=note,
        references=reference,
    )


def _table(learned: Learning) -> Table:
    """The worth of the proxies, overall and by agreement of the human votes, with the concentration_gain."""
    rows: list[list[Cell]] = []
    for name, worth in learned.worth.items():
        read = [_votes(value, learned) for value in learned.votes(name)]
        rows.append(
            ["all utterances" if name == "all" else name, worth.utterances, *read, learned.concentration_gain[name]]
        )
    columns = [
        Column("Human votes"),
        Column("Utterances"),
        Column("Worth", 1, "Human votes that are as good without proxies, from the curve."),
        Column("Low"),
        Column("High"),
        Column("concentration_gain", 1, CONCENTRATION_GAIN),
    ]
    caption = f"Worth of an utterance's proxies in human votes, in addition to the {learned.given} given"
    caption += f" (averages over {learned.draws} draws of the held-out votes)" if learned.draws > 1 else ""
    return Table.of(columns, rows, caption)


def _both_worths(learned: Learning) -> str:
    """The worth on held-out votes compared with the labels' own concentration_gain, and why they differ."""
    own, rise = learned.concentration_gain["all"], learned.strength_per_vote
    sentences = (
        f"On held-out votes the proxies were worth {_words(learned)} ({_range(learned)}). The labels' own "
        f"`concentration_gain`, {number(own, 1)} on average, is another measure: how much the proxies add to the "
        "concentration, without held-out votes. Where the curve is flat, a small change in log loss is worth many "
        "votes: the log loss is the more stable measure."
    )
    if rise > 0 and round(rise, 1) != 1 and round(own, 1) != 0:
        sentences += (
            f" One more human vote adds {number(rise, 1)} to the concentration, not 1, so {number(own, 1)} equal "
            f"{number(own / rise, 1)} human votes."
        )
    if len(learned.worth) > 2:
        sentences += (
            " Strata rank differently by votes than by log loss: where one more human vote changes little, a small "
            "gain in log loss is worth many votes."
        )
    return f"{sentences} Where the measures differ, rely on the held-out votes."


def _scored(learned: Learning) -> str:
    """Which utterances the curve is of: at its end a vote is predicted from all others that it needs."""
    held_out = learned.at[-1] - learned.given + 1
    more = f" and {held_out} or more held-out votes" if held_out > 1 else ""
    return f"{_votes_of(learned.given)} in the fit{more}"


def _votes_of(count: int, unit: str = "vote") -> str:
    return f"{count} {unit}{'s' if count != 1 else ''}"


def _words(learned: Learning) -> str:
    """The worth of the proxies as text: "2.3 human votes", "more than 3 human votes" or "-2 human votes or fewer"."""
    votes = learned.votes()[0]
    if not math.isfinite(votes):
        return f"more than {_votes_of(learned.at[-1] - learned.given, 'human vote')}"
    if votes <= _least(learned):
        return f"{number(votes, 0)} human votes or fewer"
    return f"{number(votes, 1)} human vote{'' if abs(votes - 1) < 0.05 else 's'}"


def _range(learned: Learning) -> str:
    _, low, high = learned.votes()
    ends = TOO_FEW if math.isnan(low) else f"{_votes(low, learned)} to {_votes(high, learned)}"
    return f"{ends}, in addition to {learned.given} given"


def _least(learned: Learning) -> int:
    """The worth at the curve's start, which stands for any that is lower."""
    return learned.at[0] - learned.given


def _votes(value: float, learned: Learning) -> str:
    if math.isinf(value):
        return f"> {learned.at[-1] - learned.given}"
    return f"≤ {number(value, 0)}" if value <= _least(learned) else number(value, 1)
