"""Compare predictions against the same held-out human votes: scores overall and by stratum, paired differences.

test = compare({"fused": fused, "alone": alone}, votes, utterances, baseline="alone", strata=strata)
test.of("fused").gain, test.paired("fused", "alone", "jsd_base2").p_value, test.within["gender"]["female"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import Array, ballots_of, which_count
from alm_proxies.compare.strata import OUTCOME, Words, has_speaker, in_order, speakers_of
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import Paired, mean_by_speaker, paired_by_speaker
from alm_proxies.measures.calibration import ReliabilityBin, reliability_bins
from alm_proxies.measures.held_out import HeldOut, held_out_counts, importance_of, score_held_out, whole_of
from alm_proxies.measures.ranges import range_of, range_of_difference
from alm_proxies.measures.tally import Tally
from alm_proxies.tables import Finding, Labels, Utterances, Votes

FEWEST = 20
"""Strata and groups with fewer utterances than this are left out."""
COMPARED = ("nll_per_vote", "jsd_base2", "brier")


@dataclass(frozen=True, slots=True)
class Score:
    """A method's scores against held-out human votes; `gain` is its paired log-loss difference to the baseline."""

    method: str
    nll: Interval
    jsd: Interval
    brier: Interval
    gain: Paired | None
    utterances: int


@dataclass(frozen=True, slots=True, eq=False)
class TestSet:
    """The utterances that all predictions are scored on, sorted by id."""

    __test__ = False  # not a test class for pytest
    ids: Words
    counts: Array
    """Held-out votes, utterances x labels."""
    speakers: Words | None
    weight: Array
    """The importance weight of each utterance; 1 by default."""
    has_speaker: NDArray[np.bool_]
    """Whether the speaker of each utterance is known."""
    squares: Array
    """The summed squared shares of each utterance's held-out votes: their number, if none is shared among labels."""
    whole: Array
    """The counts with one label for every vote that is shared among labels, for likelihoods."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The scores of every method, overall and within every stratum, with all measures."""

    baseline: str
    overall: tuple[Score, ...]
    within: dict[str, dict[str, tuple[Score, ...]]]
    """By stratification, then by value; values with fewer than 20 utterances are left out."""
    held_out: dict[str, HeldOut]
    """All measures of each method, overall and by stratum."""
    reliability: dict[str, tuple[ReliabilityBin, ...]]
    """Reliability bins by method; their number depends on the number of utterances."""
    test: TestSet
    findings: tuple[Finding, ...]
    losses: dict[str, dict[str, Array]]
    """By method and measure: one value per utterance of the test set."""
    level: float
    seed: int
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    """By stratification, then by value: the number of utterances of each value that `within` leaves out."""
    strata: dict[str, Words] = field(default_factory=dict)
    """By stratification: the value of every utterance of the test set."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the predictions, in the given order."""
        return tuple(self.held_out)

    def of(self, method: str) -> Score:
        """One method's overall score."""
        for score in self.overall:
            if score.method == method:
                return score
        raise SettingsError(f"there is no prediction {method!r}", fix=f"There are: {', '.join(self.methods)}.")

    def paired(
        self, first: str, second: str, measure: str = "nll_per_vote", rows: NDArray[np.bool_] | None = None
    ) -> Paired:
        """Paired difference, first minus second, on all utterances (or `rows`), tested over speakers."""
        chosen = np.ones(len(self.test), dtype=np.bool_) if rows is None else rows
        return paired_by_speaker(
            self.losses[first][measure][chosen],
            self.losses[second][measure][chosen],
            None if self.test.speakers is None else self.test.speakers[chosen],
            weights=_weights(self.test, measure)[chosen],
            level=self.level,
            seed=self.seed,
            within=range_of_difference(measure),
        )

    def against(self, method: str) -> dict[str, Interval]:
        """The paired log-loss difference of each other method to `method`; below zero the other method is better."""
        own = self.losses[method]["nll_per_vote"]
        weights = _weights(self.test, "nll_per_vote")
        return {
            name: mean_by_speaker(
                losses["nll_per_vote"] - own, self.test.speakers, weights=weights, level=self.level, seed=self.seed
            )
            for name, losses in self.losses.items()
            if name != method
        }


