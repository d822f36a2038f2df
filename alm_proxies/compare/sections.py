"""Report sections of a comparison with held-out votes, shared by all reports that contain one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alm_proxies.compare.comparison import FEWEST, Comparison, Score
from alm_proxies.compare.rivals import ROLES
from alm_proxies.compare.strata import value_words
from alm_proxies.interval import Interval
from alm_proxies.printable import counted
from alm_proxies.report.charts import Calibration, Dots, Line, Series
from alm_proxies.report.drawing import ROLES as EVERY_ROLE
from alm_proxies.report.drawing import listed, number
from alm_proxies.report.findings import findings_table
from alm_proxies.report.page import Block, Cell, Chart, Column, Section, Table
from alm_proxies.tables import Finding

LOG_LOSS = Column("Log loss", 3, "Mean of −ln p(vote) over held-out votes, in nats. Lower is better.")
JSD = Column("JSD", 3, "Jensen-Shannon divergence, base 2, to the shares of the held-out votes. Lower is better.")
_FLOOR = Column(
    "JSD floor",
    3,
    "The JSD that the true distribution itself is expected to have against so few votes; where no truth is given, "
    "estimated from the held-out votes alone.",
)
_BRIER = Column("Brier", 3, "Mean squared distance to held-out votes, 0 to 2. Lower is better.")
_ECE = Column(
    "ECE",
    3,
    "Mean |probability − share of votes| of the top label, in 15 equal bins; too high for few utterances. The interval "
    "allows for that and is wide: it begins at 0 unless the error is clearly above that of a calibrated label.",
)
_R2 = Column("R²", 3, "Per label over utterances, averaged: 1 − residual / total.")
JUDGE_BY = (
    "Lower is better. Compare methods by the log loss: it is a proper score; JSD to few votes rewards over-confidence."
)


def roles_of(methods: Sequence[str]) -> dict[str, str]:
    """The role (colour and shape) of each method: its fixed role if it has one, otherwise the next free one."""
    fixed = {method: ROLES[method] for method in methods if method in ROLES}
    free = [role for role in EVERY_ROLE if role not in fixed.values()] or list(EVERY_ROLE)
    others = [method for method in methods if method not in fixed]
    return fixed | {method: free[place % len(free)] for place, method in enumerate(others)}


def held_out_section(comparison: Comparison, strata: Sequence[str], *, lead: str) -> Section:
    """The scores of every method, overall and by the given stratifications; `lead` introduces the methods."""
    blocks: list[Block] = [methods_table(comparison)]
    inside = {title: comparison.within.get(title, {}) for title in strata}
    if any(len(values) > 1 for values in inside.values()):
        title = f"Gain of each method over {comparison.baseline}"
        blocks += [gain_chart("strata", title, comparison, inside), strata_table(comparison, inside)]
    return Section("Against held-out votes", f"{lead} {JUDGE_BY}", tuple(blocks))


def calibration_section(comparison: Comparison, methods: Sequence[str], *, noun: str = "label") -> Section:
    """Calibration of the given methods and of their concentration; the first method is described in words."""
    blocks: list[Block] = [reliability_chart(comparison, methods)]
    lead = f"Whether a {noun} with a probability of 70 % gets 70 % of the held-out votes."
    if (chart := coverage_chart(comparison, methods)) is not None:
        blocks.append(chart)
        lead += (
            f" And whether the concentration, the strength of a {noun} in votes, gives intervals of the right width."
        )
    return Section("Can the confidence be trusted?", lead, tuple(blocks))


def findings_section(findings: Sequence[Finding]) -> Section | None:
    """The findings as a section; None if there are none."""
    if not findings:
        return None
    return Section("What was left out", "Everything that was left out or corrected.", (findings_table(findings),))


def methods_table(comparison: Comparison) -> Table:
    """The overall scores of every method."""
    rows: list[list[Cell]] = []
    for score in comparison.overall:
        measured = comparison.held_out[score.method]
        more = [measured.score("jsd_floor"), measured.score("brier"), measured.interval("ece")]
        more.append(measured.score("r2_over_utterances"))
        gain = score.gain.difference if score.gain is not None else None
        rows.append([score.method, score.nll.estimate, gain, score.jsd, *more])
    columns: list[str | Column] = ["Method", LOG_LOSS, _gain(comparison), JSD, _FLOOR, _BRIER, _ECE, _R2]
    return Table.of(columns, rows, _floor_of_some(comparison))


def _floor_of_some(comparison: Comparison) -> str:
    """What the floor is over, where that is not every utterance."""
    floor = comparison.held_out[comparison.baseline].per_utterance["jsd_floor"]
    if not (without := floor.null_count()):
        return ""
    known = counted(len(floor) - without, "utterance")
    return (
        f"The JSD floor is over {known} of {len(floor):,}: the others have fewer than two whole held-out votes, or no "
        "known truth."
    )


def strata_table(comparison: Comparison, inside: Mapping[str, Mapping[str, Sequence[Score]]]) -> Table:
    """The scores of every method within every stratum."""
    rows: list[list[Cell]] = []
    for title, values in inside.items():
        for value, scores in values.items():
            for score in scores:
                gain = score.gain.difference if score.gain is not None else None
                rows.append(
                    [f"{title}: {value_words(title, value)}", score.utterances, score.method, score.nll.estimate]
                )
                rows[-1] += [score.jsd.estimate, gain]
    caption = "All methods in all strata"
    columns: list[str | Column] = ["Stratum", "Utterances", "Method", LOG_LOSS, JSD, _gain(comparison)]
    return Table.of(columns, rows, caption, folded=True)


def gain_chart(
    name: str, title: str, comparison: Comparison, inside: Mapping[str, Mapping[str, Sequence[Score]]]
) -> Chart:
    """The log-loss difference of each method to the baseline, within strata or groups."""
    rows: list[str] = []
    columns: dict[str, list[Interval]] = {}
    headings: dict[int, str] = {}
    for stratum, values in inside.items():
        if values:
            headings[len(rows)] = stratum
        for value, scores in values.items():
            rows.append(value_words(stratum, value))
            for score in scores:
                if score.gain is not None:
                    columns.setdefault(score.method, []).append(score.gain.difference)
    baseline, roles = comparison.baseline, roles_of(comparison.methods)
    return Dots(
        name,
        title,
        f"log loss minus that of {baseline} (nats per vote; below zero is better)",
        rows,
        [Series(method, roles[method], columns[method]) for method in comparison.methods if method in columns],
        alt=f"Differences in log loss to {baseline}, {counted(len(rows), 'row')}; below zero is better.",
        note=f"95 % intervals over speakers, paired on the same votes.{_left_out(comparison, inside)}",
        reference=(baseline, 0.0),
        headings=headings,
        signed=True,
    )


def _left_out(comparison: Comparison, titles: Iterable[str]) -> str:
    """The strata of these stratifications that are too small to be shown, in a sentence; empty if there are none."""
    few = [
        f"{title}: {value_words(title, value)} ({counted(count, 'utterance')})"
        for title in titles
        for value, count in comparison.left_out.get(title, {}).items()
    ]
    return f" Left out, with fewer than {FEWEST} utterances: {listed(few, 'and')}." if few else ""


def reliability_chart(comparison: Comparison, methods: Sequence[str]) -> Chart:
    """Reliability diagram: the top label's probability against its share of held-out votes."""
    roles = roles_of(comparison.methods)
    lines = []
    for name in methods:
        bins = comparison.reliability[name]
        shares = Series(name, roles[name], [entry.share for entry in bins])
        lines.append(Line(shares, tuple(entry.confidence for entry in bins)))
    first = methods[0]
    error, bins = comparison.held_out[first].reliability.error, comparison.reliability[first]
    return Calibration(
        "reliability",
        "Probability of the top label against its share of held-out votes",
        "probability of the top label",
        "share of held-out votes for it",
        lines,
        alt=f"Reliability of the top label; expected calibration error of {_the(first)} {number(error)}.",
        note=(
            f"{counted(len(bins), 'bin')} of equal mass, "
            f"{counted(sum(entry.utterances for entry in bins), 'utterance')}; "
            "95 % intervals over speakers. Points below the diagonal are over-confident."
        ),
    )


