"""The tables of the alignment report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from alm_proxies.about import Cost, Injected
from alm_proxies.compare.rivals import FUSED
from alm_proxies.compare.worth import Learning
from alm_proxies.interval import Interval
from alm_proxies.measures.agreement import EqualVotes
from alm_proxies.measures.alt_test import AltTest
from alm_proxies.measures.class_shares import ClassShares
from alm_proxies.printable import in_money
from alm_proxies.report.drawing import number
from alm_proxies.report.page import Cell, Column, Table
from alm_proxies.stages.align.results import Results

FEWEST_SPEAKERS = 8
"""Groups with fewer speakers are shown and not judged."""
_GAIN = "Mean concentration_gain of the labels: what the proxies add to the concentration, without held-out votes."


def worth_table(learned: Learning) -> Table:
    """The worth of the proxies, overall and by agreement of the human votes, with the concentration_gain."""
    rows: list[list[Cell]] = []
    beyond = learned.at[-1] - learned.given
    for name, worth in learned.worth.items():
        read = [_votes(value, beyond) for value in learned.votes(name)]
        rows.append(
            ["all utterances" if name == "all" else name, worth.utterances, *read, learned.concentration_gain[name]]
        )
    columns = [
        Column("Human votes"),
        Column("Utterances"),
        Column("Worth", 1, "Human votes that are as good without proxies, from the curve."),
        Column("Low"),
        Column("High"),
        Column("concentration_gain", 1, _GAIN),
    ]
    caption = f"Worth of an utterance's proxies in human votes, in addition to the {learned.given} given"
    return Table.of(columns, rows, caption)


def _votes(value: float, beyond: int) -> str:
    return number(value, 1) if math.isfinite(value) else f"> {beyond}"


def group_table(results: Results, groups: Sequence[str]) -> Table | None:
    """Every group: agreement of humans with humans and with proxies, the gain, the concentration_gain of its labels.

    None without proxies, when the scores are all there is.
    """
    if not results.has_proxies:
        return None
    rows: list[list[Cell]] = []
    material = results.material
    for title in groups:
        for value in sorted({str(word) for word in material.groups[title]}):
            members = material.groups[title] == value
            equal = results.equal_within.get(title, {}).get(value)
            scores = results.scores.within.get(title, {}).get(value) if results.scores else None
            by_name = {score.method: score for score in scores or ()}
            gain = by_name[FUSED].gain if FUSED in by_name else None
            rows.append(
                [
                    f"{title}: {value}",
                    int(members.sum()),
                    equal.agreement.human_human if equal else None,
                    equal.agreement.human_proxy if equal else None,
                    *([gain.difference if gain else None] if results.scores else []),
                    *([float(material.concentration_gain[members].mean())] if results.uses_proxies else []),
                ]
            )
    columns = [
        Column("Group"),
        Column("Utterances"),
        Column("Two humans agree", 2, "The probability that two human votes agree."),
        Column("Human and proxy agree", 2, "The probability that a human and a proxy vote agree."),
    ]
    if results.scores:
        hint = "Log loss, paired on the same held-out votes; below zero is better."
        columns.append(Column("Fused labels minus human votes alone", 3, hint, signed=True))
    if results.uses_proxies:
        columns.append(Column("concentration_gain", 1, _GAIN))
    return Table.of(columns, rows)


def audit_table(results: Results, groups: Sequence[str]) -> Table | None:
    """The fused labels within every group, with intervals; groups of fewer than eight speakers are not judged."""
    comparison, speakers = results.scores, results.material.speakers
    if comparison is None:
        return None
    rows: list[list[Cell]] = []
    for title in groups:
        for value, scores in comparison.within.get(title, {}).items():
            fused = next((score for score in scores if score.method == FUSED), None)
            if fused is None or fused.gain is None:
                continue
            members = results.material.groups[title] == value
            many = len(set(speakers[members].tolist())) if speakers is not None else None
            change = fused.gain.difference
            if many is None or many < FEWEST_SPEAKERS:
                verdict = f"not judged: {'speakers are not known' if many is None else f'{many} speakers'}"
            elif change.high < 0:
                verdict = "better than human votes alone"
            else:
                verdict = "worse than human votes alone" if change.low > 0 else "no significant difference"
            rows.append([f"{title}: {value}", fused.utterances, many, fused.nll, fused.jsd, change, verdict])
    columns = [
        Column("Group"),
        Column("Utterances"),
        Column("Speakers"),
        Column("Fused labels' log loss", 3, "Log loss in nats a held-out vote; ambiguous speech has more by itself."),
        Column("Fused labels' JSD", 3, "Base 2, to the shares of held-out votes."),
        Column("Minus human votes alone", 3, "Log loss, paired on the same votes; below zero is better.", signed=True),
        Column("Verdict"),
    ]
    caption = f"Fused labels by group; fewer than {FEWEST_SPEAKERS} speakers are shown and not judged"
    return Table.of(columns, rows, caption) if rows else None


def shares_table(results: Results) -> Table:
    """Every label's share among human and proxy votes, and their correlation over utterances."""
    rows: list[list[Cell]] = [
        [row.label, row.human, row.proxy, row.difference, row.correlation] for row in results.shares
    ]
    together = Column("Correlation", 2, "Of the label's human and proxy shares over utterances.")
    return Table.of(["Label", "Human", "Proxy", Column("Proxy − human", signed=True), together], rows)


