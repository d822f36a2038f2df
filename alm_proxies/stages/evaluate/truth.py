"""The distance of every prediction to the true distributions of a simulated corpus, overall and within strata."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.compare.comparison import FEWEST, Comparison
from alm_proxies.compare.plain import plain
from alm_proxies.compare.strata import in_order, value_words
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import Paired, mean_by_speaker, paired_by_speaker
from alm_proxies.measures.held_out import TO_TRUTH
from alm_proxies.measures.ranges import range_of, range_of_difference
from alm_proxies.printable import counted
from alm_proxies.report.page import P_VALUE, Cell, Column, Section, Table

JSD, KLD = TO_TRUTH
_KLD = Column(
    "KLD, nats", 3, "Kullback-Leibler divergence: the cross-entropy of the prediction above the entropy of the truth."
)
_JSD = Column("JSD", 3, "Jensen-Shannon divergence, base 2, to the true distribution, which scores 0. Lower is better.")


def known_truth(comparison: Comparison) -> NDArray[np.bool_]:
    """The utterances of the test whose true distribution is given."""
    values = next(iter(comparison.held_out.values())).per_utterance
    if JSD not in values.columns:
        return np.zeros(len(comparison.test), dtype=np.bool_)
    return values[JSD].is_not_null().to_numpy()


def to_truth_metrics(comparison: Comparison) -> dict[str, Any] | None:
    """Both distances less those of the baseline, paired, by method, and both within strata; None without a truth."""
    rows = known_truth(comparison)
    if not rows.any():
        return None
    return {
        "utterances": int(rows.sum()),
        "methods": {name: _entry(comparison, name, rows) for name in comparison.methods},
        "within": {
            title: {
                value: {name: _entry(comparison, name, chosen) for name in comparison.methods}
                for value, chosen in values.items()
            }
            for title, values in _strata(comparison, rows).items()
        },
    }


def to_truth_section(comparison: Comparison) -> Section | None:
    """The distances to the simulated truth, overall and within strata; None without a truth."""
    rows = known_truth(comparison)
    if not rows.any():
        return None
    against = f"minus {comparison.baseline}"
    columns = [
        Column("Prediction"), _KLD, Column(f"KLD, {against}", signed=True), P_VALUE, _JSD,
        Column(f"JSD, {against}", signed=True),
    ]  # fmt: skip
    table = Table.of(columns, [[name, *_cells(comparison, name, rows)] for name in comparison.methods])
    within: list[list[Cell]] = [
        [f"{title}: {value_words(title, value)}", int(chosen.sum()), name, *_cells(comparison, name, chosen)]
        for title, values in _strata(comparison, rows).items()
        for value, chosen in values.items()
        for name in comparison.methods
    ]
    strata = Table.of(
        [Column("Stratum"), Column("Utterances"), *columns], within, "Distances to the truth in all strata", folded=True
    )
    lead = (
        f"The truth is simulated: the distribution that the listeners of {counted(rows.sum(), 'utterance')} were drawn "
        "from. It shows how near a prediction comes to what it estimates, without the chance of few votes; it is no "
        "evidence about people."
    )
    return Section("Distance to the simulated truth", lead, (table, strata) if within else (table,))


def _strata(comparison: Comparison, rows: NDArray[np.bool_]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    strata = {}
    for title, values in comparison.strata.items():
        chosen = {value: (values == value) & rows for value in in_order(values)}
        strata[title] = {value: mask for value, mask in chosen.items() if mask.sum() >= FEWEST}
    return strata


def _cells(comparison: Comparison, name: str, rows: NDArray[np.bool_]) -> list[Cell]:
    means = [_mean(comparison, name, measure, rows) for measure in (KLD, JSD)]
    kld, jsd = (_paired(comparison, name, measure, rows) for measure in (KLD, JSD))
    if kld is None or jsd is None:
        return [means[0], None, None, means[1], None]
    return [means[0], kld.difference, kld.p_value, means[1], jsd.difference]


def _entry(comparison: Comparison, name: str, rows: NDArray[np.bool_]) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for measure in TO_TRUTH:
        entry[measure] = plain(_mean(comparison, name, measure, rows))
        entry[f"{measure}_less_baseline"] = plain(_paired(comparison, name, measure, rows))
    return entry


def _mean(comparison: Comparison, name: str, measure: str, rows: NDArray[np.bool_]) -> Interval:
    return mean_by_speaker(
        _distances(comparison, name, measure)[rows], _speakers(comparison, rows), level=comparison.level,
        seed=comparison.seed, within=range_of(measure),
    )  # fmt: skip


def _paired(comparison: Comparison, name: str, measure: str, rows: NDArray[np.bool_]) -> Paired | None:
    if name == comparison.baseline:
        return None
    return paired_by_speaker(
        _distances(comparison, name, measure)[rows], _distances(comparison, comparison.baseline, measure)[rows],
        _speakers(comparison, rows), level=comparison.level, seed=comparison.seed, within=range_of_difference(measure),
    )  # fmt: skip


def _distances(comparison: Comparison, name: str, measure: str) -> NDArray[np.float64]:
    return comparison.held_out[name].per_utterance[measure].to_numpy()


def _speakers(comparison: Comparison, rows: NDArray[np.bool_]) -> NDArray[np.str_] | None:
    return None if comparison.test.speakers is None else comparison.test.speakers[rows]
