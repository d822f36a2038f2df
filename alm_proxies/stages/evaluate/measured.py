"""All that evaluate measures: the comparison, strata cut by votes neither fitted nor scored, recovered ambiguity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import Array, which_count
from alm_proxies.compare.comparison import FEWEST, Comparison, compare
from alm_proxies.compare.strata import strata_table
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import canonical_json
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.measures.calibration import thirds
from alm_proxies.measures.recovered import (
    Ambiguity,
    RiskCoverage,
    ambiguity,
    confusion_of_shares,
    dirichlet_multinomial,
    halves,
    minor_recall,
    pair_disagreement,
    recall_over_votes,
    risk_coverage,
)
from alm_proxies.seeds import generator
from alm_proxies.stages.evaluate.settings import EvaluateSettings
from alm_proxies.tables import Finding, Labels, Utterances, Votes
from alm_proxies.trained_on import without_trained_on

SHARES = "class shares"
"""The prediction that says the same of every utterance: the shares of the human votes that are not held out."""
THIRDS = ("clear", "between", "ambiguous")
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Recovered:
    """One prediction beyond its mean log loss."""

    strength: Interval | None
    """Dirichlet-multinomial log loss in nats a vote; None where no prediction has a concentration."""
    ambiguity: Ambiguity | None
    recall_over_votes: Interval
    minor_recall: Interval
    risk: RiskCoverage
    confusion: Array


@dataclass(frozen=True, slots=True)
class Measured:
    """All figures of an evaluation."""

    comparison: Comparison
    recovered: dict[str, Recovered]
    halved: dict[str, dict[str, tuple[Interval, Interval | None]]]
    """By third of ambiguity, then by method: log loss, and its difference to the baseline."""
    conditions: dict[str, dict[str, str]]
    """By prediction of the recordings as they are, then by condition: the same model's prediction in worse sound."""
    findings: tuple[Finding, ...]
    labels: tuple[str, ...]


def measure(
    predictions: Mapping[str, Labels],
    votes: Votes,
    utterances: Utterances,
    settings: EvaluateSettings,
    truth: Labels | None = None,
) -> Measured:
    """Every prediction against the same held-out human votes."""
    findings: list[Finding] = []
    honest: dict[str, Labels] = {}
    for name, labels in predictions.items():
        kept, more = without_trained_on(labels, utterances, stage="evaluate")
        findings += more
        if not len(kept):
            fix = "Predict utterances of speakers that it was not trained on: split by speaker before training."
            raise InputError(f"every prediction of {name!r} is for a speaker it was trained on", where=name, fix=fix)
        honest[name] = kept
    if SHARES in honest:
        raise InputError(f"a prediction is named {SHARES!r}, which is the baseline's name", fix="Rename its file.")
    baseline = settings.baseline or SHARES
    if baseline not in (*honest, SHARES):
        fix = f"There are: {', '.join(honest)}."
        raise SettingsError(f"no prediction is named {baseline!r}", fix=fix)
    compared = {SHARES: _class_shares(votes, honest), **honest}
    strata, more = strata_table(votes, utterances)
    findings += more
    comparison = compare(
        compared, votes, utterances, baseline=baseline, strata=strata, truth=truth, reliability_of=tuple(honest),
        seed=settings.seed,
    )  # fmt: skip
    findings += comparison.findings
    test = comparison.test
    ids = pl.Series("utterance_id", test.ids)
    rows = {name: _aligned(labels, ids) for name, labels in compared.items()}
    recovered = {name: _recovered(*rows[name], comparison, settings.seed) for name in compared}
    halved = _halved({name: shares for name, (shares, _) in rows.items()}, comparison, settings.seed)
    return Measured(comparison, recovered, halved, _conditions(honest), tuple(findings), votes.taxonomy)


def _conditions(predictions: Mapping[str, Labels]) -> dict[str, dict[str, str]]:
    """Which predictions are one model's, of the recordings as they are and in worse sound."""
    models: dict[str, dict[str | None, str]] = {}
    for name, labels in predictions.items():
        maker = labels.about.made_by
        if maker is not None and maker.stage == "predict" and "condition" in maker.settings:
            said: dict[str, Any] = dict(maker.settings)
            condition = said.pop("condition")
            models.setdefault(canonical_json(said), {})[condition] = name
    return {
        found[None]: {condition: name for condition, name in found.items() if condition is not None}
        for found in models.values()
        if None in found and len(found) > 1
    }


