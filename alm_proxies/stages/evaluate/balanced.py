"""The balanced-population estimate: what the scores would be where every label has the same share.

Weights come from fused posterior means of the test utterances, by a fit that has not seen the votes that are scored;
`measures/balanced_population.py` says how. Raw shares of votes are refused: balanced by them, the true shares are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import counting_of
from alm_proxies.compare.comparison import Comparison
from alm_proxies.compare.leaks import refuse_seen
from alm_proxies.compare.plain import plain
from alm_proxies.compare.strata import speaker_count
from alm_proxies.errors import InputError
from alm_proxies.interval import Interval
from alm_proxies.measures.balanced_population import (
    FEWEST_SPEAKERS,
    FEWEST_UTTERANCES,
    MOST_FAILED,
    TOO_ALIKE,
    BalancedPopulation,
    balanced_population,
)
from alm_proxies.measures.ranges import range_of, range_of_difference
from alm_proxies.posterior import no_posterior
from alm_proxies.printable import counted, in_speakers
from alm_proxies.report.page import Cell, Column, Section, Table
from alm_proxies.tables import Finding, Labels, Utterances, Votes

_MEASURES = ("nll_per_vote", "jsd_base2", "brier")


@dataclass(frozen=True, slots=True, eq=False)
class Balanced:
    """Scores in a population with equal shares of all labels; without them, the reason."""

    reason: str | None
    utterances: int = 0
    speakers: int = 0
    of_unknown_speakers: int = 0
    found: BalancedPopulation | None = None
    findings: tuple[Finding, ...] = ()
    before: dict[str, float] = field(default_factory=dict)
    """Mean posterior mean of every label, without the weights."""

    def score(self, method: str, measure: str) -> Interval | None:
        """nll_per_vote, jsd_base2 or brier of a method, or `less_baseline`: its log loss less the baseline's."""
        return None if self.found is None else self.found.means.get(f"{method}\n{measure}")


def balanced_of(
    comparison: Comparison, votes: Votes, utterances: Utterances, fused: Labels | None, *, seed: int
) -> Balanced:
    """The balanced-population estimate of every method of a comparison, or why there is none."""
    if fused is None:
        return Balanced("no fused labels of the test utterances are given")
    if fused.taxonomy != votes.taxonomy:
        fix = "Fuse the votes that are given here."
        raise InputError("the fused labels have another taxonomy than the votes", where="fused", fix=fix)
    if (reason := no_posterior(fused)) is not None:
        return Balanced(reason)
    refuse_seen(fused, votes, counting_of(fused.about))
    ids = pl.Series("utterance_id", comparison.test.ids)
    rows, findings = _chosen(ids, utterances, fused)
    posterior = _shares(ids.filter(pl.Series(rows)), fused)
    people = comparison.test.speakers
    speakers = None if people is None else people[rows]
    known, unknown = speaker_count(speakers, comparison.test.has_speaker[rows])
    if speakers is not None and len(posterior) >= FEWEST_UTTERANCES and known < FEWEST_SPEAKERS:
        few = f"{in_speakers(known, unknown)} are too few; {FEWEST_SPEAKERS} known ones are needed"
        return Balanced(few, len(posterior), known, unknown, None, tuple(findings))
    votes_of, baseline = comparison.test.counts.sum(1)[rows], comparison.losses[comparison.baseline]["nll_per_vote"]
    columns: dict[str, tuple[Any, Any]] = {}
    for name, losses in comparison.losses.items():
        for measure in _MEASURES:
            by = votes_of if measure == "nll_per_vote" else np.ones(len(votes_of))
            columns[f"{name}\n{measure}"] = losses[measure][rows], by
        if name != comparison.baseline:
            columns[f"{name}\nless_baseline"] = (losses["nll_per_vote"] - baseline)[rows], votes_of
    estimated = balanced_population(posterior, columns, speakers, seed=seed) if len(posterior) else "no test utterance"
    if isinstance(estimated, str):
        if estimated == TOO_ALIKE:
            estimated += _too_few_votes(posterior, fused.taxonomy)
        return Balanced(estimated, len(posterior), known, unknown, None, tuple(findings))
    means = {name: mean.within(*_range_of(name)) for name, mean in estimated.means.items()}
    estimated = replace(estimated, means=means)
    before = dict(zip(fused.taxonomy, map(float, estimated.shares), strict=True))
    return Balanced(None, len(posterior), known, unknown, estimated, tuple(findings), before)


def _without_weights(found: BalancedPopulation) -> str:
    """How many resamples have no weights, and what that means; empty if all have them."""
    if not found.failed:
        return ""
    many = counted(found.failed, "has no weights", "have no weights")
    gone = "leave them out" if found.failed <= MOST_FAILED * found.resamples else "are not given"
    why = "too few of their utterances have a large share of some label"
    return f" Of {found.resamples:,} resamples {many}, since {why}: the intervals {gone}."


