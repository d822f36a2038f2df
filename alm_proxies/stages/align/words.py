"""The report in words: the headline, the summary and the key figures."""

from __future__ import annotations

import math

from alm_proxies.measures.bootstrap import Interval
from alm_proxies.report.drawing import number
from alm_proxies.report.page import Figure
from alm_proxies.stages.align.learning import Learning
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.rivals import ALONE, FUSED, Score
from alm_proxies.stages.align.strata import AGREEMENT, AMBIGUITY, LABEL, OBSERVABLE

_WHERE = {
    AGREEMENT: {
        "none": "where no human voted",
        "one vote": "where one human voted",
        "all agree": "where the human votes all agree",
        "a majority": "where most human votes agree",
        "no majority": "where no label has a majority of the human votes",
    },
    AMBIGUITY: {word: f"where the label's ambiguity is {word}" for word in ("low", "medium", "high")},
}
HOLD_OUT = (
    "No human vote was held out, so nothing here can show whether the fused labels are right. Read the corpus again "
    "with some votes held out (`--hold-out`, or `[hold_out]` in a pipeline file), fuse what is left and align again: "
    "then this report compares fused labels, human votes alone, weights and pooling on votes that none of them saw."
)


def where(stratum: str, value: str) -> str:
    """A stratum's value as a clause: "where the human votes all agree"."""
    if stratum == LABEL:
        return f"where {value} is the most likely label"
    return _WHERE.get(stratum, {}).get(value, f"where {stratum} is {value}")


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


def headline(results: Results) -> str:
    """What the proxies were worth, where they helped and where not, in a sentence or two."""
    if not results.has_proxies:
        return "No proxy voted here: this is what the human votes alone can tell."
    if results.scores is None:
        votes = number(float(results.material.proxy_worth.mean()), 1)
        return (
            f"The fusion itself takes the proxies of an utterance for {votes} human votes; "
            "nothing was held out, so nothing here proves it."
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
        said.append(f"{len(material.proxy.rows):,} votes of {len(material.proxy.names)} proxy annotators ({names})")
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
        made.append(Figure(_short_worth(learned), "human votes: the worth of an utterance's proxies", _range(learned)))
    if results.scores is not None:
        fused, alone = results.scores.of(FUSED), results.scores.of(ALONE)
        gain = _gain(fused)
        ends = f"{number(gain.low)} to {number(gain.high)}"
        made.append(Figure(number(gain.estimate), "nats a held-out vote against human votes alone", ends))
        beside = f"{number(alone.jsd.estimate)} for human votes alone"
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
    best, least = where(stratum, ranked[0]), where(stratum, ranked[-1])
    every = [(where(name, value), gain) for name, values in gains.items() for value, gain in values.items()]
    harmed = [words for words, gain in every if gain.low > 0]
    unsure = [words for words, gain in every if gain.low <= 0 <= gain.high]
    if harmed:
        return f"They helped most {best}, and did harm {_listed(harmed)}."
    if unsure:
        return f"They helped most {best}; no gain can be shown {_listed(unsure)}."
    return f"They helped everywhere, most {best} and least {least}."


def _scored(results: Results) -> str:
    if results.scores is None:
        return ""
    fused, alone = results.scores.of(FUSED), results.scores.of(ALONE)
    change = 100 * (fused.jsd.estimate / alone.jsd.estimate - 1)
    return (
        f"On the held-out votes the fused labels reach a log loss of {number(fused.nll.estimate)} nats a vote, human "
        f"votes alone {number(alone.nll.estimate)}: a difference of {span(_gain(fused))}. Their JSD (base 2) is "
        f"{number(fused.jsd.estimate)} against {number(alone.jsd.estimate)}, {number(change, 0)} %."
    )


def _short_worth(learned: Learning) -> str:
    votes = learned.votes()[0]
    return number(votes, 1) if math.isfinite(votes) else f"> {learned.at[-1] - learned.given}"


def _range(learned: Learning) -> str:
    _, low, high = learned.votes()
    upper = number(high, 1) if math.isfinite(high) else f"> {learned.at[-1] - learned.given}"
    lower = number(low, 1) if math.isfinite(low) else f"> {learned.at[-1] - learned.given}"
    return f"{lower} to {upper}, beside {learned.given} given"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
