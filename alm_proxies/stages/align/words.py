"""The headline, the summary and the key figures of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from alm_proxies.compare.comparison import Comparison, Score
from alm_proxies.compare.rivals import ALONE, AUTO_ALONE, FUSED, METHOD_OF, PLAIN, POOL, WEIGHTED
from alm_proxies.compare.strata import AGREEMENT, AMBIGUITY, LABEL, OBSERVABLE
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import IT_TAKES
from alm_proxies.printable import counted
from alm_proxies.report.drawing import listed, number, signed_number
from alm_proxies.report.page import Figure
from alm_proxies.stages.align.curves import ALL_PROXIES
from alm_proxies.stages.align.people import grounds, verdict
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.scored import Scored
from alm_proxies.stages.align.worth import TOO_FEW, worth_figure

_WHERE = {
    AGREEMENT: {
        "none": "without human votes",
        "one vote": "with one human vote",
        "all agree": "where the human votes all agree",
        "a majority": "where most human votes agree",
        "no majority": "where no label has a majority of the human votes",
    },
}
_RIVALS = {
    ALONE: "Human votes alone predict",
    PLAIN: "Human shares predict",
    WEIGHTED: f"The method {WEIGHTED} predicts",
    POOL: f"The method {POOL} predicts",
    AUTO_ALONE: "The method auto without the proxies predicts",
}
_BETTER_ALONE = {PLAIN: "The method human shares", AUTO_ALONE: "The method auto"}
_NO_PROBABILITY = "a label with held-out votes was given no probability"
_NAMED = 3
"""Maximum number of strata without a significant gain named in the headline; harm is always named."""
HOLD_OUT = (
    "No human vote was held out, so this report cannot show whether the fused labels are right. Read the corpus again "
    "with some votes held out (`--hold-out keep=3`), fuse what is left and align again: "
    "then this report compares fused labels, human votes alone and other methods on votes that none of them used."
)


NO_FIT = "There are no human votes in the fit, so no rival can be fitted."
NO_PEOPLE = (
    "No utterance has a human vote, so this report cannot show whether the labels are right. Have some utterances "
    "rated, hold some of these votes out when the corpus is read (`--hold-out keep=3`), fuse and align again."
)


def where(stratum: str, values: Sequence[str]) -> str:
    """Values of one stratification as a clause: "where the human votes all agree"."""
    if stratum == LABEL:
        return f"where {listed(values, 'or')} is the most likely label"
    if stratum == AMBIGUITY:
        return f"where the label's ambiguity is {listed(values, 'or')}"
    return listed([_WHERE[stratum][value] for value in values])


def span(interval: Interval, digits: int = 3) -> str:
    """A difference as text, with plus signs: "-0.055 (-0.064 to +0.047)"."""
    if math.isnan(interval.low):
        return signed_number(interval.estimate, digits)
    low, high = signed_number(interval.low, digits), signed_number(interval.high, digits)
    return f"{signed_number(interval.estimate, digits)} ({low} to {high})"


def headline(results: Results) -> str:
    """The verdict in a few sentences: the worth of the proxies, where they helped, and which rival is better."""
    best = _better_rival(results)
    return (
        f"{_verdict(results)} {_RIVALS[best]} held-out votes better than these labels." if best else _verdict(results)
    )


def _verdict(results: Results) -> str:
    if not results.has_proxies:
        if results.people is None:
            return "No proxy voted for a label: this report covers the human votes only."
        return f"No proxy voted for a label. {verdict(results.people)}"
    if results.scored is None:
        added = number(float(results.material.concentration_gain.mean()), 1)
        why = "there are no human votes in the fit" if results.has_held_out else "no votes were held out"
        added = f"The proxies of an utterance add {added} to the concentration of its label"
        return f"{added}; {why}, so their worth is unknown."
    gain = _gain(results.scored.comparison.of(FUSED))
    if not results.uses_proxies:
        stated = results.material.table.frame.select((pl.col("human_votes") + pl.col("proxy_votes") > 0).any()).item()
        use = (
            "The fused labels leave the proxies out." if stated else "The labels do not state whether they use proxies."
        )
        return f"{use} {_against(gain)}".rstrip()
    if not math.isfinite(gain.estimate):
        return f"Whether the proxies helped is not known: {_NO_PROBABILITY}."
    if gain.can_be_judged and not _shows(gain):
        return "The proxies made no difference of 0.001 nats per vote on these held-out votes."
    if gain.is_below_zero:
        parts = (_lowered(results.scored), _of_another_method(results.scored), _where_they_helped(results))
        return " ".join(part for part in parts if part)
    if gain.is_above_zero:
        return "The proxies made the labels worse: human votes alone predict held-out votes better."
    if not gain.can_be_judged:
        return f"Too few speakers to judge whether the proxies helped on these held-out votes; {IT_TAKES}."
    return "The proxies made no significant difference on these held-out votes."


def _shows(difference: Interval) -> bool:
    """Whether a difference is not 0.000 in the tables of the page."""
    return round(difference.estimate, 3) != 0


def _lowered(scored: Scored) -> str:
    """By how much the proxies lower the log loss, and how the JSD changes."""
    scores = scored.comparison
    gain = _gain(scores.of(FUSED))
    jsd = scored.jsd_gain
    before, after = (number(scores.of(name).jsd.estimate) for name in (ALONE, FUSED))
    if jsd.is_below_zero:
        apart = f"and the JSD from {before} to {after}"
    elif jsd.is_above_zero:
        apart = f"but raise the JSD from {before} to {after}"
    else:
        apart = f"with no significant change of the JSD ({before} and {after})"
    return f"The proxies lower the log loss of held-out votes by {number(-gain.estimate)} nats per vote {apart}."


def _of_another_method(scored: Scored) -> str:
    """The gain over a method that does better on human votes alone than the labels' own; empty if none does."""
    best = scored.better_alone
    if best is None:
        return ""
    behind = scored.behind[best]
    gain = replace(behind, estimate=-behind.estimate, low=-behind.high, high=-behind.low)
    return f"{_BETTER_ALONE[best]} does better on human votes alone: against it the difference is {span(gain)}."