def _class_shares(votes: Votes, predictions: Mapping[str, Labels]) -> Labels:
    """The same distribution for every predicted utterance: the shares of the human votes that may be fitted."""
    human = votes.frame.filter(which_count("human"))
    if not human.height:
        fix = "Give the votes of the training utterances too, or name a baseline."
        raise InputError("every human vote is held out, so that there are no class shares to compare with", fix=fix)
    counts = dict(human.group_by("label").agg(pl.col("weight").sum()).iter_rows())
    mass = np.array([counts.get(label, 0.0) for label in votes.taxonomy]) + 0.5
    ids = pl.concat([labels.frame["utterance_id"] for labels in predictions.values()]).unique().sort()
    shares = {f"p_{label}": part for label, part in zip(votes.taxonomy, (mass / mass.sum()).tolist(), strict=True)}
    return Labels.of(pl.DataFrame({"utterance_id": ids}).with_columns(**{k: pl.lit(v) for k, v in shares.items()}),
                     taxonomy=votes.taxonomy)  # fmt: skip


def _aligned(labels: Labels, ids: pl.Series) -> tuple[Array, Array]:
    """Distributions and concentrations of the test set, in its order."""
    frame = ids.to_frame().join(labels.frame, on="utterance_id", how="left", maintain_order="left")
    shares = frame.select(f"p_{label}" for label in labels.taxonomy).to_numpy().astype(np.float64)
    strength = frame["concentration"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return shares, strength


def _recovered(shares: Array, strength: Array, comparison: Comparison, seed: int) -> Recovered:
    counts, speakers = comparison.test.counts, comparison.test.speakers
    loss = dirichlet_multinomial(counts, shares, strength)
    known = np.isfinite(loss)
    likelihood = None
    if known.any():
        who = None if speakers is None else speakers[known]
        likelihood = mean_by_speaker(loss[known], who, weights=counts.sum(1)[known], seed=seed)
    return Recovered(
        likelihood,
        ambiguity(counts, shares, speakers, seed=seed),
        recall_over_votes(counts, shares, speakers, seed=seed),
        minor_recall(counts, shares, speakers, seed=seed),
        risk_coverage(counts, shares),
        confusion_of_shares(counts, shares),
    )


def _nll(shares: Array, counts: Array) -> Array:
    """-ln p(vote) in nats, a mean over the votes of each row."""
    logs = np.log(np.maximum(shares, _SMALLEST))
    made: Array = -(counts * logs).sum(1) / np.maximum(counts.sum(1), 1e-12)
    return made


def _halved(
    shares: Mapping[str, Array], comparison: Comparison, seed: int
) -> dict[str, dict[str, tuple[Interval, Interval | None]]]:
    """Log loss within thirds of ambiguity, cut by one half of the held-out votes and scored on the other, both ways.

    A third cut by the votes that are scored favours confident predictions; these are cut by others.
    """
    counts = comparison.test.counts
    whole = np.abs(counts - np.round(counts)).max(1, initial=0.0) < 1e-9
    enough = whole & (counts.sum(1) >= 4 - 1e-9)
    if enough.sum() < FEWEST * len(THIRDS):
        return {}
    first, second = halves(counts[enough], generator(seed, "strata by half of the held-out votes"))
    people = comparison.test.speakers
    speakers = np.flatnonzero(enough).astype(np.str_) if people is None else people[enough]
    cuts, scored = np.concatenate([first, second]), np.concatenate([second, first])
    who = np.concatenate([speakers, speakers])
    level = _thirds(pair_disagreement(cuts), _entropy(cuts))
    losses = {name: _nll(np.tile(values[enough], (2, 1)), scored) for name, values in shares.items()}
    weights = scored.sum(1)
    made: dict[str, dict[str, tuple[Interval, Interval | None]]] = {}
    for place, third in enumerate(THIRDS):
        rows = level == place
        if rows.sum() < FEWEST:
            continue
        own = losses[comparison.baseline][rows]
        made[third] = {}
        for name, values in losses.items():
            nll = mean_by_speaker(values[rows], who[rows], weights=weights[rows], seed=seed)
            gain = None
            if name != comparison.baseline:
                gain = mean_by_speaker(values[rows] - own, who[rows], weights=weights[rows], seed=seed)
            made[third][name] = nll, gain
    return made


def _entropy(counts: Array) -> Array:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)
    made: Array = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return made


def _thirds(disagreement: Array, entropy: Array) -> NDArray[np.int64]:
    """Ranks cut into thirds, ties kept together: disagreement first, entropy where it is equal."""
    return thirds(np.round(np.nan_to_num(disagreement) * 1e6) + np.round(entropy * 1e3) / 1e6)