def coverage_chart(comparison: Comparison, methods: Sequence[str]) -> Chart | None:
    """Nominal against actual coverage of the intervals from the concentration; None without a concentration."""
    first = comparison.held_out[methods[0]].concentration
    if first is None:
        return None
    levels, roles = tuple(first.coverage), roles_of(comparison.methods)
    checks = {name: comparison.held_out[name].concentration for name in methods}
    lines = [
        Line(Series.of(name, roles[name], list(check.coverage.values())), levels)
        for name, check in checks.items()
        if check is not None
    ]
    return Calibration(
        "coverage",
        "Intervals for the held-out votes of the top label: nominal and actual coverage",
        "nominal coverage",
        "share of utterances inside the interval",
        lines,
        alt=f"Coverage at {', '.join(f'{100 * level:.0f} %' for level in levels)}.",
        note=(
            f"Log score of all held-out votes of an utterance together {number(first.log_score)} nats a vote with the "
            f"concentration, {number(first.log_score_without)} with the shares taken as exact; lower is better. "
            f"{counted(first.utterances, 'utterance')}."
        ),
    )


def _gain(comparison: Comparison) -> Column:
    return Column(
        f"Minus {comparison.baseline}",
        3,
        "Log loss minus that of the baseline, paired on the same votes; below zero is better.",
        signed=True,
    )


def _the(method: str) -> str:
    return f"the {method}" if method in ROLES else method
