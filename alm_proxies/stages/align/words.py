"""The report in words: the headline, the summary and the key figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from alm_proxies.measures.bootstrap import Interval
from alm_proxies.measures.class_shares import ClassShares
from alm_proxies.report.drawing import number
from alm_proxies.report.page import Figure
from alm_proxies.stages.align.learning import Learning
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.rivals import ALONE, FUSED, PLAIN, Score, Scores
from alm_proxies.stages.align.strata import AGREEMENT, AMBIGUITY, LABEL, OBSERVABLE

_WHERE = {
    AGREEMENT: {
        "none": "where no human voted",
        "one vote": "where one human voted",
        "all agree": "where the human votes all agree",
        "a majority": "where most human votes agree",
        "no majority": "where no label has a majority of the human votes",
    },
}
_NAMED = 3
"""No more strata than these are named in the headline where no gain can be shown; harm is always named."""
HOLD_OUT = (
    "No human vote was held out, so nothing here can show whether the fused labels are right. Read the corpus again "
    "with some votes held out (`--hold-out`, or `[hold_out]` in a pipeline file), fuse what is left and align again: "
    "then this report compares fused labels, human votes alone, weights and pooling on votes that none of them saw."
)


def where(stratum: str, values: Sequence[str]) -> str:
    """Values of one stratification as a clause: "where the human votes all agree", "where fear or sad is likeliest"."""
    if stratum == LABEL:
        return f"where {listed(values, 'or')} is the most likely label"
    if stratum == AMBIGUITY:
        return f"where the label's ambiguity is {listed(values, 'or')}"
    return listed([_WHERE[stratum][value] for value in values])


def span(interval: Interval, digits: int = 3) -> str:
    """An interval in words: "-0.055 (-0.064 to -0.047)"."""
    if math.isnan(interval.low):
        return number(interval.estimate, digits)
    low, high = number(interval.low, digits), number(interval.high, digits)
    return f"{number(interval.estimate, digits)} ({low} to {high})"


def worth_words(learned: Learning, stratum: str = "all") -> str:
    """What the proxies were worth, "2.3 human votes" or "more than 3 human votes", without the interval."""
    votes = learned.votes(stratum)[0]
    beyond = learned.at[-1] - learned.given
    if not math.isfinite(votes):
        return f"more than {beyond} human vote{'s' if beyond != 1 else ''}"
    return f"{number(votes, 1)} human vote{'' if abs(votes - 1) < 0.05 else 's'}"


def both_worths(learned: Learning) -> str:
    """The worth on held-out votes beside the labels' own proxy_worth, and why they differ."""
    own, rise = learned.proxy_worth["all"], learned.strength_per_vote
    said = (
        f"On held-out votes the proxies did the work of {worth_words(learned)} ({_range(learned)}). The labels' own "
        f"`proxy_worth`, {number(own, 1)} on average, is another measure: it says how much the proxies add to the "
        "concentration, and no vote was held out for it."
    )
    if rise > 0:
        said += (
            f" One more human vote adds {number(rise, 1)} to the concentration, not 1, so {number(own, 1)} stand for "
            f"{number(own / rise, 1)} human votes."
        )
    return f"{said} Where the measures differ, rely on the held-out votes."


def corpus_shares_words(found: ClassShares | None) -> str:
    """What proxies do for the shares of the labels in the corpus."""
    if found is None:
        return (
            "Proxies can narrow the intervals of the labels' shares in the whole corpus (PPI++) where other utterances "
            "have proxy votes only. Too few have here: the weight of the proxies is 0, and the human votes stand alone."
        )
    alone = np.subtract(found.human_high, found.human_low)
    narrower = 100 * (1 - float(np.subtract(found.high, found.low).sum() / alone.sum()))
    change = f"narrower by {number(narrower, 0)} %" if narrower > 0.5 else "no narrower"
    return (
        f"In the whole corpus proxies make the intervals of the labels' shares {change} (PPI++, mean weight of the "
        f"proxies {number(float(np.mean(found.proxy_weight)), 2)}). This holds whatever the proxies say, if the "
        "utterances with human votes are like those without."
    )


def headline(results: Results) -> str:
    """What the proxies were worth, where they helped and where not, in a sentence or two."""
    if not results.has_proxies:
        return "No proxy voted here: this is what the human votes alone can tell."
    if results.scores is None:
        added = number(float(results.material.proxy_worth.mean()), 1)
        return (
            f"The proxies of an utterance add {added} to the concentration of its label; "
            "nothing was held out, so nothing here tells what they are worth."
        )
    gain = _gain(results.scores.of(FUSED))
    if not results.uses_proxies:
        return f"The fused labels leave the proxies out. {_against(gain)}"
    if gain.high < 0:
        learned = results.learning
        worth = f"were worth {worth_words(learned)}" if learned and learned.worth else "helped"
        return f"The proxies of an utterance {worth}. {_where_they_helped(results)}"
    if gain.low > 0:
        return "The proxies did harm: human votes alone foretell held-out votes better than the fused labels do."
    return "The proxies made no difference that these held-out votes can show."


def summary(results: Results) -> str:
    """The figures behind the headline."""
    material = results.material
    people = f"{len(material.human.rows):,} human votes of the fit"
    said = [f"{len(material):,} utterances with {people}"]
    if results.has_held_out:
        said.append(f"{len(material.held_out.rows):,} held-out human votes")
    if results.has_proxies:
        names = ", ".join(material.proxy.names)
        annotators = (
            f"{len(material.proxy.names)} proxy annotators" if material.proxy.names[1:] else "a proxy annotator"
        )
        said.append(f"{len(material.proxy.rows):,} votes of {annotators} ({names})")
    parts = [f"{', '.join(said[:-1])} and {said[-1]}." if len(said) > 1 else f"{said[0]}."]
    if results.scores is not None:
        parts[0] += f" {_scored(results)}"
    elif not results.has_held_out:
        parts.append("No human vote was held out, so nothing here can show whether the fused labels are right.")
    else:
        parts.append("The votes of the fit hold no human vote, so no rival can be fitted to compare with.")
    return "\n\n".join(parts)