def _better_rival(results: Results) -> str | None:
    """The rival with the lowest log loss among those significantly better than the fused labels."""
    scored = results.scored
    if scored is None:
        return None
    better = [name for name, behind in scored.behind.items() if behind.is_below_zero and _shows(behind)]
    return min(better, key=lambda name: scored.comparison.of(name).nll.estimate) if better else None


def _rival_words(results: Results) -> str:
    """By how much the best rival is better, and how to use it; empty if none is better."""
    best = _better_rival(results)
    scored = results.scored
    if best is None or scored is None:
        return ""
    scores = scored.comparison
    losses = number(scores.of(best).nll.estimate), number(scores.of(FUSED).nll.estimate)
    proxies = " without the proxies" if best in {ALONE, AUTO_ALONE} and results.has_proxies else ""
    method = scored.alone.method if best == ALONE else METHOD_OF[best]
    return (
        f"{_RIVALS[best]} held-out votes better: a log loss of {losses[0]} against {losses[1]}, a difference of "
        f"{span(scored.behind[best])}. To use it, fuse with `--method {method}`{proxies}."
    )


def summary(results: Results) -> str:
    """The evidence behind the headline."""
    material = results.material
    people = f"{counted(len(material.human.rows), 'human vote')} of the fit"
    counts = [f"{counted(len(material), 'utterance')} with {people}"]
    if results.has_held_out:
        counts.append(counted(len(material.held_out.rows), "held-out human vote"))
    if results.has_proxies:
        names = ", ".join(material.proxy.names)
        annotators = (
            counted(len(material.proxy.names), "proxy annotator") if material.proxy.names[1:] else "a proxy annotator"
        )
        counts.append(f"{counted(len(material.proxy.rows), 'vote')} of {annotators} ({names})")
    parts = [f"{', '.join(counts[:-1])} and {counts[-1]}." if len(counts) > 1 else f"{counts[0]}."]
    if results.scores is not None:
        parts[0] += f" {_scored(results)}"
        parts += [words] if (words := _rival_words(results)) else []
    elif not results.has_held_out:
        parts.append("No human vote was held out, so this report cannot show whether the fused labels are right.")
    else:
        parts.append(NO_FIT)
    if not results.has_proxies and results.people is not None:
        parts.append(grounds(results.people))
    return "\n\n".join(part for part in parts if part)


def figures(results: Results) -> tuple[Figure, ...]:
    """The key figures."""
    tiles = []
    learned = results.learning
    if results.scores is not None:
        fused, other, name = _beside(results, results.scores)
        if results.uses_proxies:
            gain = _gain(fused)
            ends = TOO_FEW if math.isnan(gain.low) else f"{signed_number(gain.low)} to {signed_number(gain.high)}"
            ends = ends if math.isfinite(gain.estimate) else _NO_PROBABILITY
            tiles.append(
                Figure(
                    signed_number(gain.estimate),
                    "nats per held-out vote, against human votes alone",
                    f"{ends}, over {counted(fused.utterances, 'utterance')}",
                )
            )
        else:
            beside = f"{number(other.nll.estimate)} for {name}"
            tiles.append(Figure(number(fused.nll.estimate), "nats: log loss per held-out vote", beside))
        beside = f"{number(other.jsd.estimate)} for {name}"
        tiles.append(Figure(number(fused.jsd.estimate), "JSD to held-out votes (base 2)", beside))
    if learned is not None and learned.worth and results.uses_proxies:
        tiles.append(worth_figure(learned))
    if results.agreement.equal is not None:
        pair = results.agreement.equal.agreement
        beside = f"two humans: {100 * pair.human_human.estimate:.0f} %"
        tiles.append(Figure(f"{100 * pair.human_proxy.estimate:.0f} %", "a human and a proxy vote agree", beside))
    curve = results.curves.get(ALL_PROXIES) if _may_help(results) else None
    if curve is not None and curve.fit is not None and curve.fit.saturation is not None:
        name = "proxy vote" if curve.fit.saturation == 1 else "proxy votes"
        tiles.append(Figure(str(curve.fit.saturation), f"{name} reach 90 % of the possible gain", "fitted"))
    return tuple(tiles)


