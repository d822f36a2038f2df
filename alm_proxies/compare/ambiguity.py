"""Calibration of strength and ambiguity of every method, and strata formed by votes that are not scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import Array
from alm_proxies.compare.comparison import FEWEST, Comparison
from alm_proxies.compare.sections import LOG_LOSS, roles_of
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.measures.calibration import thirds
from alm_proxies.measures.ranges import range_of
from alm_proxies.measures.recovered import Ambiguity, ambiguity, dirichlet_multinomial, halves, pair_disagreement
from alm_proxies.printable import counted
from alm_proxies.report.charts import Dots, Series
from alm_proxies.report.drawing import listed
from alm_proxies.report.page import Cell, Column, Section, Table
from alm_proxies.seeds import generator
from alm_proxies.tables import Labels

THIRDS = ("clear", "between", "ambiguous")
OTHERS, FIT = "held-out votes that are not scored", "votes of the fit"
"""The votes that form thirds of ambiguity."""
_OPEN = 12
"""A table with more rows than this is folded."""
Thirds = dict[str, dict[str, tuple[Interval, Interval | None]]]
"""By third, by method: log loss, and its difference to the baseline."""


@dataclass(frozen=True, slots=True)
class Halved:
    """Scores within thirds of ambiguity, by what cuts them."""

    scores: dict[str, Thirds]
    left_out: dict[str, dict[str, int]]
    """By what cuts, by third: the number of utterances of each third that is too small for scores."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Measures of one method other than its mean log loss."""

    strength: Interval | None
    """Dirichlet-multinomial log loss in nats per vote; None without a concentration."""
    ambiguity: Ambiguity | None
    """None where too few utterances have two held-out votes."""


def rows_of(labels: Labels, ids: Sequence[str] | NDArray[np.str_]) -> tuple[Array, Array]:
    """Distributions and concentrations (NaN where not known) of some utterances, in their order."""
    frame = pl.DataFrame({"utterance_id": list(map(str, ids))})
    frame = frame.join(labels.frame, on="utterance_id", how="left", maintain_order="left")
    shares = frame.select(f"p_{label}" for label in labels.taxonomy).to_numpy().astype(np.float64)
    return shares, frame["concentration"].cast(pl.Float64).fill_null(np.nan).to_numpy()


def recovered_of(shares: Array, strength: Array, comparison: Comparison) -> Recovered:
    """Measure the calibration of a method's strength and ambiguity, on the compared utterances."""
    counts, speakers = comparison.test.counts, comparison.test.speakers
    loss = dirichlet_multinomial(comparison.test.whole, shares, strength)
    known = np.isfinite(loss)
    likelihood = None
    if known.any():
        who = None if speakers is None else speakers[known]
        likelihood = mean_by_speaker(loss[known], who, weights=counts.sum(1)[known], seed=comparison.seed)
    squares = comparison.test.squares
    return Recovered(likelihood, ambiguity(counts, shares, speakers, squares=squares, seed=comparison.seed))


def halved_of(shares: Mapping[str, Array], comparison: Comparison, fitted: Array | None = None) -> Halved:
    """Log loss within thirds of ambiguity, formed by votes that are neither fitted nor scored.

    Each utterance's held-out votes are dealt into two halves; one cuts and the other is scored, both ways. A third cut
    by the votes that are scored favours confident predictions. `fitted` are the human votes of the fit of the same
    utterances: thirds cut by them are given beside the others.
    """
    counts, seed = comparison.test.counts, comparison.seed
    unweighted = np.abs(counts - np.round(counts)).max(1, initial=0.0) < 1e-9
    enough = unweighted & (counts.sum(1) >= 4 - 1e-9)
    parts: dict[str, tuple[Array, Array, NDArray[np.int64]]] = {}  # votes that cut, votes that are scored, utterances
    if enough.sum() >= FEWEST * len(THIRDS):
        first, second = halves(counts[enough], generator(seed, "strata by half of the held-out votes"))
        both_ways = np.tile(np.flatnonzero(enough), 2)
        parts[OTHERS] = np.concatenate([first, second]), np.concatenate([second, first]), both_ways
    cut = np.zeros(len(counts), dtype=np.bool_) if fitted is None else fitted.sum(1) >= 2 - 1e-9
    if fitted is not None and cut.sum() >= FEWEST * len(THIRDS):
        parts[FIT] = fitted[cut], counts[cut], np.flatnonzero(cut)
    speakers = comparison.test.speakers
    people = np.arange(len(counts)).astype(np.str_) if speakers is None else speakers
    scores, few = {}, {}
    for by, (cuts, scored, rows) in parts.items():
        level = _thirds(cuts)
        predicted = {name: values[rows] for name, values in shares.items()}
        if within := _within(level, scored, predicted, rows, people[rows], comparison):
            scores[by] = within
            sizes = {third: len(np.unique(rows[level == place])) for place, third in enumerate(THIRDS)}
            few[by] = {third: size for third, size in sizes.items() if size and third not in within}
    return Halved(scores, few)