def compare(
    predictions: Mapping[str, Labels],
    votes: Votes,
    utterances: Utterances | None = None,
    *,
    baseline: str,
    strata: pl.DataFrame | None = None,
    before: Labels | None = None,
    truth: Labels | None = None,
    importance: Labels | None = None,
    groups: Sequence[str] = (),
    reliability_of: Sequence[str] | None = None,
    consensus: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Score every prediction against the held-out votes of the utterances that all of them predict.

    Log loss is a mean over held-out votes, JSD (base 2) and Brier score over utterances, with intervals over speakers.
    votes: only the held-out ones are used. baseline: the method that the others are compared with. strata:
    utterance_id and one column per stratification (see strata_table); thirds of the held-out votes' entropy are
    added. before: labels known before the held-out votes, whose ambiguity makes the observable strata of held_out
    (default: the baseline's). truth, importance, groups and consensus are as in score_held_out.
    reliability_of: the methods whose reliability is binned; default all. An utterance that any method does not
    predict is scored for no method and reported as a finding.
    """
    if baseline not in predictions:
        there = ", ".join(predictions) or "none"
        raise SettingsError(f"there is no prediction {baseline!r}", fix=f"Name one of the predictions: {there}.")
    held = votes.frame.filter("held_out")
    ids, counts, findings = held_out_counts(Votes(held, votes.about), consensus=consensus)
    ids, counts, more = _common(ids, counts, predictions)
    compared = pl.concat([ids, _rated_alone(held, predictions, consensus=consensus)])
    kept = Votes(held.filter(pl.col("utterance_id").is_in(compared.implode())), votes.about)
    speakers, known = speakers_of(ids, utterances), has_speaker(ids, utterances)
    squares = Tally.of(ballots_of(kept, ids, "held_out", consensus=consensus)).squares
    weight = importance_of(ids, importance).fill_null(0.0).to_numpy()
    whole = whole_of(kept, ids, counts, consensus=consensus, seed=seed)
    test = TestSet(ids.to_numpy().astype(np.str_), counts, speakers, weight, known, squares, whole)
    scored = {
        name: score_held_out(
            labels, kept, utterances, before=predictions[baseline] if before is None else before, truth=truth,
            importance=importance, groups=groups, consensus=consensus, level=level, seed=seed,
        )
        for name, labels in predictions.items()
    }  # fmt: skip
    losses = {
        name: {measure: scores.per_utterance[measure].to_numpy() for measure in COMPARED}
        for name, scores in scored.items()
    }
    everyone = Comparison(baseline, (), {}, scored, {}, test, (*findings, *more), losses, level, seed)
    parts = _stratified(ids, strata)
    parts[OUTCOME] = scored[baseline].per_utterance["outcome"].to_numpy().astype(np.str_)
    inside: dict[str, dict[str, tuple[Score, ...]]] = {}
    few: dict[str, dict[str, int]] = {}
    for title, values in parts.items():
        rows = {value: values == value for value in in_order(values)}
        inside[title] = {value: _scores(everyone, chosen) for value, chosen in rows.items() if chosen.sum() >= FEWEST}
        few[title] = {value: int(chosen.sum()) for value, chosen in rows.items() if chosen.sum() < FEWEST}
    shares = [f"p_{label}" for label in votes.taxonomy]
    bins = {}
    for name in predictions if reliability_of is None else reliability_of:
        predicted = ids.to_frame("utterance_id").join(
            predictions[name].frame, on="utterance_id", how="left", maintain_order="left"
        )
        bins[name] = reliability_bins(predicted.select(shares).to_numpy(), counts, test.speakers, seed=seed)
    overall = _scores(everyone, np.ones(len(test), dtype=np.bool_))
    return Comparison(
        baseline, overall, inside, scored, bins, test, everyone.findings, losses, level, seed, few, parts
    )  # fmt: skip


def _common(ids: pl.Series, counts: Array, predictions: Mapping[str, Labels]) -> tuple[pl.Series, Array, list[Finding]]:
    """The utterances that all methods predict."""
    everywhere = np.ones(len(ids), dtype=np.bool_)
    findings = []
    for name, labels in predictions.items():
        there = ids.is_in(labels.frame["utterance_id"].implode()).to_numpy()
        if not there.all():
            message = f"utterances with held-out votes that {name!r} does not predict, scored for no method"
            fix = "Predict them too, or accept the smaller test set."
            findings.append(Finding.of("no_prediction", message, fix, where=name, count=int((~there).sum())))
        everywhere &= there
    if not everywhere.any():
        raise InputError(
            "no utterance has held-out votes and a prediction of every method",
            where="predictions",
            fix="Check the ids.",
        )
    return ids.filter(pl.Series(everywhere)), counts[everywhere], findings


def _rated_alone(held: pl.DataFrame, predictions: Mapping[str, Labels], *, consensus: bool) -> pl.Series:
    """The utterances that all methods predict and whose held-out votes are ratings without any label."""
    labelled, rated = (
        held.filter(which_count("held_out", consensus=consensus, answer=answer))["utterance_id"].unique()
        for answer in ("label", "rating")
    )
    alone = rated.filter(~rated.is_in(labelled.implode())).sort()
    for labels in predictions.values():
        alone = alone.filter(alone.is_in(labels.frame["utterance_id"].implode()))
    return alone


def _stratified(ids: pl.Series, strata: pl.DataFrame | None) -> dict[str, Words]:
    if strata is None:
        return {}
    joined = ids.to_frame("utterance_id").join(strata, on="utterance_id", how="left", maintain_order="left")
    return {
        name: joined[name].cast(pl.String).fill_null("not known").to_numpy().astype(np.str_)
        for name in joined.columns
        if name != "utterance_id"
    }


def _weights(test: TestSet, measure: str) -> Array:
    return test.counts.sum(1) * test.weight if measure == "nll_per_vote" else test.weight


def _scores(comparison: Comparison, rows: NDArray[np.bool_]) -> tuple[Score, ...]:
    """The scores of every method on a subset of the utterances."""
    test = comparison.test
    speakers = None if test.speakers is None else test.speakers[rows]
    scores = []
    for method, losses in comparison.losses.items():
        nll, jsd, brier = (
            mean_by_speaker(
                losses[measure][rows], speakers, weights=_weights(test, measure)[rows], level=comparison.level,
                seed=comparison.seed, within=range_of(measure),
            )
            for measure in COMPARED
        )  # fmt: skip
        gain = None if method == comparison.baseline else comparison.paired(method, comparison.baseline, rows=rows)
        scores.append(Score(method, nll, jsd, brier, gain, int(rows.sum())))
    return tuple(scores)
