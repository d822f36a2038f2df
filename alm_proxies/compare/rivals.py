"""The fused labels against human votes alone, tuned weights and pooling, on the same held-out human votes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import Array
from alm_proxies.compare.material import Material, Words
from alm_proxies.compare.strata import OUTCOME, in_order
from alm_proxies.estimators.counts import Counts
from alm_proxies.estimators.dirichlet import Human, Pool, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.measures.bootstrap import Interval, Paired, mean_by_speaker, paired_by_speaker
from alm_proxies.measures.calibration import ReliabilityBin, reliability_bins
from alm_proxies.measures.held_out import HeldOut, score_held_out
from alm_proxies.tables import Labels, Utterances, Votes

FUSED, ALONE, PLAIN = "fused labels", "human votes alone", "human shares + prior"
WEIGHTED, POOL = "tuned weights", "pooling"
ROLES = {FUSED: "fused", ALONE: "human-only", PLAIN: "human", WEIGHTED: "weighted", POOL: "pool"}
FEWEST = 20
"""Strata and groups with fewer utterances than this are left out."""


@dataclass(frozen=True, slots=True)
class Score:
    """How near a method comes to held-out human votes; `gain` is its log loss less that of human votes alone."""

    method: str
    nll: Interval
    jsd: Interval
    brier: Interval
    gain: Paired | None
    utterances: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Every method overall, within every value of every stratum and group, and all that was measured of it."""

    overall: tuple[Score, ...]
    within: dict[str, dict[str, tuple[Score, ...]]]
    held_out: dict[str, HeldOut]
    against_fused: dict[str, Interval]
    """Each rival's log loss less that of the fused labels, paired; below zero the rival is better."""
    reliability: dict[str, tuple[ReliabilityBin, ...]]
    """Of the fused labels and of human votes alone, in as many bins as the utterances are enough for."""

    def of(self, method: str) -> Score:
        """One method's overall score."""
        return next(score for score in self.overall if score.method == method)


def rivals(counts: Counts, fused: Labels, human_only: Estimator) -> dict[str, Labels]:
    """The labels of each method; the rivals are fitted here, to the votes of the fit."""
    made = {FUSED: fused, ALONE: human_only.predict(counts)}
    others: dict[str, Estimator] = {PLAIN: Human()}
    if counts.blocks:
        others |= {WEIGHTED: Weighted(), POOL: Pool()}
    for name, estimator in others.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            made[name] = estimator.fit(counts).predict(counts)
    return made


def scores(
    material: Material,
    methods: dict[str, Labels],
    votes: Votes,
    utterances: Utterances,
    within: dict[str, Words],
    *,
    seed: int,
    consensus: bool = False,
) -> Scores:
    """Log loss a held-out vote, JSD (base 2) and Brier score an utterance, with intervals over speakers."""
    held = Votes(votes.frame.filter(pl.col("held_out")), votes.about)
    before = methods[FUSED]
    found = {
        name: score_held_out(labels, held, utterances, before=before, seed=seed, consensus=consensus)
        for name, labels in methods.items()
    }
    per = {name: one.per_utterance for name, one in found.items()}
    rows = np.searchsorted(material.ids, per[FUSED]["utterance_id"].to_numpy().astype(np.str_))
    speakers = None if material.speakers is None else material.speakers[rows]
    weights = per[FUSED]["votes"].to_numpy()
    columns = {
        name: {m: one[m].to_numpy() for m in ("nll_per_vote", "jsd_base2", "brier")} for name, one in per.items()
    }

    def some(kept: NDArray[np.bool_]) -> tuple[Score, ...]:
        names = None if speakers is None else speakers[kept]
        return tuple(_score(method, columns, kept, weights[kept], names, seed) for method in columns)

    parts = {title: values[rows] for title, values in within.items()}
    parts[OUTCOME] = per[FUSED]["outcome"].to_numpy().astype(np.str_)
    inside: dict[str, dict[str, tuple[Score, ...]]] = {}
    for title, values in parts.items():
        kept = {value: values == value for value in in_order(values)}
        inside[title] = {value: some(chosen) for value, chosen in kept.items() if chosen.sum() >= FEWEST}
    fused = columns[FUSED]["nll_per_vote"]
    against = {
        name: mean_by_speaker(own["nll_per_vote"] - fused, speakers, weights=weights, seed=seed)
        for name, own in columns.items()
        if name != FUSED
    }
    counts, ids = material.held_out.counts()[rows], per[FUSED].select("utterance_id")
    shares = [f"p_{label}" for label in material.labels]
    bins = {}
    for name in (FUSED, ALONE):
        predicted = ids.join(methods[name].frame, on="utterance_id", how="left", maintain_order="left")
        bins[name] = reliability_bins(predicted.select(shares).to_numpy(), counts, speakers, seed=seed)
    return Scores(some(np.ones(len(rows), dtype=np.bool_)), inside, found, against, bins)


def _score(
    method: str,
    columns: dict[str, dict[str, Array]],
    kept: NDArray[np.bool_],
    weights: Array,
    speakers: Words | None,
    seed: int,
) -> Score:
    own, alone = columns[method], columns[ALONE]
    nll = own["nll_per_vote"][kept]
    gain = None
    if method != ALONE:
        gain = paired_by_speaker(nll, alone["nll_per_vote"][kept], speakers, weights=weights, seed=seed)
    return Score(
        method,
        mean_by_speaker(nll, speakers, weights=weights, seed=seed),
        mean_by_speaker(own["jsd_base2"][kept], speakers, seed=seed),
        mean_by_speaker(own["brier"][kept], speakers, seed=seed),
        gain,
        int(kept.sum()),
    )
