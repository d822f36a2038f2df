"""The charts of the alignment report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from alm_proxies.compare.rivals import ALONE, FUSED
from alm_proxies.compare.sections import series_of
from alm_proxies.compare.worth import Learning
from alm_proxies.report.charts import Line, bars, curves, dots, heat
from alm_proxies.report.drawing import number
from alm_proxies.report.page import Chart
from alm_proxies.report.simplex import Cloud, simplex
from alm_proxies.stages.align.curves import Curve, StratumTrust
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.tables import shares_table
from alm_proxies.stages.align.variance import Variance

MOST_POINTS = 1000
_ROLES_OF_PROXIES = ("proxy", "extra", "weighted", "pool", "other")


def learning_chart(results: Results, learned: Learning) -> Chart:
    """Log loss over the number of human votes, alone and with proxies."""
    at = tuple(float(k) for k in learned.at)
    lines = [Line(series_of(ALONE, "human-only", learned.human), at)]
    if learned.with_proxies:
        lines.append(Line(series_of("with proxies, refitted", "proxy", learned.with_proxies), at))
    lines.append(Line(series_of(FUSED, "fused", [learned.fused]), (float(learned.given),)))
    alone = dict(zip(learned.at, learned.human, strict=True)).get(learned.given)
    alt = f"Log loss falls with the number of human votes; fused labels reach {number(learned.fused.estimate)}"
    alt += f" where {learned.given} human votes alone reach {number(alone.estimate)}." if alone else "."
    note = (
        f"{learned.utterances:,} utterances with {learned.given} votes in the fit. Beyond {learned.given} votes the "
        "others are further held-out votes, which no fit of the same draw has used."
    )
    reference = [(f"{FUSED}:", "fused", learned.fused.estimate)] if results.uses_proxies else []
    return curves(
        "learning",
        f"Log loss of the same held-out votes of {learned.utterances:,} utterances, by the number of human votes known",
        "human votes of the utterance",
        "log loss per held-out vote (nats)",
        lines,
        alt=alt,
        note=note,
        references=reference,
    )


def shares_chart(results: Results) -> Chart:
    """The frequency of each label among human and proxy votes."""
    rows = [row.label for row in results.shares]
    series = [series_of("human votes", "human", [row.human for row in results.shares])]
    if results.confusion is not None:
        series.append(series_of("proxy votes", "proxy", [row.proxy for row in results.shares]))
    most = max(results.shares, key=lambda row: row.human.estimate).label
    alt = f"Share of votes by label; humans say {most} most often."
    title = "How common each label is" + (", on the utterances both voted on" if len(series) > 1 else "")
    note = "All utterances have equal weight. " + _apart(results) if len(series) > 1 else ""
    chart = bars("shares", title, "mean share of votes", rows, series, alt=alt, note=note)
    return replace(chart, table=shares_table(results)) if len(series) > 1 else chart


def _apart(results: Results) -> str:
    known = [row for row in results.shares if not math.isnan(row.correlation)]
    if not known:
        return ""
    best, worst = max(known, key=lambda row: row.correlation), min(known, key=lambda row: row.correlation)
    return (
        f"Over utterances both shares go together best for {best.label} (r = {number(best.correlation, 2)}) "
        f"and least for {worst.label} ({number(worst.correlation, 2)})."
    )


def confusion_chart(results: Results) -> Chart:
    """Confusion of proxy votes with human votes."""
    table = results.confusion if results.confusion is not None else np.zeros((0, 0))
    labels = results.material.labels
    same = float(np.nanmean(np.diag(table)))
    return heat(
        "confusion",
        "Proxy votes given a human vote, in per cent",
        labels,
        labels,
        table,
        row_title="human",
        column_title="proxy",
        alt=f"Row by row the proxy votes given a human vote; the same label {100 * same:.0f} % on average.",
        note="Every human vote is paired with every proxy vote of its utterance; rows sum to 100.",
    )


def agreement_chart(results: Results) -> Chart:
    """Agreement among humans and of humans with proxies at equal numbers of votes, overall and within groups."""
    if results.equal is None:
        raise ValueError("humans and proxies share no utterance")
    rows, pairs, headings = ["all utterances"], [results.equal], {}
    for title, values in results.equal_within.items():
        headings[len(rows)] = title
        rows += values
        pairs += values.values()
    series = [
        series_of("human and human", "human", [pair.agreement.human_human for pair in pairs]),
        series_of("human and proxy", "proxy", [pair.agreement.human_proxy for pair in pairs]),
    ]
    return dots(
        "agreement",
        "How often two votes for one utterance agree",
        "chance that two votes agree",
        rows,
        series,
        alt="Chance that two human votes agree against that of a human and a proxy vote, overall and by group.",
        headings=headings,
    )


def saturation_chart(results: Results, target: str) -> Chart:
    """Divergence over the number of votes, with the fitted exponential."""
    shown = {name: curve for name, curve in results.curves.items() if name != "human votes"}
    lines = [
        Line(series_of(name, role, curve.values), tuple(map(float, curve.at)), _fitted(curve))
        for (name, curve), role in zip(shown.items(), _ROLES_OF_PROXIES, strict=False)
    ]
    if (human := results.curves.get("human votes")) is not None:
        lines.append(Line(series_of("human votes of the fit", "human", human.values), tuple(map(float, human.at))))
    curve = shown["all proxies"]
    stop, alt, note = None, "Divergence by the number of proxy votes.", ""
    if curve.fit is not None:
        alt = f"Divergence falls from {number(curve.values[0].estimate)} towards {number(curve.fit.a)}."
        note = (
            f"Dotted: {number(curve.fit.a)} + {number(-curve.fit.b)} exp(−{number(curve.fit.c, 2)} n) for all proxies, "
            f"with residuals of {number(curve.fit.spread, 4)} (root mean square)."
        )
        if curve.fit.saturation is not None:
            stop = (f"90 % of the fall at {curve.fit.saturation}", float(curve.fit.saturation))
    return curves(
        "saturation",
        f"Divergence of n votes from the {target}",
        "votes per utterance",
        f"JSD to {target} (base 2)",
        lines,
        alt=alt,
        note=note,
        stop=stop,
    )


def _fitted(curve: Curve) -> tuple[tuple[float, float], ...]:
    if curve.fit is None:
        return ()
    at = np.linspace(curve.at[0], curve.at[-1], 80)
    return tuple(zip(at.tolist(), curve.fit(at).tolist(), strict=True))


def variance_chart(variance: Variance) -> Chart:
    """The variance components of a proxy vote."""
    rows = [component.name for component in variance.components]
    series = [series_of("share of the variance", "proxy", [component.share for component in variance.components])]
    largest = max(variance.components, key=lambda component: component.share.estimate).name
    return bars(
        "variance",
        "Sources of differences between proxy votes",
        "share of the variance",
        rows,
        series,
        alt=f"Shares of the variance of proxy votes; the largest is {largest}.",
        note=(
            f"Random-effects components from pairs of votes, {variance.utterances:,} utterances; two proxy votes for "
            f"different utterances differ with probability {number(variance.total, 2)}. Negative shares mean zero."
        ),
    )


def trust_chart(trust: Sequence[StratumTrust]) -> Chart:
    """Agreement of thirds of ambiguity with those of the held-out votes."""
    series = [series_of("same third as the held-out votes", "human", [stratum.agreement for stratum in trust])]
    return dots(
        "trust",
        "Agreement of the third of ambiguity with that of the held-out votes",
        "share of utterances",
        [stratum.name for stratum in trust],
        series,
        alt="; ".join(f"{stratum.name}: {100 * stratum.agreement.estimate:.0f} %" for stratum in trust)
        + "; chance 33 %.",
        reference=("chance", 1 / 3),
    )


def simplex_chart(results: Results) -> Chart:
    """Human, proxy and fused distributions as points of the simplex."""
    material = results.material
    human = material.human.counts() + material.held_out.counts()
    proxy = material.proxy.counts()
    there = (human.sum(1) > 0) & ((proxy.sum(1) > 0) | (not results.has_proxies))
    rows = np.flatnonzero(there)
    if len(rows) > MOST_POINTS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_POINTS).astype(np.int64)]
    clouds = [Cloud("human votes", "human", human[rows] / human[rows].sum(1, keepdims=True))]
    if results.has_proxies:
        clouds.append(Cloud("proxy votes", "proxy", proxy[rows] / proxy[rows].sum(1, keepdims=True)))
    clouds.append(Cloud("fused labels", "fused", material.fused[rows]))
    return simplex(
        "simplex",
        "Every utterance between the labels",
        material.labels,
        clouds,
        alt=f"{len(rows)} utterances as points between {len(material.labels)} labels, for each source.",
        note="With more than three labels, different distributions can share a point: this is only an illustration.",
    )
