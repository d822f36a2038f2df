"""Agreement among humans and of humans with proxies, at equal numbers of votes, and the alternative annotator test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alm_proxies.compare.comparison import FEWEST
from alm_proxies.compare.strata import in_order
from alm_proxies.errors import InputError
from alm_proxies.measures.agreement import EqualVotes, equal_votes_by_group
from alm_proxies.measures.alt_test import AltTest, Kind, alt_test
from alm_proxies.measures.tally import Tally
from alm_proxies.printable import counted
from alm_proxies.report.charts import Dots, Series
from alm_proxies.report.page import P_VALUE, Block, Cell, Chart, Column, Section, Table, Text
from alm_proxies.stages.align.prepared import Prepared

_MOST_AT_ONCE = 3
OF_DISTRIBUTIONS = "A vote that is a distribution counts as one vote drawn by its shares, averaged over all such draws."


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far humans agree with each other and with the proxies that count."""

    equal: EqualVotes | None
    """None if no utterance has two human votes and a proxy vote."""
    within: dict[str, dict[str, EqualVotes]]
    """By group, then by value; not by stratum, because strata are formed by some of the compared votes."""
    alt_tests: tuple[AltTest, ...]
    """One for every proxy, those that do not count too."""
    no_alt_test: InputError | None
    """Why there is no alternative annotator test."""
    shared: bool = False
    """Whether any vote is a distribution."""

    @property
    def cannot(self) -> dict[str, str]:
        """By measure: why it cannot be made."""
        return {} if self.no_alt_test is None else {"alt_test": str(self.no_alt_test)}


def agreement_of(prepared: Prepared, *, kind: Kind, seed: int) -> Agreement:
    """Agreement with the same number of votes on each side; `kind` of raters sets the margin of the alt-test."""
    people, machines = prepared.people.tally, prepared.proxy.tally
    equal = None
    within: dict[str, dict[str, EqualVotes]] = {}
    if prepared.both.any():
        votes = _at_once(people, machines)
        equal, within = equal_votes_by_group(
            people,
            machines,
            prepared.material.speakers,
            {
                title: {value: values == value for value in in_order(values)}
                for title, values in prepared.material.groups.items()
            },
            votes=votes,
            fewest=FEWEST,
            seed=seed,
        )
        if not equal.utterances:
            equal, within = None, {}
    try:
        tests, cannot = tuple(alt_test(prepared.votes, name, kind=kind) for name in prepared.proxies), None
    except InputError as error:
        tests, cannot = (), error
    return Agreement(equal, within, tests, cannot, people.is_shared or machines.is_shared)


def _at_once(people: Tally, machines: Tally) -> int:
    both = (people.sizes > 0) & (machines.sizes > 0)
    half, other = np.median(people.sizes[both]) // 2, np.median(machines.sizes[both])
    return int(max(1, min(half, other, _MOST_AT_ONCE)))


def agreement_section(agreement: Agreement) -> Section | None:
    """Agreement overall and by group, and the alternative annotator test or why there is none."""
    equal = agreement.equal
    if equal is None:
        return None
    people, machines = equal.agreement.human_human, equal.agreement.human_proxy
    lead = (
        f"With {equal.votes} vote{'s' if equal.votes != 1 else ''} on each side: two human votes agree "
        f"{100 * people.estimate:.0f} % of the time, a human and a proxy vote {100 * machines.estimate:.0f} %. "
        "Divergence falls with the number of votes, so only equal numbers compare."
    )
    if agreement.shared:
        lead += f" {OF_DISTRIBUTIONS}"
    blocks: list[Block] = [_chart(equal, agreement.within), _table(equal)]
    if agreement.alt_tests:
        blocks += [_alt_test_table(agreement.alt_tests), _raters_table(agreement.alt_tests)]
    elif agreement.no_alt_test is not None:
        why = agreement.no_alt_test
        blocks.append(Text(f"No alternative annotator test: {why.message}. {why.fix or ''}".rstrip(), "notice"))
    return Section("Agreement of humans and proxies", lead, tuple(blocks))


def _chart(equal: EqualVotes, within: dict[str, dict[str, EqualVotes]]) -> Chart:
    rows, pairs, headings = ["all utterances"], [equal], {}
    for title, values in within.items():
        headings[len(rows)] = title
        rows += values
        pairs += values.values()
    series = [
        Series("human and human", "human", [pair.agreement.human_human for pair in pairs]),
        Series("human and proxy", "proxy", [pair.agreement.human_proxy for pair in pairs]),
    ]
    return Dots(
        "agreement",
        "How often two votes for one utterance agree",
        "chance that two votes agree",
        rows,
        series,
        alt="Chance that two human votes agree against that of a human and a proxy vote, overall and by group.",
        headings=headings,
    )


def _table(equal: EqualVotes) -> Table:
    names = {
        "JSD (base 2)": equal.jsd_base2,
        "probability that two votes agree": equal.agreement,
        "agreement beyond chance": equal.kappa,
    }
    rows: list[list[Cell]] = [
        [name, pair.human_human, pair.human_proxy, pair.difference] for name, pair in names.items()
    ]
    caption = (
        f"{counted(equal.utterances, 'utterance')} with enough votes; {equal.left_out:,} left out. "
        "Means over every possible sample of the votes, not over random ones"
    )
    return Table.of(["Measure", "Human and human", "Human and proxy", Column("Difference", signed=True)], rows, caption)


def _alt_test_table(tests: Sequence[AltTest]) -> Table:
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


def _raters_table(tests: Sequence[AltTest]) -> Table:
    rows: list[list[Cell]] = [
        [test.annotator, r.rater, r.items, r.proxy_advantage, r.rater_advantage, r.p_value, "won" if r.won else "lost"]
        for test in tests
        for r in test.raters
    ]
    closer = ("Proxy at least as close", "Rater at least as close")
    columns: list[str | Column] = ["Proxy", "Rater", "Items", *closer, P_VALUE, "Proxy"]
    return Table.of(columns, rows, "Rater by rater", folded=True)