def strength_section(recovered: Mapping[str, Recovered], constant: Sequence[str] = ()) -> Section | None:
    """Ambiguity and strength of every method; constant predictions have no correlation."""
    rows: list[list[Cell]] = []
    for name, recovery in recovered.items():
        measured = recovery.ambiguity
        if measured is None:
            continue
        varies = name not in constant
        rows.append(
            [
                name, measured.rank_correlation if varies else None, measured.rank_ceiling,
                measured.correlation if varies else None, measured.ceiling,
                measured.slope if varies else None, measured.bias, recovery.strength,
            ]
        )  # fmt: skip
    if not rows:
        return None
    columns = [
        Column("Prediction"),
        Column("Rank correlation", 2, "Spearman's, of predicted and observed disagreement."),
        Column(
            "Ceiling of ranks", 2, "The rank correlation of the true distribution with so few votes, by simulation."
        ),
        Column("Correlation", 2, "Pearson's."),
        Column("Ceiling", 2, "The correlation of the true distribution with so few votes."),
        Column("Slope", 2, "Slope of observed on predicted disagreement; 1 is calibrated."),
        Column(
            "Bias", 3, "Predicted minus observed disagreement; above 0 the predictions are too ambiguous.", signed=True
        ),
        Column("Strength, nats per vote", 3, "Dirichlet-multinomial log loss of held-out counts; lower is better."),
    ]
    lead = "Predicted disagreement, 1 − Σp², against the share of held-out vote pairs that differ."
    return Section("Is ambiguity recovered?", lead, (Table.of(columns, rows),))


def halved_section(halved: Halved, comparison: Comparison) -> Section | None:
    """Clear and ambiguous utterances, formed by votes that are not scored."""
    if not halved.scores:
        return None
    roles = roles_of(comparison.methods)
    others = [name for name in comparison.methods if name != comparison.baseline]
    rows: list[str] = []
    headings: dict[int, str] = {}
    gains: dict[str, list[Interval]] = {name: [] for name in others}
    cells: list[list[Cell]] = []
    for by, within in halved.scores.items():
        headings[len(rows)] = f"formed by {by}"
        for third, methods in within.items():
            rows.append(third)
            for name, (_, gain) in methods.items():
                if gain is not None:
                    gains[name].append(gain)
            cells += [[by, third, name, nll, gain] for name, (nll, gain) in methods.items()]
    title = f"Log loss minus that of {comparison.baseline}, by ambiguity"
    chart = Dots(
        "halved", title, "nats per vote; below zero is better", rows,
        [Series(name, roles[name], gains[name]) for name in others], alt=title,
        reference=(comparison.baseline, 0.0), signed=True, headings=headings if len(halved.scores) > 1 else {},
    )  # fmt: skip
    columns = [
        Column("Formed by"),
        Column("Ambiguity"),
        Column("Prediction"),
        LOG_LOSS,
        Column(
            f"Minus {comparison.baseline}", 3, "Log loss, paired on the same votes; below zero is better.", signed=True
        ),
    ]
    lead = "Thirds of ambiguity"
    if OTHERS in halved.scores:
        lead += (
            " formed by one half of each utterance's held-out votes and scored on the other half, and vice versa. "
            "Formed by the scored votes themselves, the clear third would favour confident predictions."
        )
    if FIT in halved.scores:
        lead += (
            f"{' Also thirds' if OTHERS in halved.scores else ''} formed by the votes of the fit, which methods use."
        )
    few = [
        f"{third}, formed by {by} ({counted(size, 'utterance')})"
        for by, sizes in halved.left_out.items()
        for third, size in sizes.items()
    ]
    lead += f" Left out, with fewer than {FEWEST} utterances: {listed(few, 'and')}." if few else ""
    table = Table.of(columns, cells, "All methods by ambiguity", folded=len(cells) > _OPEN)
    return Section("Clear and ambiguous utterances", lead, (chart, table))


def _within(
    level: NDArray[np.int64], scored: Array, shares: Mapping[str, Array], utterances: NDArray[np.int64],
    who: NDArray[np.str_], comparison: Comparison,
) -> Thirds:  # fmt: skip
    losses = {name: _nll(values, scored) for name, values in shares.items()}
    weights, seed = scored.sum(1), comparison.seed
    scores: Thirds = {}
    for place, third in enumerate(THIRDS):
        rows = level == place
        if len(np.unique(utterances[rows])) < FEWEST:
            continue
        own = losses[comparison.baseline][rows]
        scores[third] = {}
        for name, values in losses.items():
            nll = mean_by_speaker(
                values[rows], who[rows], weights=weights[rows], seed=seed, within=range_of("nll_per_vote")
            )
            gain = None
            if name != comparison.baseline:
                with np.errstate(invalid="ignore"):
                    apart = values[rows] - own
                gain = mean_by_speaker(apart, who[rows], weights=weights[rows], seed=seed)
            scores[third][name] = nll, gain
    return scores


def _nll(shares: Array, counts: Array) -> Array:
    """Log loss in nats: the mean of -ln p(vote) over the votes of each row."""
    with np.errstate(divide="ignore"):
        logs = np.where(counts > 0, np.log(shares), 0.0)
    losses: Array = -(counts * logs).sum(1) / np.maximum(counts.sum(1), 1e-12)
    return losses


def _thirds(votes: Array) -> NDArray[np.int64]:
    """Thirds by rank, with ties kept together: by disagreement, then by entropy."""
    share = votes / np.maximum(votes.sum(1, keepdims=True), 1e-12)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return thirds(np.round(np.nan_to_num(pair_disagreement(votes)) * 1e6) + np.round(entropy * 1e3) / 1e6)
