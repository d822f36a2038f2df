"""Dawid-Skene against crowd-kit on the same 672,000 votes: seconds, ratio of medians and the largest difference.

python benchmarks/fusion/dawid_skene.py
"""

from __future__ import annotations

import statistics
import time
import warnings

import numpy as np
import polars as pl
from crowdkit.aggregation import DawidSkene as CrowdKit

from alm_proxies.estimators.dawid_skene import DawidSkene
from alm_proxies.seeds import generator
from alm_proxies.tables import Votes

LABELS = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral")
UTTERANCES, VOTES_EACH, RATERS, REPEATS, ITERATIONS = 134_400, 5, 400, 5, 10


def votes_table() -> Votes:
    rng = generator(0, "benchmark", "dawid_skene")
    truth = rng.choice(8, UTTERANCES, p=[0.15, 0.12, 0.18, 0.05, 0.05, 0.05, 0.05, 0.35])
    skill = rng.beta(6, 3, RATERS)
    rater = np.argsort(rng.random((UTTERANCES, 40)), axis=1)[:, :VOTES_EACH] + 40 * rng.integers(0, 10, (UTTERANCES, 1))
    right = rng.random((UTTERANCES, VOTES_EACH)) < skill[rater]
    label = np.where(right, truth[:, None], rng.integers(0, 8, (UTTERANCES, VOTES_EACH)))
    frame = pl.DataFrame(
        {
            "utterance_id": np.repeat([f"c/{row:06d}" for row in range(UTTERANCES)], VOTES_EACH),
            "annotator": np.array([f"c/r{number:03d}" for number in range(RATERS)])[rater.ravel()],
            "label": np.array(LABELS)[label.ravel()],
        }
    )
    return Votes.of(frame, taxonomy=LABELS)


def main() -> None:
    votes = votes_table()
    table = votes.frame.select(task="utterance_id", worker="annotator", label="label").to_pandas()
    ours, theirs = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(REPEATS):
            start = time.perf_counter()
            labels = DawidSkene(iterations=ITERATIONS - 1, tolerance=0.0).fit(votes).predict(votes)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            shares = CrowdKit(n_iter=ITERATIONS, tol=-np.inf).fit_predict_proba(table)
            theirs.append(time.perf_counter() - start)
    reference = shares.loc[labels.frame["utterance_id"].to_list(), list(LABELS)].to_numpy()
    difference = np.abs(labels.distributions() - reference).max()
    print(f"{votes.frame.height} votes, {RATERS} raters, {ITERATIONS} expectation steps, medians of {REPEATS}")
    print(f"ours, table to Labels {statistics.median(ours):.3f} s   crowd-kit {statistics.median(theirs):.3f} s")
    print(f"ratio {statistics.median(theirs) / statistics.median(ours):.1f}   largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
