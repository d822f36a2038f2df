"""How often humans and proxies vote for each label: shares, confusion, the whole corpus, and the simplex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_proxies.ballots import Array
from alm_proxies.compare.comparison import FEWEST
from alm_proxies.compare.strata import Words
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import IT_TAKES, mean_by_speaker
from alm_proxies.measures.class_shares import ClassShares, class_shares
from alm_proxies.measures.ranges import DIFFERENCE, SHARE
from alm_proxies.printable import counted
from alm_proxies.report.charts import Bars, Heat, Series
from alm_proxies.report.drawing import listed, number
from alm_proxies.report.page import Block, Cell, Chart, Column, Section, Table, Text
from alm_proxies.report.simplex import Cloud, Simplex
from alm_proxies.stages.align.prepared import Prepared

MOST_POINTS = 1000


@dataclass(frozen=True, slots=True)
class LabelShare:
    """The share of a label among human and proxy votes on the same utterances, and their correlation."""

    label: str
    human: Interval
    proxy: Interval
    difference: Interval
    correlation: float


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Label shares over the utterances with both kinds of votes, or over those with human votes if there are none."""

    labels: tuple[LabelShare, ...]
    confusion: Array | None
    """Rows are human labels, columns proxy labels; None without utterances that have both."""
    corpus: ClassShares | None
    """Shares in the whole corpus; None if too few utterances have proxy votes only."""


def shares_of(prepared: Prepared, *, seed: int) -> Shares:
    """The shares of the labels among all human votes and those of the proxies that count."""
    human = prepared.people.counts
    proxy = prepared.proxy.counts
    both = prepared.both
    labels = prepared.material.labels
    speakers = prepared.material.speakers
    rows = both if both.any() else human.sum(1) > 0
    return Shares(
        labels=label_shares(human, proxy, rows, labels, speakers, seed=seed),
        confusion=confusion_of(human[both], proxy[both]) if both.any() else None,
        corpus=_corpus_shares(human, proxy, speakers),
    )


def label_shares(
    human: Array, proxy: Array, rows: NDArray[np.bool_], labels: Sequence[str], speakers: Words | None, *, seed: int
) -> tuple[LabelShare, ...]:
    """Shares of the labels over some utterances, every utterance the same weight."""
    names = None if speakers is None else speakers[rows]
    h = human[rows] / np.maximum(human[rows].sum(1, keepdims=True), 1e-300)
    p = proxy[rows] / np.maximum(proxy[rows].sum(1, keepdims=True), 1e-300)
    shares = []
    for j, label in enumerate(labels):
        sides = (h[:, j], p[:, j], p[:, j] - h[:, j])
        ranges = (SHARE, SHARE, DIFFERENCE)
        intervals = [
            mean_by_speaker(side, names, seed=seed, within=within) for side, within in zip(sides, ranges, strict=True)
        ]
        varies = len(h) > 2 and h[:, j].std() > 1e-12 and p[:, j].std() > 1e-12
        correlation = float(np.corrcoef(h[:, j], p[:, j])[0, 1]) if varies else float("nan")
        shares.append(LabelShare(label, intervals[0], intervals[1], intervals[2], correlation))
    return tuple(shares)


def confusion_of(human: Array, proxy: Array) -> Array:
    """Confusion of proxy votes with human votes: rows are human labels, sum_i h_i(a) p_i(b) / sum_i h_i(a)."""
    h, p = human / human.sum(1, keepdims=True), proxy / proxy.sum(1, keepdims=True)
    mass = h.sum(0)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        table: Array = np.where(mass > 1e-9, h.T @ p / np.where(mass > 0, mass, 1.0), np.nan)
    return table


def _corpus_shares(human: Array, proxy: Array, speakers: Words | None) -> ClassShares | None:
    voted, by_proxy = human.sum(1) > 0, proxy.sum(1) > 0
    here, there = voted & by_proxy, by_proxy & ~voted
    if here.sum() < FEWEST or there.sum() < FEWEST:
        return None
    shares = proxy / np.maximum(proxy.sum(1, keepdims=True), 1e-300)
    return class_shares(
        human[here] / human[here].sum(1, keepdims=True),
        shares[here],
        shares[there],
        speakers=None if speakers is None else speakers[here],
        speakers_elsewhere=None if speakers is None else speakers[there],
    )


def shares_section(shares: Shares, labels: Sequence[str], notes: Sequence[str]) -> Section:
    """How common each label is among human and proxy votes; `notes` are sentences at the end."""
    if all(math.isnan(row.human.estimate) for row in shares.labels):
        none = "No utterance has a human vote."
        return Section("Label frequencies", none, tuple(Text(words) for words in notes))
    chart = _shares_chart(shares)
    if shares.confusion is None:
        return Section("Label frequencies", "The frequency of each label among the human votes.", (chart,))
    apart = [row for row in shares.labels if _differs(row.difference)]
    apart.sort(key=lambda row: -abs(row.difference.estimate))
    more = [row.label for row in apart if row.difference.estimate > 0]
    less = [row.label for row in apart if row.difference.estimate < 0]
    parts = [f"{listed(more)} more often than humans" if more else ""]
    parts += [f"{listed(less)} less often{'' if more else ' than humans'}" if less else ""]
    differences = ", ".join(part for part in parts if part)
    if not any(row.difference.can_be_judged for row in shares.labels):
        lead = f"Too few speakers to judge whether proxies over- or under-use a label; {IT_TAKES}."
    else:
        none = "No label is clearly over- or under-used by proxies."
        lead = f"On the same utterances proxies say {differences}." if differences else none
    blocks: list[Block] = [chart, _confusion_chart(shares.confusion, labels)]
    blocks.append(Text(_corpus_words(shares.corpus)))
    if shares.corpus is not None:
        blocks.append(_corpus_table(shares.corpus, labels))
    blocks += [Text(words) for words in notes]
    return Section("Proxy votes compared with human votes", lead, tuple(blocks))