def figures(results: Results) -> tuple[Figure, ...]:
    """The key figures."""
    made = []
    learned = results.learning
    if learned is not None and learned.worth and results.uses_proxies:
        beside = f"{_range(learned)}; proxy_worth says {number(learned.proxy_worth['all'], 1)}"
        made.append(Figure(_short_worth(learned), "human votes: the worth of an utterance's proxies", beside))
    if results.scores is not None:
        fused, other, name = _beside(results, results.scores)
        if results.uses_proxies:
            gain = _gain(fused)
            ends = f"{number(gain.low)} to {number(gain.high)}"
            made.append(Figure(number(gain.estimate), "nats a held-out vote against human votes alone", ends))
        else:
            beside = f"{number(other.nll.estimate)} for {name}"
            made.append(Figure(number(fused.nll.estimate), "nats: log loss a held-out vote", beside))
        beside = f"{number(other.jsd.estimate)} for {name}"
        made.append(Figure(number(fused.jsd.estimate), "JSD to held-out votes (base 2)", beside))
    if results.equal is not None:
        pair = results.equal.agreement
        beside = f"two humans: {100 * pair.human_human.estimate:.0f} %"
        made.append(Figure(f"{100 * pair.human_proxy.estimate:.0f} %", "a human and a proxy vote agree", beside))
    curve = results.curves.get("all proxies")
    if curve is not None and curve.fit is not None and curve.fit.saturation is not None:
        name = "proxy vote" if curve.fit.saturation == 1 else "proxy votes"
        made.append(Figure(str(curve.fit.saturation), f"{name} do nine tenths of what more can do", "fitted"))
    return tuple(made)


def _beside(results: Results, scores: Scores) -> tuple[Score, Score, str]:
    """The fused labels' score and the one to hold it against: plain shares where no proxy counted."""
    other, name = (ALONE, "human votes alone") if results.uses_proxies else (PLAIN, "plain shares of the votes")
    return scores.of(FUSED), scores.of(other), name


def _gain(score: Score) -> Interval:
    if score.gain is None:
        raise ValueError("human votes alone have no gain over themselves")
    return score.gain.difference


def _against(gain: Interval) -> str:
    if gain.high < 0:
        return "They foretell held-out votes better than a mixture fitted to human votes alone."
    if gain.low > 0:
        return "They foretell held-out votes worse than a mixture fitted to human votes alone."
    return "They foretell held-out votes as well as a mixture fitted to human votes alone."


def _where_they_helped(results: Results) -> str:
    """Most and least by one stratification; harm, and gains that cannot be shown, by every one known beforehand."""
    inside = results.scores.within if results.scores else {}
    gains = {
        stratum: {value: _gain(next(s for s in made if s.method == FUSED)) for value, made in inside[stratum].items()}
        for stratum in OBSERVABLE
        if len(inside.get(stratum, {})) > 1
    }
    if not gains:
        return "With them held-out votes are foretold better than by human votes alone."
    stratum, first = next(iter(gains.items()))
    ranked = sorted(first, key=lambda value: first[value].estimate)
    best, least = where(stratum, ranked[:1]), where(stratum, ranked[-1:])
    harmed = [(name, [v for v, gain in values.items() if gain.low > 0]) for name, values in gains.items()]
    unsure = [(name, [v for v, gain in values.items() if gain.low <= 0 <= gain.high]) for name, values in gains.items()]
    if any(values for _, values in harmed):
        return f"They helped most {best}, and did harm {listed([where(*one) for one in harmed if one[1]])}."
    doubtful = [one for one in unsure if one[1]]
    count, of = sum(len(values) for _, values in unsure), sum(len(values) for values in gains.values())
    if len(doubtful) == 1 and count <= _NAMED:
        return f"They helped most {best}; no gain can be shown {where(*doubtful[0])}."
    if doubtful:
        return f"They helped most {best}; no gain can be shown in {count} of the {of} strata known beforehand."
    return f"They helped everywhere, most {best} and least {least}."


def _scored(results: Results) -> str:
    if results.scores is None:
        return ""
    fused, other, name = _beside(results, results.scores)
    apart = f": a difference of {span(_gain(fused))}" if results.uses_proxies else ""
    change = 100 * (fused.jsd.estimate / other.jsd.estimate - 1)
    return (
        f"On the held-out votes the fused labels reach a log loss of {number(fused.nll.estimate)} nats a vote, "
        f"{name} {number(other.nll.estimate)}{apart}. Their JSD (base 2) is "
        f"{number(fused.jsd.estimate)} against {number(other.jsd.estimate)}, {number(change, 0)} %."
    )


def _short_worth(learned: Learning) -> str:
    votes = learned.votes()[0]
    return number(votes, 1) if math.isfinite(votes) else f"> {learned.at[-1] - learned.given}"


def _range(learned: Learning) -> str:
    _, low, high = learned.votes()
    upper = number(high, 1) if math.isfinite(high) else f"> {learned.at[-1] - learned.given}"
    lower = number(low, 1) if math.isfinite(low) else f"> {learned.at[-1] - learned.given}"
    return f"{lower} to {upper}, beside {learned.given} given"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words in a row: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