def _too_few_votes(posterior: NDArray[np.float64], labels: Sequence[str]) -> str:
    """The labels of which no utterance has an equal share, which labels fused from few votes cannot reach."""
    equal = 1 / len(labels)
    short = [
        f"{label} {most:.1%}" for label, most in zip(labels, posterior.max(0).tolist(), strict=True) if most < equal
    ]
    few = "fused labels of few votes are near the class shares, and more votes an utterance move them away"
    if not short:
        return f"; {few}"
    return f": no utterance has an equal share, {equal:.1%}, of every label (at most {', '.join(short)}); {few}"


def _range_of(column: str) -> tuple[float, float]:
    measure = column.partition("\n")[2]
    return range_of_difference("nll_per_vote") if measure == "less_baseline" else range_of(measure)


def _chosen(ids: pl.Series, utterances: Utterances, fused: Labels) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Test utterances that count: recorded, of no speaker of the training split, and fused."""
    frame = utterances.frame.select("utterance_id", "speaker", "split", "recipe")
    trained = frame.filter(pl.col("split") == "train")["speaker"].drop_nulls().unique()
    joined = ids.to_frame("utterance_id").join(frame, on="utterance_id", how="left", maintain_order="left")
    reasons = {
        "generated_in_test": (joined["recipe"].is_not_null(), "generated items, which are no test"),
        "training_speaker": (
            joined["speaker"].is_in(trained.implode()).fill_null(value=False), "test utterances of training speakers"
        ),
        "not_fused": (~ids.is_in(fused.frame["utterance_id"].implode()), "test utterances without a fused label"),
    }  # fmt: skip
    kept, findings = pl.repeat(value=True, n=len(ids), eager=True), []
    for kind, (mask, excluded) in reasons.items():
        out = mask & kept
        if count := int(out.sum()):
            message = f"the balanced-population estimate leaves out {excluded}"
            findings.append(Finding.of(kind, message, count=count))
        kept &= ~mask
    return kept.to_numpy(), findings


def _shares(ids: pl.Series, fused: Labels) -> NDArray[np.float64]:
    joined = ids.to_frame("utterance_id").join(fused.frame, on="utterance_id", how="left", maintain_order="left")
    return joined.select(f"p_{label}" for label in fused.taxonomy).to_numpy().astype(np.float64)


def balanced_metrics(balanced: Balanced, methods: tuple[str, ...]) -> dict[str, Any] | None:
    """The estimate as plain values; None where there is none."""
    if balanced.found is None:
        return None
    return {
        "utterances": balanced.utterances,
        "speakers": balanced.speakers,
        "effective_size": balanced.found.effective_size,
        "largest_weight": float(balanced.found.weights.max()),
        "resamples": balanced.found.resamples,
        "resamples_without_weights": balanced.found.failed,
        "shares_before": balanced.before,
        "methods": {
            name: {key: plain(balanced.score(name, key)) for key in (*_MEASURES, "less_baseline")} for name in methods
        },
    }


def balanced_section(balanced: Balanced, comparison: Comparison) -> Section | None:
    """The estimate beside the scores on the test set as it is; nothing where no fused labels were given."""
    title = "Balanced-population estimate"
    if balanced.found is None:
        if not balanced.utterances and balanced.reason is not None and "are given" in balanced.reason:
            return None
        return Section(title, f"There is none: {balanced.reason}.", ())
    rows: list[list[Cell]] = []
    for score in comparison.overall:
        nll, less, jsd = (
            balanced.score(score.method, measure) for measure in ("nll_per_vote", "less_baseline", "jsd_base2")
        )
        rows.append([score.method, score.nll, nll, less, score.jsd, jsd])
    columns = [
        Column("Prediction"), Column("Log loss, test set as it is"), Column("Log loss, balanced"),
        Column(f"Balanced, minus {comparison.baseline}", signed=True),
        Column("JSD, test set as it is"), Column("JSD, balanced"),
    ]  # fmt: skip
    shares = ", ".join(f"{name} {share:.1%}" for name, share in balanced.before.items())
    lead = (
        f"What the scores would be where every label has the same share. "
        f"{counted(balanced.utterances, 'utterance')} of "
        f"{in_speakers(balanced.speakers, balanced.of_unknown_speakers)}, weighted, carry as much information as "
        f"{balanced.found.effective_size:,.0f} of equal weight; the largest weight is "
        f"{balanced.found.weights.max():,.1f} times the mean."
    )
    note = (
        f"Weights from the fused posterior means, whose mean is {shares}; no scored vote was fitted. They are found "
        f"again in each resample of speakers.{_without_weights(balanced.found)}"
    )
    return Section(title, lead, (Table.of(columns, rows, note),))
