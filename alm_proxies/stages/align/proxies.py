"""Each proxy on its own: whether it counts, its gain, and its votes compared with human votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alm_proxies.ballots import Array
from alm_proxies.compare.comparison import FEWEST
from alm_proxies.compare.rivals import POOL, WEIGHTED
from alm_proxies.interval import Interval
from alm_proxies.measures.agreement import EqualVotes, equal_votes
from alm_proxies.measures.taken_off import taken_off
from alm_proxies.report.charts import Heat
from alm_proxies.report.drawing import listed, signed_number
from alm_proxies.report.page import Block, Cell, Column, Section, Table, Text
from alm_proxies.stages.align.agreement import OF_DISTRIBUTIONS
from alm_proxies.stages.align.prepared import Prepared
from alm_proxies.stages.align.shares import LabelShare, confusion_of, label_shares
from alm_proxies.tables import AnnotatorCard, Finding

_MOST = 6
"""Maximum number of proxies with their own confusion matrix on the page."""


@dataclass(frozen=True, slots=True, eq=False)
class ProxyAnnotator:
    """One proxy's votes compared with human votes on the same utterances; None if too few utterances have both."""

    name: str
    votes: int
    utterances: int
    why: str | None
    """Why it does not count in the labels; None if it does, or if the labels do not state it."""
    adds: Interval | None
    """By how much it lowers the cross-validated log loss in fuse; None if it was not tried on its own."""
    beside: str | None
    """The votes that it was tried in addition to."""
    shares: tuple[LabelShare, ...]
    confusion: Array | None
    equal: EqualVotes | None
    takes_off: Interval | None
    """The share of class shares' log loss that its votes alone take off, in human votes of these utterances."""

    @property
    def counts(self) -> bool:
        """Whether the labels use it."""
        return self.why is None


def proxies_of(prepared: Prepared, *, seed: int) -> tuple[ProxyAnnotator, ...]:
    """Each proxy compared with human votes, fitted and held out, on the same utterances; those that count first."""
    adds = {annotator: proxy for proxy in prepared.account.get("proxies", []) for annotator in proxy["annotators"]}
    people = prepared.people
    human = people.counts
    labels = prepared.material.labels
    speakers = prepared.material.speakers
    described = []
    for name, own in prepared.proxies.items():
        counts = own.counts
        both = (human.sum(1) > 0) & (counts.sum(1) > 0)
        enough = (people.tally.sizes >= 2) & (counts.sum(1) > 0)
        equal = None
        if enough.sum() >= FEWEST:
            equal = equal_votes(people.tally, own.tally, speakers, votes=1, seed=seed)
        gain = adds.get(name, {}).get("lowers_log_loss_by")
        described.append(
            ProxyAnnotator(
                name,
                len(own.ballots.rows),
                int((counts.sum(1) > 0).sum()),
                prepared.dropped.get(name),
                None if gain is None else Interval(_known(gain["value"]), _known(gain["low"]), _known(gain["high"])),
                adds.get(name, {}).get("beside"),
                label_shares(human, counts, both, labels, speakers, seed=seed) if both.any() else (),
                confusion_of(human[both], counts[both]) if both.any() else None,
                equal,
                taken_off(human, counts, speakers, whole=not own.ballots.shared, seed=seed)
                if both.sum() >= FEWEST
                else None,
            )
        )
    return tuple(sorted(described, key=lambda each: not each.counts))


def unlike_measured(proxy: ProxyAnnotator, card: AnnotatorCard | None) -> Finding | None:
    """A finding where a proxy takes less off class shares' log loss than where it was measured, beyond the interval."""
    if card is None or card.measured is None or proxy.takes_off is None:
        return None
    here, there = proxy.takes_off, card.measured
    if not (here.can_be_judged and here.high < there.takes_off):
        return None
    message = (
        f"takes {here.estimate:.0%} ({here.low:.0%} to {here.high:.0%}) off the log loss of class shares here, "
        f"{there.takes_off:.0%} where it was measured ({there.corpus})"
    )
    fix = "Rely on the figures of this report, not on its card; give it more human votes here, or leave it out."
    return Finding.of("proxy_unlike_measured", message, fix, where=proxy.name)


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


