"""Compare the simulated crowd with the voice-only raters of CREMA-D, or fit the crowd's leanings to them.

    ALM_PROXIES_TEST_DATA=... python benchmarks/simulate/calibration.py [--utterances 3000] [--seeds 0 1 2]
    ALM_PROXIES_TEST_DATA=... python benchmarks/simulate/calibration.py --fit

An utterance gets as many simulated votes as a clip of CREMA-D has (5 to 12, drawn from the table). Entropies in nats.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from pathlib import Path

import numpy as np

from alm_proxies.stages.simulate import listeners
from alm_proxies.stages.simulate.cues import LABELS
from alm_proxies.stages.simulate.dialogues import turns_of
from alm_proxies.stages.simulate.speakers import speaker
from alm_proxies.stages.simulate.stage import SimulateSettings, simulate

LETTERS = "ADFHNS"


def human_counts() -> np.ndarray:
    """Votes on the voice alone, a row a clip, in the order of LABELS."""
    path = Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "tabulatedVotes.csv"
    with path.open(newline="") as file:
        return np.array([[int(row[c]) for c in LETTERS] for row in csv.DictReader(file) if int(row[""]) < 200000])


def entropy(shares: np.ndarray) -> np.ndarray:
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1)


def figures(counts: np.ndarray, chance: np.random.Generator) -> dict[str, float]:
    """The compared statistics of a table of counts."""
    draws = [np.stack([chance.multivariate_hypergeometric(row, 3) for row in counts]) for _ in range(10)]
    total = counts.sum(1)
    pairs = (counts * (counts - 1)).sum(1) / (total * (total - 1))
    shares = counts.sum(0) / counts.sum()
    out = {
        "mean entropy of 3 votes": float(np.mean([entropy(few / 3).mean() for few in draws])),
        "mean entropy of all votes": float(entropy(counts / total[:, None]).mean()),
        "unanimous share of 3 votes": float(np.mean([(few.max(1) == 3).mean() for few in draws])),
        "unanimous share of all votes": float((counts.max(1) == total).mean()),
        "two raters agree": float(pairs.mean()),
    }
    return out | {f"share of {label}": float(share) for label, share in zip(LABELS, shares, strict=True)}


def simulated_counts(utterances: int, seed: int, sizes: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Votes of the simulated crowd; `sizes` gives their number per utterance."""
    with tempfile.TemporaryDirectory() as name:
        corpus = simulate(Path(name), SimulateSettings(utterances=utterances, seed=seed, votes=(12, 12)), quiet=True)
    codes = {label: k for k, label in enumerate(LABELS)}
    labels = corpus.votes.frame.sort("utterance_id", "annotator")["label"].replace_strict(codes).to_numpy()
    ballots = labels.reshape(utterances, 12)
    taken = chance.choice(sizes, utterances)
    order = chance.permuted(np.tile(np.arange(12), (utterances, 1)), axis=1)
    out = np.zeros((utterances, len(LABELS)), dtype=np.int64)
    for row in range(utterances):
        np.add.at(out[row], ballots[row, order[row, : taken[row]]], 1)
    return out


def compare(utterances: int, seeds: list[int]) -> None:
    chance = np.random.default_rng(0)
    humans = human_counts()
    real = figures(humans, chance)
    runs = [figures(simulated_counts(utterances, seed, humans.sum(1), chance), chance) for seed in seeds]
    print(f"{len(humans)} clips; {len(seeds)} x {utterances} simulated utterances (mean, lowest, highest)")
    print(f"{'':32}{'CREMA-D':>9}{'simulated':>11}{'':>15}{'off by':>9}")
    for name, value in real.items():
        values = [run[name] for run in runs]
        mean = float(np.mean(values))
        off = f"{100 * (mean - value):+.1f} pt" if name.startswith("share") else f"{mean / value - 1:+.1%}"
        print(f"{name:32}{value:9.3f}{mean:11.3f}  {min(values):.3f}-{max(values):.3f}{off:>9}")


def fit() -> None:
    """Print the leanings that give crowd 0 the class shares of CREMA-D, at its current sharpness and guessing."""
    people = [speaker(index) for index in range(60)]
    wanted = np.array([turn.wanted for turn in turns_of(4000, people, seed=100)])
    humans = human_counts()
    target = humans.sum(0) / humans.sum()
    lean = np.array(listeners._LEAN)
    for _ in range(12):
        listeners._LEAN = tuple(float(x) for x in lean)
        listeners.crowd_of.cache_clear()
        lean = lean + np.log(target / listeners.true_distribution(wanted).mean(0))
        lean -= lean.mean()
    print("_LEAN =", tuple(round(float(x), 2) for x in lean))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    if options.fit:
        fit()
    else:
        compare(options.utterances, options.seeds)


if __name__ == "__main__":
    main()
