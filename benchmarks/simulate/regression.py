"""How well a logistic regression on measured prosody predicts the crowd's votes, on speakers outside its training set.

    python benchmarks/simulate/regression.py [--utterances 2000] [--seeds 0 1 2] [--crowd 0]

Prosody and voice are measured from the wavs (audio/features.py) and taken relative to the speaker. Printed:
cross-entropy (nats) of the true distributions on test speakers with (a) the class prior, (b) the regression, (c)
themselves, and the share of the gap a - c that b closes; fitted to 3-5 votes an utterance, and to the truth.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from alm_proxies.audio.features import measure_all, relative_to_speaker
from alm_proxies.audio.recipe import Sounds
from alm_proxies.stages.simulate.cues import LABELS
from alm_proxies.stages.simulate.stage import Corpus, SimulateSettings, simulate


def prosody(corpus: Corpus) -> np.ndarray:
    """Prosody and voice of every utterance as z-scores within its speaker; what could not be measured is 0."""
    sounds = Sounds(corpus.utterances, stage="benchmark")
    ids = corpus.utterances.frame["utterance_id"].to_list()
    measured = measure_all(ids, sounds.open, stage="benchmark", groups=("prosody", "voice"))
    relative = relative_to_speaker(measured.frame, corpus.utterances.frame["speaker"])
    return np.clip(relative.drop("utterance_id").fill_null(0.0).to_numpy(), -5, 5)


def fitted(x: np.ndarray, targets: np.ndarray, penalty: float = 1.0) -> LogisticRegression:
    """A logistic regression fitted to distributions: one row per label, weighted by its share."""
    rows, labels = targets.shape
    return LogisticRegression(C=penalty, max_iter=500).fit(
        np.repeat(x, labels, axis=0), np.tile(np.arange(labels), rows), sample_weight=targets.ravel() + 1e-9
    )


def cross_entropy(truth: np.ndarray, guess: np.ndarray) -> float:
    return float(-(truth * np.log(np.maximum(guess, 1e-12))).sum(1).mean())


def report(corpus: Corpus) -> tuple[float, float]:
    """Print the figures of one corpus, and the closed shares of the gap, from votes and from truth."""
    frame = corpus.utterances.frame
    x = prosody(corpus)
    train = (frame["split"] == "train").to_numpy()
    test = (frame["split"] == "test").to_numpy()
    x = StandardScaler().fit(x[train]).transform(x)
    truth = corpus.truth.distributions()
    sparse = corpus.votes.frame.filter(~pl.col("held_out"))
    counts = sparse.group_by("utterance_id").agg([(pl.col("label") == label).mean().alias(label) for label in LABELS])
    voted = frame.select("utterance_id").join(counts, on="utterance_id", how="left").select(LABELS).to_numpy()
    prior = np.tile(voted[train].mean(0), (test.sum(), 1))
    before, floor = cross_entropy(truth[test], prior), cross_entropy(truth[test], truth[test])
    closed = []
    for name, target in (("votes", voted), ("truth", truth)):
        guess = fitted(x[train], target[train]).predict_proba(x[test])
        after = cross_entropy(truth[test], guess)
        closed.append((before - after) / (before - floor))
        print(f"  fitted to {name}: prior {before:.3f}  regression {after:.3f}  truth {floor:.3f}  {closed[-1]:.0%}")
    return closed[0], closed[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--crowd", type=int, default=0)
    options = parser.parse_args()
    shares = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as name:
            settings = SimulateSettings(utterances=options.utterances, seed=seed, crowd=options.crowd)
            corpus = simulate(Path(name), settings)
            print(f"seed {seed}, crowd {options.crowd}, {options.utterances} utterances, speakers apart")
            shares.append(report(corpus))
    votes, truth = np.median(np.array(shares), axis=0)
    print(f"median share of the gap closed: {votes:.0%} from votes, {truth:.0%} from the truth")


if __name__ == "__main__":
    main()