def _may_help(results: Results) -> bool:
    """Whether the labels use proxies, unless held-out votes show that they are worth nothing."""
    return results.uses_proxies and (results.scores is None or _gain(results.scores.of(FUSED)).is_below_zero)


def _beside(results: Results, scores: Comparison) -> tuple[Score, Score, str]:
    """The fused labels' score and the one to compare with: human shares if no proxy counted."""
    other = ALONE if results.uses_proxies else PLAIN
    return scores.of(FUSED), scores.of(other), other


def _gain(score: Score) -> Interval:
    if score.gain is None:
        raise ValueError("human votes alone have no gain over themselves")
    return score.gain.difference


def _against(gain: Interval) -> str:
    if gain.is_below_zero:
        return "They predict held-out votes better than human votes alone."
    if gain.is_above_zero:
        return ""  # the rival's own sentence covers it
    if not math.isfinite(gain.estimate):
        return f"Their log loss is infinite: {_NO_PROBABILITY}."
    if not gain.can_be_judged:
        few = "Too few speakers to judge whether they predict held-out votes as well as human votes alone"
        return f"{few}; {IT_TAKES}."
    return "On held-out votes they do not differ significantly from human votes alone."


def _where_they_helped(results: Results) -> str:
    inside = results.scores.within if results.scores else {}
    gains = {
        stratum: {
            value: _gain(next(s for s in scores if s.method == FUSED)) for value, scores in inside[stratum].items()
        }
        for stratum in OBSERVABLE
        if len(inside.get(stratum, {})) > 1
    }
    return _strata_words(gains)


def _strata_words(every: Mapping[str, Mapping[str, Interval]]) -> str:
    """The stratum where the log loss fell most, if there is one; where it rose; where the change is not significant.

    Strata of too few speakers are counted and not judged.
    """
    gains = {
        stratum: judged
        for stratum, values in every.items()
        if (judged := {value: gain for value, gain in values.items() if gain.can_be_judged})
    }
    if not gains:
        return "They improve on human votes alone."
    few = sum(map(len, every.values())) - sum(map(len, gains.values()))
    if not few:
        return _of_strata(gains, "known beforehand")
    others = "The other one has" if few == 1 else f"The other {few} have"
    return f"{_of_strata(gains, 'known beforehand that can be judged')} {others} too few speakers."


def _of_strata(gains: Mapping[str, Mapping[str, Interval]], which: str) -> str:
    """The same about strata that can all be judged; `which` ones these are."""
    best = _clearly_best(gains)
    most = f"The log loss of held-out votes fell most {best}" if best else ""
    harmed = [(name, [v for v, gain in values.items() if gain.is_above_zero]) for name, values in gains.items()]
    unsure = [(name, [v for v, gain in values.items() if gain.low <= 0 <= gain.high]) for name, values in gains.items()]
    if any(values for _, values in harmed):
        rose = listed([where(*place) for place in harmed if place[1]])
        return f"{most}, and rose {rose}." if most else f"The log loss of held-out votes rose {rose}."
    doubtful = [place for place in unsure if place[1]]
    count, of = sum(len(values) for _, values in unsure), sum(len(values) for values in gains.values())
    if not doubtful:
        verdict = f"fell in every stratum {which}"
        return f"{most}, and {verdict}." if most else f"The log loss of held-out votes {verdict}."
    named = where(*doubtful[0]) if len(doubtful) == 1 and count <= _NAMED else ""
    named = named or f"in {count} of the {of} strata {which}"
    if most:
        return f"{most}; the improvement is not significant {named}."
    return f"The log loss of held-out votes fell; the improvement is not significant {named}."


def _clearly_best(gains: Mapping[str, Mapping[str, Interval]]) -> str:
    """The stratum of the first stratification whose interval is below all the others; empty if there is none."""
    stratum, values = next(iter(gains.items()))
    if len(values) < 2:
        return ""
    best = min(values, key=lambda value: values[value].estimate)
    others = [gain.low for value, gain in values.items() if value != best]
    return where(stratum, [best]) if values[best].high < min(0.0, *others) else ""


def _scored(results: Results) -> str:
    if results.scores is None:
        return ""
    fused, other, name = _beside(results, results.scores)
    apart = f": a difference of {span(_gain(fused))}" if results.uses_proxies else ""
    change = 100 * (fused.jsd.estimate / other.jsd.estimate - 1)
    return (
        f"On the held-out votes of {fused.utterances:,} utterances the fused labels reach a log loss of "
        f"{number(fused.nll.estimate)} nats per vote, "
        f"{name} {number(other.nll.estimate)}{apart}. Their JSD (base 2) is "
        f"{number(fused.jsd.estimate)} against {number(other.jsd.estimate)}, {signed_number(change, 0)} %."
    )
