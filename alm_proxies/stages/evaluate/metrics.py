"""The metrics of an evaluation as plain JSON values; null if a value is unknown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from alm_proxies.compare.comparison import Comparison
from alm_proxies.compare.plain import plain
from alm_proxies.compare.strata import speaker_count
from alm_proxies.measures.hard_labels import UNDECIDED, WITH_TIES, decided
from alm_proxies.stages.evaluate.measured import Measured, Recovered, pairs_of


def metrics_of(measured: Measured) -> dict[str, Any]:
    """nll_per_vote in nats, jsd_base2 an utterance; less_baseline is method less baseline, below 0 it is better."""
    comparison = measured.comparison
    methods: dict[str, Any] = {}
    for score in comparison.overall:
        held_out = comparison.held_out[score.method]
        rest = {
            row["measure"]: plain({"value": row["estimate"], "low": row["low"], "high": row["high"]})
            for row in held_out.scores.filter(held_out.scores["by"] == "all").iter_rows(named=True)
            if row["measure"] not in ("nll_per_vote", "jsd_base2", "brier")
        }
        methods[score.method] = {
            "utterances": score.utterances,
            "nll_per_vote": plain(score.nll),
            "jsd_base2": plain(score.jsd),
            "brier": plain(score.brier),
            "less_baseline": plain(score.gain),
            **rest,
            **{
                f"{measure}_less_baseline": plain(measured.less_baseline(score.method, measure))
                for measure in WITH_TIES
            },
            **_recovered(measured.recovered[score.method]),
        }
    names = {f"{first} less {second}": (first, second) for first, second in pairs_of(comparison)}
    pairs = {name: plain(comparison.paired(*pair)) for name, pair in names.items()}
    within = {
        title: {
            value: {
                score.method: {"nll_per_vote": plain(score.nll), "less_baseline": plain(score.gain)} for score in scores
            }
            for value, scores in values.items()
        }
        for title, values in comparison.within.items()
    }
    halved = {
        by: {
            third: {
                name: {"nll_per_vote": plain(nll), "less_baseline": plain(gain)}
                for name, (nll, gain) in methods_of.items()
            }
            for third, methods_of in within_thirds.items()
        }
        for by, within_thirds in measured.halved.scores.items()
    }
    conditions = {
        plain_name: {condition: plain(comparison.paired(name, plain_name)) for condition, name in recovered.items()}
        for plain_name, recovered in measured.conditions.items()
    }
    test = comparison.test
    speakers, of_unknown = speaker_count(test.speakers, test.has_speaker)
    return {
        "labels": list(measured.labels),
        "baseline": comparison.baseline,
        "utterances": len(comparison.test),
        "speakers": speakers or None,
        "utterances_of_unknown_speakers": of_unknown,
        "held_out_votes": float(comparison.test.counts.sum()),
        "utterances_without_tie": utterances_without_tie(comparison),
        "utterances_without_label": measured.without_label,
        "left_out": measured.left_out,
        "methods": methods,
        "pairs": pairs,
        "pairs_with_ties": {name: plain(measured.with_ties[pair]) for name, pair in names.items()},
        "conditions_less_as_recorded": conditions,
        "within": within,
        "within_thirds_by_what_cuts": halved,
    }


def utterances_without_tie(comparison: Comparison) -> int:
    """The number of utterances with one most voted label: those of accuracy, macro-F1 and UAR."""
    return int((decided(comparison.test.counts) != UNDECIDED).sum())


def _recovered(recovered: Recovered) -> dict[str, Any]:
    ambiguity = recovered.ambiguity
    return {
        "dirichlet_multinomial_nll": plain(recovered.strength),
        "ambiguity": None
        if ambiguity is None
        else {
            "correlation": plain(ambiguity.correlation),
            "rank_correlation": plain(ambiguity.rank_correlation),
            "ceiling": plain(ambiguity.ceiling),
            "rank_ceiling": plain(ambiguity.rank_ceiling),
            "slope": plain(ambiguity.slope),
            "bias": plain(ambiguity.bias),
            "utterances": ambiguity.utterances,
        },
        "recall_over_votes": plain(recovered.recall_over_votes),
        "minor_recall": plain(recovered.minor_recall),
        "risk_coverage": asdict(recovered.risk),
        "confusion_of_shares": [[plain(value) for value in row] for row in recovered.confusion.tolist()],
    }