def _differs(difference: Interval) -> bool:
    """Whether the difference is judged not to be 0, and is not 0.000 in the table beside the sentence."""
    return (difference.is_above_zero or difference.is_below_zero) and round(difference.estimate, 3) != 0


def _shares_chart(shares: Shares) -> Chart:
    rows = [row.label for row in shares.labels]
    series = [Series("human votes", "human", [row.human for row in shares.labels])]
    if shares.confusion is not None:
        series.append(Series("proxy votes", "proxy", [row.proxy for row in shares.labels]))
    most = max(shares.labels, key=lambda row: row.human.estimate).label
    alt = f"Share of votes by label; humans say {most} most often."
    title = "How common each label is" + (", on the utterances both voted on" if len(series) > 1 else "")
    note = "All utterances have equal weight. " + _correlations(shares.labels) if len(series) > 1 else ""
    table = _shares_table(shares.labels) if len(series) > 1 else None
    return Bars("shares", title, "mean share of votes", rows, series, alt=alt, note=note, numbers=table)


def _correlations(shares: Sequence[LabelShare]) -> str:
    known = [row for row in shares if not math.isnan(row.correlation)]
    if not known:
        return ""
    best, worst = max(known, key=lambda row: row.correlation), min(known, key=lambda row: row.correlation)
    return (
        f"Over utterances both shares go together best for {best.label} (r = {number(best.correlation, 2)}) "
        f"and least for {worst.label} ({number(worst.correlation, 2)})."
    )


def _shares_table(shares: Sequence[LabelShare]) -> Table:
    rows: list[list[Cell]] = [[row.label, row.human, row.proxy, row.difference, row.correlation] for row in shares]
    together = Column("Correlation", 2, "Of the label's human and proxy shares over utterances.")
    return Table.of(["Label", "Human", "Proxy", Column("Proxy − human", signed=True), together], rows)


def _confusion_chart(table: Array, labels: Sequence[str]) -> Chart:
    same = float(np.nanmean(np.diag(table)))
    return Heat(
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


def _corpus_words(shares: ClassShares | None) -> str:
    """The effect of proxies on the label shares in the corpus."""
    if shares is None:
        return (
            "Proxies can narrow the intervals of the labels' shares in the whole corpus (PPI++) where other utterances "
            "have proxy votes only. Here too few have: the weight of the proxies is 0, and only human votes count."
        )
    alone = float(np.subtract(shares.human_high, shares.human_low).sum())
    if math.isnan(alone):
        return (
            "Proxies can narrow the intervals of the labels' shares in the whole corpus (PPI++). Here too few speakers "
            "have human votes for an interval, so that only the shares are given."
        )
    narrower = 100 * (1 - float(np.subtract(shares.high, shares.low).sum()) / alone) if alone > 0 else 0.0
    change = f"narrower by {number(narrower, 0)} %" if narrower > 0.5 else "no narrower"
    return (
        f"In the whole corpus proxies make the intervals of the labels' shares {change} (PPI++, mean weight of the "
        f"proxies {number(float(np.mean(shares.proxy_weight)), 2)}). This holds for any proxies, if the "
        "utterances with human votes are like those without."
    )


def _corpus_table(shares: ClassShares, labels: Sequence[str]) -> Table:
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
        f"Shares of the labels in the corpus: {counted(shares.with_human, 'utterance')} with human votes, "
        f"{shares.without_human:,} with proxy votes only"
    )
    return Table.of(columns, rows, caption)


def simplex_section(prepared: Prepared) -> Section | None:
    """Human, proxy and fused distributions as points of the simplex; None where no utterance has all of them."""
    material = prepared.material
    human = prepared.fit.counts + prepared.held_out
    proxy = prepared.proxy.counts
    has_proxies = len(prepared.proxy.ballots.rows) > 0
    there = (human.sum(1) > 0) & ((proxy.sum(1) > 0) | (not has_proxies))
    rows = np.flatnonzero(there)
    if not len(rows):
        return None
    if len(rows) > MOST_POINTS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_POINTS).astype(np.int64)]
    clouds = [Cloud("human votes", "human", human[rows] / human[rows].sum(1, keepdims=True))]
    if has_proxies:
        clouds.append(Cloud("proxy votes", "proxy", proxy[rows] / proxy[rows].sum(1, keepdims=True)))
    clouds.append(Cloud("fused labels", "fused", material.fused[rows]))
    chart = Simplex(
        "simplex",
        "Every utterance between the labels",
        material.labels,
        clouds,
        alt=f"{counted(len(rows), 'utterance')} as points between {counted(len(material.labels), 'label')}, "
        "for each source.",
        note="With more than three labels, different distributions can share a point: this is only an illustration.",
    )
    lead = (
        "Each point is an utterance: the nearer to a corner, the larger the share of that label. Large marks are means."
    )
    return Section("Distributions in the simplex", lead, (chart,))
