"""Scores of labels against held-out human votes, used for every fusion, model and proxy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import ballots_of, which_count
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, distributions, places
from alm_proxies.measures.bootstrap import paired_by_speaker
from alm_proxies.measures.calibration import ConcentrationCheck, Reliability, concentration_check, thirds
from alm_proxies.measures.calibration import reliability as reliability_of
from alm_proxies.measures.divergence import (
    bhattacharyya,
    brier,
    entropy_nats,
    jsd_base2,
    kld_nats,
    nll_per_vote,
    r2_within_utterance,
    total_variation,
)
from alm_proxies.measures.earth_mover import emd_over_anchors
from alm_proxies.measures.jsd_floor import jsd_floor, jsd_floor_of_votes
from alm_proxies.measures.ranges import range_of_difference
from alm_proxies.measures.ratings import Agreement, agreement_of, rated_of
from alm_proxies.measures.scores import Scored, scores_of
from alm_proxies.tables import ATTRIBUTES, Finding, Findings, Labels, Utterances, Votes
from alm_proxies.taxonomy import ANCHORS, anchors, canonical
from alm_proxies.whole_votes import whole_counts

STRATA = ("low", "medium", "high")
COMPARED = ("nll_per_vote", "jsd_base2", "brier")
TO_TRUTH = ("jsd_base2_to_truth", "kld_nats_to_truth")
"""Distances of a prediction to the true distribution, where that is given."""
_MEANS = (
    "nll_per_vote", "jsd_base2", "brier", "total_variation", "kld_nats", "bhattacharyya", "r2_within_utterance", "emd",
    "jsd_floor", *TO_TRUTH,
)  # fmt: skip
"""Scores that are a mean over utterances."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The scores of predictions against held-out votes.

    scores: by, value, measure, estimate, low, high, method, speakers, utterances, votes; `by` is all, outcome (thirds
    of the held-out votes' entropy: the low one favours confident predictions), observable (ambiguity known before) or a
    group column. Attributes are scored on all utterances with held-out ratings, the other measures on those with a
    held-out label; per_utterance has one row for each of the latter. concentration is None if no prediction has one.
    """

    scores: pl.DataFrame
    per_utterance: pl.DataFrame
    reliability: Reliability
    concentration: ConcentrationCheck | None
    findings: Findings

    def score(self, measure: str, by: str = "all", value: str = "all") -> float:
        """One estimate by its name."""
        chosen = (pl.col("measure") == measure) & (pl.col("by") == by) & (pl.col("value") == value)
        estimates = self.scores.filter(chosen)["estimate"]
        if len(estimates) != 1:
            known = ", ".join(self.scores["measure"].unique(maintain_order=True))
            raise SettingsError(f"there is no score {measure!r} for {by} = {value}", fix=f"Measures: {known}.")
        return float(estimates[0])

    def interval(self, measure: str) -> Interval | None:
        """One score over all utterances with its interval; None if it was not measured."""
        chosen = (pl.col("measure") == measure) & (pl.col("by") == "all")
        rows = self.scores.filter(chosen).select(pl.col("estimate", "low", "high").fill_null(math.nan)).rows()
        return Interval(float(rows[0][0]), float(rows[0][1]), float(rows[0][2])) if rows else None

    def utterances(self, measure: str) -> int:
        """The number of utterances that one score over all of them rests on."""
        return int(self.scores.filter(measure=measure, by="all")["utterances"].sum())


def held_out_counts(votes: Votes, *, consensus: bool = False) -> tuple[pl.Series, Array, list[Finding]]:
    """Held-out human votes as counts: utterance ids in order, counts by label, and findings.

    Raises for votes that are not held out, since they may have been fitted. Primary labels count, by their weight;
    published consensus labels only where `consensus` is set.
    """
    frame = votes.frame
    if not frame.height:
        fix = "Hold some out when the corpus is read: --hold-out keep=3 keeps three of every utterance for the fit."
        raise InputError("there are no held-out votes", where="votes", fix=fix)
    known = frame.filter(~pl.col("held_out"))
    if known.height:
        raise InputError(
            f"{known.height} of {frame.height} votes are not held out, the first of utterance "
            f"{known['utterance_id'][0]!r}",
            where="votes",
            fix="Give only the votes that were held out from every fit.",
        )
    labelled = frame.filter(which_count("held_out", consensus=consensus))
    ids = labelled["utterance_id"].unique().sort()
    labels = {label: place for place, label in enumerate(votes.taxonomy)}
    cell = places(labelled["utterance_id"], ids) * len(labels)
    cell = cell + labelled["label"].replace_strict(labels, return_dtype=pl.Int64).to_numpy()
    counts = np.bincount(cell, labelled["weight"].to_numpy(), len(ids) * len(labels)).reshape(len(ids), -1)
    findings = []
    agreed = frame.filter(which_count("held_out", consensus=True)).height - labelled.height
    if agreed:
        message = "held-out published consensus labels, which are not votes"
        findings.append(Finding.of("consensus", message, "Set consensus = true to count them.", count=agreed))
    rated = frame.filter(which_count("held_out", consensus=consensus, answer="either")).height - labelled.height
    if rated:
        message = "held-out votes without a label, whose ratings alone can be scored"
        findings.append(Finding.of("no_label", message, count=rated))
    if without := frame.height - labelled.height - agreed - rated:
        message = "held-out votes without a label, which cannot be used for scores"
        findings.append(Finding.of("no_label", message, count=without))
    if not len(ids):
        fix = "Set consensus = true to count published labels." if agreed else "Hold out votes whose status is ok."
        raise InputError("no held-out vote has a label", where="votes", fix=fix)
    return ids, counts.astype(np.float64), findings


def whole_of(votes: Votes, ids: pl.Series, counts: Array, *, consensus: bool, seed: int) -> Array:
    """The counts of `held_out_counts` with one label for every vote that is shared among labels, for likelihoods."""
    if (votes.frame["weight"] == 1.0).all():
        return counts
    ballots = ballots_of(votes, ids, "held_out", consensus=consensus)
    return whole_counts(ballots.rows, ballots.vectors, len(ids), seed)


def score_held_out(
    predictions: Labels,
    votes: Votes,
    utterances: Utterances | None = None,
    *,
    before: Labels | None = None,
    truth: Labels | None = None,
    importance: Labels | None = None,
    groups: Sequence[str] = (),
    consensus: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> HeldOut:
    """Score predictions against held-out human votes, overall, by stratum and by group, with intervals by speaker.

    before: labels known before the held-out votes, whose ambiguity makes the observable strata; give the same ones to
    every method that is compared (without it, each prediction's own ambiguity). truth: the simulated truth for the
    floor (jsd_floor, the score of the truth itself against the same number of votes); without it, the floor is
    estimated from the held-out votes, for utterances with two or more: in both cases it is the same for every method
    that is scored on these votes; strata of these very votes ("outcome") have none then. With a truth, the distances to
    it are scored too. importance: labels with the weight of each utterance. consensus: count held-out published
    consensus labels as votes.
    Utterances without a prediction are listed in the findings and not scored.
    """
    ids, counts, findings = held_out_counts(votes, consensus=consensus)
    whole = whole_of(votes, ids, counts, consensus=consensus, seed=seed)
    for name, labels in (("predictions", predictions), ("truth", truth)):
        if labels is not None and labels.taxonomy != votes.taxonomy:
            raise InputError(
                f"has the labels {', '.join(labels.taxonomy)}, the votes {', '.join(votes.taxonomy)}",
                where=name,
                fix="Predict and score with one taxonomy.",
            )
    table = pl.DataFrame({"utterance_id": ids}).with_row_index("row")
    both = table.join(predictions.frame, on="utterance_id", how="inner", maintain_order="left")
    rated = rated_of(predictions, votes, consensus=consensus)
    findings += _missing(table, pl.concat([both["utterance_id"], rated["utterance_id"]]).unique(), predictions)
    if not both.height:
        raise InputError(
            "no utterance has both a prediction and held-out votes", where="predictions", fix="Check the ids."
        )
    rows = both["row"].to_numpy()
    ids, counts, whole = ids[rows], counts[rows], whole[rows]
    predicted = distributions(both.select([f"p_{label}" for label in votes.taxonomy]).to_numpy(), "predictions")
    strength = both["concentration"].fill_null(np.inf).to_numpy()
    per = _per_utterance(ids, predicted, counts, votes.taxonomy)
    floor = _floor(ids, counts, truth, seed)
    per = per.with_columns(jsd_floor=pl.Series(floor, nan_to_null=True), **_to_truth(ids, predicted, truth))
    kept = {"speaker", *groups}
    per = _joined(per, utterances, kept, groups)
    outcome = thirds(np.round(entropy_nats(counts / counts.sum(1, keepdims=True)), 12))
    observed = (predictions if before is None else before).frame.select("utterance_id", observable="ambiguity")
    per = per.with_columns(outcome=pl.Series([STRATA[place] for place in outcome], dtype=pl.String))
    per = per.join(observed, on="utterance_id", how="left", maintain_order="left")
    weights = importance_of(ids, importance)
    findings += _count("no_importance", "utterances without an importance, which are not counted", weights)
    weight = weights.fill_null(0.0).to_numpy()
    named = [name for name in _MEANS if name in per]
    means = {name: per[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in named}
    scored = Scored(predicted, counts, _speakers(per), weight, means)
    slices = _slices(per, ["outcome", "observable", *groups])
    by_these_votes = scored if truth is not None else _without_floor(scored)
    rated = _joined(rated, utterances, kept, groups)
    rated = rated.join(observed, on="utterance_id", how="left", maintain_order="left")
    rated = rated.join(per.select("utterance_id", "outcome"), on="utterance_id", how="left", maintain_order="left")
    importances = importance_of(rated["utterance_id"], importance).fill_null(0.0).to_numpy()
    names = [name for name in ATTRIBUTES if (rated[name].is_not_null() & rated[f"rated_{name}"].is_not_null()).any()]
    people = _speakers(rated)
    agreements = {
        (by, value): agreement_of(rated[chosen], people[chosen], importances[chosen], names, level=level, seed=seed)
        for by, value, chosen in _slices(rated, ["outcome", "observable", *groups])
    }
    scores = [
        _table_of(
            by, value, (by_these_votes if by == "outcome" else scored).rows(chosen), agreements.get((by, value), ()),
            level=level, seed=seed,
        )
        for by, value, chosen in slices
    ]  # fmt: skip
    known = np.isfinite(strength)
    check = concentration_check(predicted[known], strength[known], whole[known]) if known.any() else None
    return HeldOut(pl.concat(scores), per, reliability_of(predicted, counts), check, Findings.gather(findings))


def compare(first: HeldOut, second: HeldOut, *, level: float = 0.95, seed: int = 0) -> pl.DataFrame:
    """first minus second on the utterances both scored, paired and by speaker: interval and sign-flip p-value.

    Columns by, value, measure, difference, low, high, p_value, speakers, utterances; strata are those of the first.
    """
    mine, theirs = first.per_utterance, second.per_utterance
    both = mine.join(theirs, on="utterance_id", how="inner", suffix="_second", maintain_order="left")
    if not both.height:
        raise InputError("the two scored no utterance in common", where="compare", fix="Score the same votes.")
    if (both["votes"] != both["votes_second"]).any():
        raise InputError(
            "the two were scored against different held-out votes", where="compare", fix="Score both on the same."
        )
    rows = []
    speakers = _speakers(both)
    for by, value, chosen in _slices(both, ["outcome", "observable"]):
        for measure in COMPARED:
            a, b = both[measure].to_numpy()[chosen], both[f"{measure}_second"].to_numpy()[chosen]
            weight = both["votes"].to_numpy()[chosen] if measure == "nll_per_vote" else None
            within = range_of_difference(measure)
            paired = paired_by_speaker(a, b, speakers[chosen], weights=weight, level=level, seed=seed, within=within)
            d = paired.difference
            rows.append((by, value, measure, d.estimate, d.low, d.high, paired.p_value, d.speakers, len(chosen)))
    names = ["by", "value", "measure", "difference", "low", "high", "p_value", "speakers", "utterances"]
    return pl.DataFrame(rows, schema=names, orient="row")


def _to_truth(ids: pl.Series, predicted: Array, truth: Labels | None) -> dict[str, pl.Series]:
    """The distances to the true distribution; null where it is not known, nothing where none is given."""
    if truth is None:
        return {}
    there, shares = _true_shares(ids, truth)
    distances = {}
    for name, distance in zip(TO_TRUTH, (jsd_base2, kld_nats), strict=True):
        values = np.full(len(ids), np.nan)
        values[there] = distance(shares, predicted[there])
        distances[name] = pl.Series(values, nan_to_null=True)
    return distances


def _true_shares(ids: pl.Series, truth: Labels) -> tuple[NDArray[np.bool_], Array]:
    """Whether the true distribution of each utterance is known, and the known ones."""
    joined = ids.to_frame("utterance_id").join(truth.frame, on="utterance_id", how="left", maintain_order="left")
    known = joined["entropy"].is_not_null()
    shares = joined.filter(known).select([f"p_{label}" for label in truth.taxonomy]).to_numpy()
    return known.to_numpy(), shares


def importance_of(ids: pl.Series, importance: Labels | None) -> pl.Series:
    """The importance weight of each utterance: 1 where none is given, null where this one has none."""
    if importance is None:
        return pl.repeat(1.0, len(ids), eager=True)
    weights = importance.frame.select("utterance_id", "weight")
    return ids.to_frame("utterance_id").join(weights, on="utterance_id", how="left", maintain_order="left")["weight"]


def _without_floor(scored: Scored) -> Scored:
    """The same without the floor, which comes from the held-out votes and means nothing where these cut the strata."""
    means = {name: values for name, values in scored.means.items() if name != "jsd_floor"}
    return replace(scored, means=means)


def _floor(ids: pl.Series, counts: Array, truth: Labels | None, seed: int) -> Array:
    if truth is None:
        return jsd_floor_of_votes(counts, seed=seed)
    there, shares = _true_shares(ids, truth)
    floor = np.full(len(ids), np.nan)
    floor[there] = jsd_floor(shares, counts[there].sum(1), seed=seed)
    return floor


def _per_utterance(ids: pl.Series, predicted: Array, counts: Array, labels: Sequence[str]) -> pl.DataFrame:
    share = counts / counts.sum(1, keepdims=True)
    columns = {
        "votes": counts.sum(1),
        "nll_per_vote": nll_per_vote(predicted, counts),
        "jsd_base2": jsd_base2(predicted, share),
        "brier": brier(predicted, counts),
        "total_variation": total_variation(predicted, share),
        "kld_nats": kld_nats(share, predicted),
        "bhattacharyya": bhattacharyya(predicted, share),
        "r2_within_utterance": pl.Series(r2_within_utterance(share, predicted), nan_to_null=True),
    }
    if all(canonical(label) in ANCHORS for label in labels):
        columns["emd"] = emd_over_anchors(predicted, share, anchors(labels))
    return pl.DataFrame({"utterance_id": ids, **columns})


def _joined(per: pl.DataFrame, utterances: Utterances | None, kept: set[str], groups: Sequence[str]) -> pl.DataFrame:
    if utterances is None:
        if groups:
            raise InputError(f"scores by {groups[0]} need the utterances", where="groups", fix="Give the utterances.")
        return per.with_columns(speaker=pl.lit(None, dtype=pl.String))
    absent = [name for name in groups if name not in utterances.frame.columns]
    if absent:
        raise InputError(
            f"the utterances have no column {absent[0]!r}",
            where="groups",
            fix=f"There are: {', '.join(utterances.frame.columns)}.",
        )
    columns = ["utterance_id", *(name for name in utterances.frame.columns if name in kept)]
    return per.join(utterances.frame.select(columns), on="utterance_id", how="left", maintain_order="left")


def _speakers(per: pl.DataFrame) -> NDArray[np.int64]:
    """A code for each speaker; an utterance with an unknown speaker is its own."""
    named = per.select(
        pl.when(pl.col("speaker").is_not_null())
        .then(pl.concat_str(pl.lit("speaker "), "speaker"))
        .otherwise(pl.concat_str(pl.lit("utterance "), "utterance_id"))
        .alias("who")
    )
    return named.select(pl.col("who").rank("dense")).to_series().to_numpy().astype(np.int64)


def _slices(per: pl.DataFrame, columns: Sequence[str]) -> list[tuple[str, str, NDArray[np.int64]]]:
    slices = [("all", "all", np.arange(per.height))]
    for column in columns:
        values = per[column].cast(pl.String).fill_null("unknown")
        present = set(values.unique())
        order = [value for value in STRATA if value in present] if column in ("outcome", "observable") else []
        order += sorted(present - set(order))
        slices += [(column, value, np.flatnonzero((values == value).to_numpy())) for value in order]
    return slices


def _table_of(
    by: str, value: str, scored: Scored, agreements: Sequence[Agreement], *, level: float, seed: int
) -> pl.DataFrame:
    """One row a measure; the attributes' rows count the utterances and ratings that they rest on."""
    size, votes = len(scored.votes), float(scored.votes.sum())
    measured = [(name, i, size, votes) for name, i in scores_of(scored, level=level, seed=seed).items()]
    for own in agreements:
        measured += [(name, i, own.utterances, float(own.ratings)) for name, i in own.measures.items()]
    rows = [
        (by, value, name, i.estimate, i.low, i.high, i.method, i.speakers, *behind) for name, i, *behind in measured
    ]
    names = ["by", "value", "measure", "estimate", "low", "high", "method", "speakers", "utterances", "votes"]
    return pl.DataFrame(rows, schema=names, orient="row")


def _missing(table: pl.DataFrame, scored: pl.Series, predictions: Labels) -> list[Finding]:
    absent = table.filter(~pl.col("utterance_id").is_in(scored.implode()))["utterance_id"]
    message, fix = "has held-out votes but no prediction, and is not scored", "Predict it, or leave it out."
    findings = [Finding.of("no_prediction", message, fix, utterance_id=utterance_id) for utterance_id in absent]
    surplus = len(predictions) - len(scored)
    if surplus:
        message = "predictions without held-out votes, which cannot be scored"
        findings.append(Finding.of("no_held_out_votes", message, count=surplus))
    return findings


def _count(kind: str, message: str, column: pl.Series) -> list[Finding]:
    return [Finding.of(kind, message, count=column.null_count())] if column.null_count() else []