def each_proxy_section(proxies: Sequence[ProxyAnnotator], labels: Sequence[str]) -> Section | None:
    """Each proxy that counts on its own; None with fewer than two, which other sections already show."""
    counted = [proxy for proxy in proxies if proxy.counts]
    if len(counted) < 2:
        return None
    blocks: list[Block] = [_side_by_side(counted)]
    blocks += _confusions(counted, labels, "counts") if len(counted) <= _MOST else []
    lead = "Each proxy that counts, compared with human votes on the same utterances."
    return Section("Proxy by proxy", lead, tuple(blocks))


def dropped_section(
    proxies: Sequence[ProxyAnnotator], labels: Sequence[str], *, compared: bool = False
) -> Section | None:
    """The proxies that do not count in the labels, and why; `compared`: whether the labels are scored beside rivals."""
    left = [proxy for proxy in proxies if not proxy.counts]
    if not left:
        return None
    why = listed([f"{proxy.name} ({proxy.why})" for proxy in left], "and")
    lead = f"The labels do not use {why}."
    if any(proxy.counts for proxy in proxies):
        lead += " The other sections leave their votes out, but for the alternative annotator test"
        lead += f" and the methods {WEIGHTED} and {POOL}, which count all proxies." if compared else "."
    blocks: list[Block] = [_side_by_side(left)]
    blocks += _confusions(left, labels, "dropped") if len(left) <= _MOST else []
    return Section("Proxies that do not count", lead, tuple(blocks))


def _side_by_side(proxies: Sequence[ProxyAnnotator]) -> Table:
    rows: list[list[Cell]] = []
    for proxy in proxies:
        more = max(proxy.shares, key=lambda row: row.difference.estimate, default=None)
        less = min(proxy.shares, key=lambda row: row.difference.estimate, default=None)
        rows.append(
            [
                proxy.name,
                proxy.votes,
                proxy.utterances,
                None if proxy.equal is None else proxy.equal.agreement.human_human,
                None if proxy.equal is None else proxy.equal.agreement.human_proxy,
                proxy.takes_off,
                None if more is None else f"{more.label} ({_signed(more.difference.estimate)})",
                None if less is None else f"{less.label} ({_signed(less.difference.estimate)})",
            ]
        )
    columns = [
        Column("Proxy"),
        Column("Votes"),
        Column("Utterances"),
        Column("Two humans agree", 2, "The chance that two human votes agree, on the utterances of this proxy."),
        Column(
            "Human and proxy agree", 2, f"The chance that a human vote and one of this proxy agree. {OF_DISTRIBUTIONS}"
        ),
        Column(
            "Takes off class shares",
            2,
            "The share of class shares' log loss that its votes alone take off; below zero they are worse than those.",
            signed=True,
        ),
        Column("Used most above humans"),
        Column("Used most below humans"),
    ]
    return Table.of(columns, rows)


def _signed(value: float) -> str:
    return f"{signed_number(100 * value, 0)} points"


def _confusions(proxies: Sequence[ProxyAnnotator], labels: Sequence[str], kind: str) -> list[Block]:
    if all(proxy.confusion is None for proxy in proxies):
        return []
    words = "Each row gives the proxy's votes where a human votes for a label, in per cent, on one scale."
    charts = [
        Heat(
            f"confusion-{kind}-{place}", proxy.name, labels, labels, proxy.confusion, row_title="human",
            column_title="proxy", alt=f"Votes of {proxy.name} where humans vote for a label.",
        )
        for place, proxy in enumerate(proxies)
        if proxy.confusion is not None
    ]  # fmt: skip
    return [Text(words), *charts]
