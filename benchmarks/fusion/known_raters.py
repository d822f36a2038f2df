"""The value of rater names: simulated crowds from clean to 30 % spam, and the time for a million votes.

A crowd: raters slip (Beta(2, 18)) to a habit of their own; spammers vote by habit whatever they hear. Rater activity is
uneven (Gamma(1.5)). k votes an utterance are fused, four others of the same crowd are held out. `auto` is fitted with
the names and without them; `dawid_skene` at its best temperature for comparison. Differences are paired over
utterances, seeds together.

    python benchmarks/fusion/known_raters.py [--seeds 3] [--speed]
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace

import numpy as np
import polars as pl

from alm_proxies.estimators.ballot_raters import BallotRaters
from alm_proxies.estimators.counts import Array, Counts, Index, counts_of
from alm_proxies.estimators.dawid_skene import DawidSkene
from alm_proxies.estimators.estimator import NotConvergedWarning, labels_of
from alm_proxies.estimators.known_raters import KnownRaters
from alm_proxies.estimators.stack import Stack
from alm_proxies.seeds import generator
from alm_proxies.tables import About, Votes

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
SHARES = np.array([0.15, 0.12, 0.1, 0.18, 0.3, 0.15])
CROWDS = ((400, 3, 40), (1000, 3, 60), (1000, 5, 60), (3000, 3, 100), (1000, 3, 400))
"""Utterances, votes, raters."""
SPAM = (0.0, 0.1, 0.2, 0.3)
HELD = 4


def crowd(n: int, votes: int, raters: int, spam: float, seed: int) -> tuple[Counts, Array]:
    """Counts with the names of the raters, and held-out counts."""
    rng = generator(seed, "crowd", n, votes, raters, spam)
    kind = rng.choice(6, n, p=SHARES)
    truth = np.stack([rng.dirichlet(1.5 * SHARES + 2.2 * np.eye(6)[c]) for c in kind])
    slip = rng.beta(2, 18, raters)
    slip[: round(spam * raters)] = 1.0
    habit = rng.dirichlet(np.ones(6), raters)
    confusion = (1 - slip)[:, None, None] * np.eye(6) + slip[:, None, None] * habit[:, None]
    active = rng.gamma(1.5, size=raters) + 1e-3
    keys = np.log(rng.random((n, raters))) / active  # the highest keys are a draw without replacement
    who = np.argpartition(-keys, votes + HELD, axis=1)[:, : votes + HELD].astype(np.int64)
    who = rng.permuted(who, axis=1)
    share = np.einsum("uk,uvkl->uvl", truth, confusion[who])
    cast = np.eye(6)[(share.cumsum(2) > rng.random((n, votes + HELD, 1))).argmax(2)]
    names = tuple(f"c/r{rater:03d}" for rater in range(raters))
    rows = np.repeat(np.arange(n), votes)
    ballots = BallotRaters(names, rows, who[:, :votes].ravel(), cast[:, :votes].reshape(-1, 6))
    ids = pl.Series("utterance_id", [f"u{row:06d}" for row in range(n)])
    human = cast[:, :votes].sum(1)
    counts = Counts(LABELS, ids, human, (), np.zeros((n, 0)), np.arange(n) % 50, True, None, (), raters=ballots)
    return counts, cast[:, votes:].sum(1)


def table(counts: Counts) -> Votes:
    ballots = counts.raters
    assert ballots is not None
    frame = pl.DataFrame(
        {
            "utterance_id": counts.utterances.gather(ballots.rows),
            "annotator": np.array(ballots.names)[ballots.raters],
            "label": np.array(LABELS)[ballots.vectors.argmax(1)],
        }
    )
    return Votes.of(frame, taxonomy=LABELS)


def loss(mean: Array, held: Array) -> Array:
    return -(held * np.log(np.maximum(mean, 1e-12))).sum(1)


def best_tempered(mean: Array, held: Array) -> float:
    """Its loss at the best temperature for these votes, which a rival cannot know."""
    logs = np.log(np.maximum(mean, 1e-12))
    tempered = (np.exp(logs / heat) for heat in np.geomspace(1.0, 100.0, 60))
    return min(float(loss(p / p.sum(1, keepdims=True), held).mean()) / HELD for p in tempered)


def compare(seeds: int) -> None:
    print(
        "| utterances | votes | raters | votes a rater | spam | auto without names | with | difference (95 %) |", end=""
    )
    print(" names count | dawid_skene |\n|" + "---|" * 10)
    for n, votes, raters in CROWDS:
        for spam in SPAM:
            gaps, blind_loss, known_loss, classical, used = [], [], [], [], 0
            for seed in range(seeds):
                counts, held = crowd(n, votes, raters, spam, seed)
                blind = replace(counts, raters=None)
                fits = (Stack(seed=seed, quiet=True).fit(counts), Stack(seed=seed, quiet=True).fit(blind))
                means = [
                    fit.posterior(fit.aligned(given)).mean for fit, given in zip(fits, (counts, blind), strict=True)
                ]
                each = [loss(mean, held) / HELD for mean in means]
                gaps.append(each[0] - each[1])
                known_loss.append(each[0].mean())
                blind_loss.append(each[1].mean())
                used += fits[0].learned_.raters_count
                labels = DawidSkene().fit(table(counts)).predict(table(counts))
                classical.append(best_tempered(labels.distributions(), held))
            gap = np.concatenate(gaps)
            half = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap))
            cells = [f"{n:,}", votes, raters, round(n * votes / raters), f"{spam:.0%}", f"{np.mean(blind_loss):.4f}"]
            cells += [f"{np.mean(known_loss):.4f}"]
            cells += [f"{gap.mean():+.4f} ({gap.mean() - half:+.4f} to {gap.mean() + half:+.4f})"]
            cells += [f"{used} of {seeds}", f"{np.mean(classical):.3f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def speed() -> None:
    """A million votes: counting, a fit to a sample, the labels of all, and a fit to all."""
    n, votes, raters = 200_000, 5, 400
    rng: np.random.Generator = generator(0, "speed")
    who: Index = (np.argsort(rng.random((n, 40)), axis=1)[:, :votes] + 40 * rng.integers(0, 10, (n, 1))).astype(
        np.int64
    )
    kind = rng.choice(6, n, p=SHARES)
    right = rng.random((n, votes)) < rng.beta(6, 3, raters)[who]
    label = np.where(right, kind[:, None], rng.integers(0, 6, (n, votes)))
    frame = pl.DataFrame(
        {
            "utterance_id": np.repeat([f"c/{row:06d}" for row in range(n)], votes),
            "annotator": np.array([f"c/r{number:03d}" for number in range(raters)])[who.ravel()],
            "label": np.array(LABELS)[label.ravel()],
        }
    )
    cast = Votes.of(frame, taxonomy=LABELS)
    start = time.perf_counter()
    counts = counts_of(cast)
    counted = time.perf_counter()
    fit = KnownRaters().fit(counts)
    fitted = time.perf_counter()
    labels_of(fit, counts, About())
    done = time.perf_counter()
    print(
        f"{n * votes:,} votes, {raters} raters: counted {counted - start:.1f} s, fitted to {fit.rows:,} utterances ",
        end="",
    )
    print(f"{fitted - counted:.1f} s ({fit.iterations_} iterations), labels of all {done - fitted:.1f} s")
    whole = KnownRaters(rows=n).fit(counts)
    print(f"fitted to all votes {time.perf_counter() - done:.1f} s ({whole.iterations_} iterations)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", NotConvergedWarning)
    if arguments.speed:
        speed()
    else:
        compare(arguments.seeds)


if __name__ == "__main__":
    main()
