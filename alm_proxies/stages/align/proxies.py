"""Each proxy on its own: whether it counts, its gain, and its votes compared with human votes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from alm_proxies.ballots import Array, Ballots
from alm_proxies.compare.comparison import FEWEST
from alm_proxies.compare.material import Material
from alm_proxies.estimators.counts import COLUMNS, Counts
from alm_proxies.files import canonical_json
from alm_proxies.interval import Interval
from alm_proxies.measures.agreement import EqualVotes, equal_votes
from alm_proxies.measures.bootstrap import interval_by_speaker
from alm_proxies.stages.align.side_by_side import LabelShare, confusion_of, label_shares, whole_votes
from alm_proxies.tables import AnnotatorCard, Finding, Labels

_LEAST = 1e-3  # smallest probability of a proxy's shares: a single vote costs at most 7 nats


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


def account_in(labels: Labels) -> dict[str, Any]:
    """The labels' account of their fit; empty if they have none."""
    maker = labels.about.made_by
    account: dict[str, Any] = {} if maker is None else json.loads(canonical_json(maker.fitted))  # as a file keeps it
    return account


def dropped_in(labels: Labels) -> dict[str, str]:
    """By annotator: the reason why its votes do not count in the labels."""
    return {
        annotator: proxy["why"]
        for proxy in account_in(labels).get("proxies", [])
        if not proxy["counts"]
        for annotator in proxy["annotators"]
    }


def that_count(proxy: Ballots, labels: Labels) -> Ballots:
    """The votes of the proxies that count in the labels; of all proxies if none does."""
    dropped = dropped_in(labels)
    kept = np.array([name not in dropped for name in proxy.names], dtype=np.bool_)
    if kept.all() or not kept.any():
        return proxy
    place = np.cumsum(kept) - 1
    some = proxy.where(kept[proxy.annotators])
    return Ballots(
        rows=some.rows,
        vectors=some.vectors,
        annotators=place[some.annotators].astype(np.int64),
        draws=some.draws,
        names=tuple(name for name, there in zip(proxy.names, kept, strict=True) if there),
        utterances=some.utterances,
    )


def without_dropped(counts: Counts, labels: Labels) -> Counts:
    """The counts with the proxies that count in the labels; all of them where none does."""
    dropped = set(dropped_in(labels))
    kept = [block.name for block in counts.blocks if not set(block.annotators) <= dropped]
    return counts.only((*kept, COLUMNS)) if kept else counts


def proxies_of(material: Material, everyone: Ballots, proxies: Ballots, *, seed: int) -> tuple[ProxyAnnotator, ...]:
    """Each proxy compared with human votes, fitted and held out, on the same utterances."""
    dropped = dropped_in(material.table)
    adds = {
        annotator: proxy for proxy in account_in(material.table).get("proxies", []) for annotator in proxy["annotators"]
    }
    human, people = everyone.counts(), whole_votes(everyone, seed)
    described = []
    for name in proxies.names:
        own = proxies.of(name)
        counts = own.counts()
        both = (human.sum(1) > 0) & (counts.sum(1) > 0)
        enough = (people.sum(1) >= 2) & (counts.sum(1) > 0)
        equal = None
        if enough.sum() >= FEWEST:
            equal = equal_votes(people, whole_votes(own, seed), material.speakers, votes=1, seed=seed)
        gain = adds.get(name, {}).get("lowers_log_loss_by")
        described.append(
            ProxyAnnotator(
                name,
                len(own.rows),
                int((counts.sum(1) > 0).sum()),
                dropped.get(name),
                None if gain is None else Interval(_known(gain["value"]), _known(gain["low"]), _known(gain["high"])),
                adds.get(name, {}).get("beside"),
                label_shares(human, counts, both, material, seed) if both.any() else (),
                confusion_of(human[both], counts[both]) if both.any() else None,
                equal,
                _takes_off(human, own, material, seed) if both.sum() >= FEWEST else None,
            )
        )
    return tuple(sorted(described, key=lambda each: not each.counts))


def unlike_measured(proxy: ProxyAnnotator, card: AnnotatorCard | None) -> Finding | None:
    """A finding where a proxy takes less off class shares' log loss than where it was measured, beyond the interval."""
    if card is None or card.measured is None or proxy.takes_off is None:
        return None
    here, there = proxy.takes_off, card.measured
    if not here.high < there.takes_off:
        return None
    message = (
        f"takes {here.estimate:.0%} ({here.low:.0%} to {here.high:.0%}) off the log loss of class shares here, "
        f"{there.takes_off:.0%} where it was measured ({there.corpus})"
    )
    fix = "Rely on the figures of this report, not on its card; give it more human votes here, or leave it out."
    return Finding.of("proxy_unlike_measured", message, fix, where=proxy.name)


def _takes_off(human: Array, own: Ballots, material: Material, seed: int) -> Interval:
    """1 - log loss of the proxy / log loss of class shares, per human vote; class shares are of the other speakers.

    Whole votes are smoothed by one vote of the class shares; scored and stated shares count as they are.
    """
    counts = own.counts()
    rows = np.flatnonzero((human.sum(1) > 0) & (counts.sum(1) > 0))
    speakers = np.arange(len(human)) if material.speakers is None else material.speakers
    _, who = np.unique(speakers, return_inverse=True)
    by_speaker = np.zeros((who.max() + 1, human.shape[1]))
    np.add.at(by_speaker, who, human)
    prior = (by_speaker.sum(0) - by_speaker)[who[rows]] + 1.0
    prior /= prior.sum(1, keepdims=True)
    votes = counts[rows] if own.shared else counts[rows] + prior
    shares = np.maximum(votes / votes.sum(1, keepdims=True), _LEAST)
    shares /= shares.sum(1, keepdims=True)
    of_prior, of_proxy = (-(human[rows] * np.log(given)).sum(1) for given in (prior, shares))
    names = None if material.speakers is None else material.speakers[rows]
    return interval_by_speaker(np.stack([of_prior - of_proxy, of_prior], axis=1), names, seed=seed)


def _known(value: float | None) -> float:
    return float("nan") if value is None else value
