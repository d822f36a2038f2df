"""The fused labels and their rivals, scored against held-out votes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from alm_proxies.compare.ambiguity import Halved, Recovered, halved_of, recovered_of, rows_of
from alm_proxies.compare.comparison import Comparison, compare
from alm_proxies.compare.rivals import ALONE, AUTO_ALONE, FUSED, PLAIN, Alone, alone_of, rivals
from alm_proxies.compare.strata import strata_of
from alm_proxies.compare.worth import Learning, learning
from alm_proxies.interval import Interval
from alm_proxies.stages.align.prepared import Prepared
from alm_proxies.tables import Utterances


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of the labels and of every rival, and what their votes are worth."""

    comparison: Comparison
    learning: Learning | None
    """None if too few utterances have as many votes."""
    recovered: dict[str, Recovered]
    """By method: whether strength and ambiguity are right."""
    halved: Halved
    behind: dict[str, Interval]
    """By rival: its log loss minus that of the labels; below zero it is better."""
    jsd_gain: Interval
    """JSD (base 2) of the labels minus that of human votes alone."""
    alone: Alone
    """What human votes alone are."""

    @property
    def better_alone(self) -> str | None:
        """The method that does better on human votes alone than that of the labels; None if none does.

        It is one that is significantly better, or that leaves the labels no significant gain; by .001 nats or more, as
        the page shows no smaller difference.
        """
        scores = self.comparison
        others = [name for name in (PLAIN, AUTO_ALONE) if name in scores.methods]
        best = min(others, key=lambda name: scores.of(name).nll.estimate)
        if round(scores.of(best).nll.estimate - scores.of(ALONE).nll.estimate, 3) >= 0:
            return None
        clearly = scores.paired(best, ALONE).difference.is_below_zero
        behind = self.behind[best]
        return best if clearly or (behind.can_be_judged and not behind.is_above_zero) else None


def scored_of(prepared: Prepared, utterances: Utterances, *, consensus: bool, seed: int) -> Scored | None:
    """The scores against held-out votes; None without any, or without human votes to fit the rivals to."""
    material = prepared.material
    counts = prepared.counts
    if not (prepared.held_out.any() and counts.human.any()):
        return None
    alone = alone_of(counts, prepared.votes, material.table, seed=seed)
    methods = rivals(counts, material.table, alone, seed=seed)
    strata = strata_of(prepared.fit.counts, material.fused, material.labels, material.table.cuts)
    comparison = compare(
        methods,
        prepared.votes,
        utterances,
        baseline=ALONE,
        strata=pl.DataFrame({"utterance_id": material.ids, **strata, **material.groups}),
        before=methods[FUSED],
        reliability_of=(FUSED, ALONE),
        consensus=consensus,
        seed=seed,
    )
    learned = learning(material, prepared.counted, seed=seed)
    rows = {name: rows_of(labels, comparison.test.ids) for name, labels in methods.items()}
    there = np.searchsorted(material.ids, comparison.test.ids)
    return Scored(
        comparison=comparison,
        learning=learned,
        recovered={name: recovered_of(*rows[name], comparison) for name in methods},
        halved=halved_of({name: shares for name, (shares, _) in rows.items()}, comparison, prepared.fit.counts[there]),
        behind=comparison.against(FUSED),
        jsd_gain=comparison.paired(FUSED, ALONE, "jsd_base2").difference,
        alone=alone,
    )