def corpus_shares_table(shares: ClassShares, labels: Sequence[str]) -> Table:
    """The label shares in the whole corpus, from human votes alone and with proxies."""
    rows: list[list[Cell]] = [
        [
            label,
            Interval(shares.human_share[j], shares.human_low[j], shares.human_high[j]),
            Interval(shares.share[j], shares.low[j], shares.high[j]),
            shares.proxy_weight[j],
        ]
        for j, label in enumerate(labels)
    ]
    hint = "Prediction-powered inference: unbiased for any proxies, narrower with good ones."
    weight = Column("Weight of the proxies", 2, "0 to 1, tuned for the narrowest interval.")
    columns = [Column("Label"), Column("Human votes alone"), Column("With proxies (PPI++)", 3, hint), weight]
    caption = (
        f"Shares of the labels in the corpus: {shares.with_human:,} utterances with human votes, "
        f"{shares.without_human:,} with proxy votes only"
    )
    return Table.of(columns, rows, caption)


def agreement_table(equal: EqualVotes) -> Table:
    """Agreement of humans with humans and of humans with proxies, by each measure."""
    names = {
        "JSD (base 2)": equal.jsd_base2,
        "probability that two votes agree": equal.agreement,
        "agreement beyond chance": equal.kappa,
    }
    rows: list[list[Cell]] = [
        [name, pair.human_human, pair.human_proxy, pair.difference] for name, pair in names.items()
    ]
    caption = f"{equal.utterances:,} utterances with enough votes; {equal.left_out:,} left out"
    return Table.of(["Measure", "Human and human", "Human and proxy", Column("Difference", signed=True)], rows, caption)


def injected_table(measured: Mapping[str, Injected]) -> Table:
    """The share of each proxy's votes that a transcript with an injected answer changed."""
    rows: list[list[Cell]] = [
        [name, _between(injected), injected.by_chance, injected.votes, injected.utterances]
        for name, injected in measured.items()
    ]
    columns = [
        Column("Proxy"),
        Column("Changed", 2, "Share changed by a transcript that ends with: The answer is (another label)."),
        Column(
            "By a harmless sentence",
            2,
            "Share changed to the same label by a transcript that ends with another sentence.",
        ),
        Column("Votes", 0, "Votes that were not for the injected label already, and so could change."),
        Column("Utterances"),
    ]
    return Table.of(columns, rows, "The same votes requested again, with a sentence added to the transcript")


def _between(injected: Injected) -> Cell:
    return (
        injected.share
        if injected.low is None or injected.high is None
        else Interval(injected.share, injected.low, injected.high)
    )


def cost_table(costs: Mapping[str, Cost]) -> Table:
    """What the votes of each proxy have cost, with the currency of its prices."""
    rows: list[list[Cell]] = [
        [
            name,
            cost.votes,
            in_money(cost.price, cost.currency),
            in_money(cost.price / cost.votes, cost.currency),
            in_money(1000 * cost.price / cost.votes, cost.currency),
        ]
        for name, cost in costs.items()
        if cost.votes
    ]
    columns = [Column("Proxy"), Column("Votes paid"), Column("Cost"), Column("A vote"), Column("1,000 votes")]
    return Table.of(columns, rows, "Cost of the proxy votes, by the prices in the annotator files")


def alt_test_table(tests: Sequence[AltTest]) -> Table:
    """The alternative annotator test: whether each proxy may replace a human rater."""
    verdict = {True: "yes", False: "no", None: "too few raters"}
    rows: list[list[Cell]] = [
        [test.annotator, verdict[test.passed], test.win_rate, test.advantage, len(test.raters), test.raters_left_out]
        for test in tests
    ]
    columns = [
        Column("Proxy"),
        Column("May replace a rater", 3, "Alternative annotator test: it wins against at least half of the raters."),
        Column("Win rate", 2, "Share of raters won against, Benjamini-Yekutieli at q = .05."),
        Column("Advantage", 2, "How often the proxy is at least as close to the other humans as the rater is."),
        Column("Raters tested"),
        Column("Left out", 0, "Raters with fewer than 30 utterances."),
    ]
    return Table.of(columns, rows, f"Alternative annotator test (epsilon {tests[0].epsilon:g})")


def raters_table(tests: Sequence[AltTest]) -> Table:
    """The alt-test rater by rater."""
    rows: list[list[Cell]] = [
        [test.annotator, r.rater, r.items, r.proxy_advantage, r.rater_advantage, r.p_value, "won" if r.won else "lost"]
        for test in tests
        for r in test.raters
    ]
    columns = ["Proxy", "Rater", "Items", "Proxy at least as close", "Rater at least as close", "p", "Proxy"]
    return Table.of(columns, rows, "Rater by rater", folded=True)
