"""auto's stack against a plain average, the single best method and the best weights: samples of CREMA-D clips.

A sample is N clips of half of the actors; three voice votes of each are fused (--votes), four others are held out.
Proxies: audio-visual raters, face raters, audio-visual raters shuffled over clips (worthless), both audio-visual and
shuffled, and two distributions as a listener gives them (`score`), by softmax regression on the sample's own votes in
five folds of actors: `strong` regresses on the audio-visual shares (a stand-in), `listener` on one row of features a
clip (--features: an .npz with `names`, file names without extension, and `x`). Designs were decided on --half 0: every
second actor, at first with the lockbox's five among them, which it leaves out now; the tables are of --half 1. Losses
are summed by actor over samples and paired over actors; error / promised has a bootstrap interval over actors.

    ALM_PROXIES_TEST_DATA=... python benchmarks/fusion/stacking.py --runs runs.jsonl [--sizes 200,400,1000,all]
        [--samples 0:20] [--votes 3] [--proxies none,audio-visual,...] [--features FILE] [--half 1] [--chosen 3]

Runs already in the file are not made again; `--report` prints the tables of what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from crema_votes import Corpus, jsd
from cross_fitted import parts_of_promise

from alm_proxies.estimators.chosen import Chosen
from alm_proxies.estimators.counts import Array, Block, Counts, Index
from alm_proxies.estimators.dirichlet import Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning, minimise
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.likelihood import softmax
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.pooling import stacking_weights
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.trials import Losses, folds_of, paired
from alm_proxies.seeds import generator

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from study_design import LOCKBOX

PROXIES = ("none", "audio-visual", "face", "shuffled", "audio-visual beside shuffled", "strong", "listener")
ENTROPY_CUTS = (0.4, 0.8)


class Samples:
    """The corpus, and samples of it with their proxies."""

    def __init__(self, table: Path, features: Path | None) -> None:
        self.corpus = Corpus(table)
        self.actor = self.corpus.actors.rank("dense").to_numpy().astype(np.int64) - 1
        self.features = None
        if features is not None:
            with np.load(features) as held:
                place = {name: row for row, name in enumerate(held["names"].tolist())}
                self.features = held["x"][[place[name] for name in self.names(table)]]

    @staticmethod
    def names(table: Path) -> list[str]:
        """The clips' file names, in the corpus's order."""
        frame = pl.read_csv(table, infer_schema_length=None, null_values=["NA"])
        frame = frame.rename({frame.columns[0]: "row"}).filter(pl.col("row") // 100_000 == 1).sort("row")
        return frame["fileName"].to_list()

    def sample(self, size: int | None, seed: int, votes: int, proxies: str, half: int) -> tuple[Counts, Array]:
        """Counts of the sample with its proxies, and its held-out votes."""
        corpus = self.corpus
        kept, held = corpus.split(seed, max(votes, 3))
        pool = np.flatnonzero(self.actor % 2 == half) if half < 2 else np.arange(len(self.actor))
        if half == 0:
            pool = pool[~corpus.actors.is_in(list(LOCKBOX)).to_numpy()[pool]]
        rng = generator(seed, "sample", size or 0)
        rows = (pool if size is None else np.sort(rng.choice(pool, size, replace=False))).astype(np.int64)
        shuffled = corpus.audio_visual[rng.permutation(len(self.actor))]
        sources = {
            "audio-visual": {"audio-visual": corpus.audio_visual},
            "face": {"face": corpus.face},
            "shuffled": {"shuffled": shuffled},
            "audio-visual beside shuffled": {"audio-visual": corpus.audio_visual, "shuffled": shuffled},
        }
        counts = corpus.counts(kept[votes], sources.get(proxies, {})).rows(rows)
        if proxies in ("strong", "listener"):
            share = (corpus.audio_visual + 0.3) / (corpus.audio_visual + 0.3).sum(1, keepdims=True)
            inputs = np.log(share) if proxies == "strong" else self.features
            if inputs is None:
                raise SystemExit("the listener needs --features")
            counts = listened(counts, inputs[rows], self.actor[rows], seed, 1e-3 if proxies == "strong" else 3e-2)
        return counts, held[rows]


def listened(counts: Counts, inputs: Array, actor: Index, seed: int, penalty: float) -> Counts:
    """The counts with a distribution for each clip, from a softmax regression without its actor."""
    centred = inputs.astype(np.float64).copy()
    for speaker in np.unique(actor):
        own = actor == speaker
        centred[own] -= centred[own].mean(0) * own.sum() / (own.sum() + 3)
    shares = np.zeros_like(counts.human)
    fold = folds_of(counts, 5, seed + 77)
    for part in range(int(fold.max()) + 1):
        train, test = fold != part, fold == part
        mean, spread = centred[train].mean(0), centred[train].std(0) + 1e-6
        weights = regressed((centred[train] - mean) / spread, counts.human[train], penalty)
        shares[test] = softmax(np.c_[(centred[test] - mean) / spread, np.ones(test.sum())] @ weights)
    shares = np.maximum(shares, 1e-3)
    shares /= shares.sum(1, keepdims=True)
    return replace(counts, blocks=(Block("listener", ("listener",), "shares", shares, np.ones(len(shares))),))


def regressed(inputs: Array, votes: Array, penalty: float) -> Array:
    """Softmax regression of votes, with a ridge; the last row of the weights is the bias."""
    wide, total = np.c_[inputs, np.ones(len(inputs))], votes.sum()

    def objective(theta: Array) -> tuple[float, Array]:
        weights = theta.reshape(wide.shape[1], -1)
        mean = softmax(wide @ weights)
        slope = wide.T @ (mean * votes.sum(1, keepdims=True) - votes) / total
        slope[:-1] += penalty * weights[:-1]
        loss = -float((votes * np.log(np.maximum(mean, 1e-300))).sum()) / total
        return loss + 0.5 * penalty * float(np.square(weights[:-1]).sum()), slope.ravel()

    solution: Array = minimise(objective, np.zeros(wide.shape[1] * votes.shape[1]), 200).x
    return solution.reshape(wide.shape[1], -1)


def posterior_mean(fit: Estimator, counts: Counts) -> Array:
    return fit.posterior(fit.aligned(counts)).mean


def one_run(samples: Samples, run: dict[str, Any], chosen: bool) -> dict[str, Any]:
    """Losses by actor of every rival, calibration, printed gains, weights."""
    counts, held = samples.sample(run["size"], run["sample"], run["votes"], run["proxies"], run["half"])
    stack = Stack(seed=run["sample"]).fit(counts)
    auto = stack.posterior(stack.aligned(counts))
    beside = run["proxies"] != "none"
    rivals = [Weighted(), Gated(16, 0.001, seed=run["sample"]), Mixture(16, seed=run["sample"])]
    means = {"auto": auto.mean}
    if beside:
        each = [posterior_mean(rival.fit(counts), counts) for rival in rivals]
        means |= {"plain average": np.mean(each, axis=0), "weighted": each[0], "gated": each[1], "mixture": each[2]}
        alone = Stack(seed=run["sample"]).fit(counts.only(()))
        means["auto without proxies"] = posterior_mean(alone, counts.only(()))
    if chosen:
        means["chosen"] = posterior_mean(Chosen(seed=run["sample"]).fit(counts), counts)
    means["best weights"] = best_weights(stack, counts, held)
    votes = held.sum(1)
    entropy = -(held / np.maximum(votes, 1)[:, None] * np.log(np.maximum(held / np.maximum(votes, 1)[:, None], 1e-300)))
    stratum = np.searchsorted(np.array(ENTROPY_CUTS), entropy.sum(1))
    speakers, speaker = np.unique(counts.speakers, return_inverse=True)

    def by_speaker(values: Array, rows: np.ndarray | None = None) -> list[float]:
        kept = values if rows is None else np.where(rows, values, 0.0)
        return np.bincount(speaker, weights=kept, minlength=len(speakers)).round(6).tolist()

    losses = {name: -(held * np.log(np.maximum(mean, 1e-12))).sum(1) for name, mean in means.items()}
    error, claim = parts_of_promise(auto, held)
    gains = {str(gain.context): gain.interval.estimate for gain in stack.learned_.gains}
    level = stack.learned_.beside
    return run | {
        "speakers": speakers.tolist(),
        "held": by_speaker(votes),
        "losses": {name: by_speaker(loss) for name, loss in losses.items()},
        "jsd": {name: float(jsd(mean, held)[votes > 0].mean()) for name, mean in means.items()},
        "strata": {
            str(third): {"held": by_speaker(votes, stratum == third)}
            | {name: by_speaker(losses[name], stratum == third) for name in ("auto", "weighted") if name in losses}
            for third in range(3)
        },
        "error": by_speaker(error),
        "claim": by_speaker(claim),
        "gains": gains,
        "share": stack.share_,
        "scale": level.scale if level is not None and stack.share_ else stack.learned_.alone.scale,
        "weights": dict(level.weights) if level is not None else {},
        "weights_without": dict(stack.learned_.alone.weights),
    }


def best_weights(stack: Stack, counts: Counts, held: Array) -> Array:
    """The members' predictions of these labels, pooled by weights from held-out votes of other actors."""
    members = [
        *((member, counts) for _, member in stack.members_),
        *((member, counts.only(())) for _, member in stack.members_without_),
    ]
    means = np.stack([posterior_mean(member, given) for member, given in members])
    fold = folds_of(counts, 5, 991)
    mean = np.zeros_like(held)
    for part in range(int(fold.max()) + 1):
        own, others = fold == part, fold != part
        mean[own] = np.tensordot(stacking_weights(means[:, others], held[others], 5.0), means[:, own], 1)
    return mean


def pooled(runs: Iterable[dict[str, Any]], first: str, second: str, stratum: str | None = None) -> tuple[float, ...]:
    """Loss of the first less that of the second a held-out vote, paired over actors: mean, low, high."""
    sums: dict[int, list[float]] = {}
    for run in runs:
        source = run["losses"] if stratum is None else run["strata"][stratum]
        held = run["held"] if stratum is None else run["strata"][stratum]["held"]
        for speaker, a, b, n in zip(run["speakers"], source[first], source[second], held, strict=True):
            total = sums.setdefault(speaker, [0.0, 0.0, 0.0])
            total[0], total[1], total[2] = total[0] + a, total[1] + b, total[2] + n
    rows = np.array(list(sums.values()))
    gap = paired(Losses(rows[:, 0], rows[:, 2]), Losses(rows[:, 1], rows[:, 2]), np.arange(len(rows)))
    return gap.estimate, gap.low, gap.high


def over_promised(runs: Iterable[dict[str, Any]]) -> tuple[float, ...]:
    """Squared error over what is promised, with the ends of a bootstrap over actors."""
    sums: dict[int, Array] = {}
    for run in runs:
        for speaker, *parts in zip(run["speakers"], run["error"], run["claim"], strict=True):
            sums[speaker] = sums.get(speaker, np.zeros(2)) + parts
    rows = np.array(list(sums.values()))
    drawn = generator(0, "actors").multinomial(len(rows), np.full(len(rows), 1.0 / len(rows)), 2000) @ rows
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975]).tolist()
    return float(rows[:, 0].sum() / rows[:, 1].sum()), low, high


def report(runs: list[dict[str, Any]]) -> None:
    keys = sorted({(r["votes"], PROXIES.index(r["proxies"]), r["size"] or 10**9) for r in runs})
    groups = {
        key: [r for r in runs if (r["votes"], PROXIES.index(r["proxies"]), r["size"] or 10**9) == key] for key in keys
    }

    def words(numbers: tuple[float, ...]) -> str:
        return f"{numbers[0]:+.4f} ({numbers[1]:+.4f} to {numbers[2]:+.4f})"

    heads = ["votes", "proxies", "clips", "samples", "auto NLL", "less plain average", "less single best [samples]"]
    heads += ["less best weights at k", "less weighted, highest entropy", "less without proxies"]
    heads += ["printed, k - 1 given", "error / promised"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for (votes, proxies, size), some in groups.items():
        nll = sum(sum(r["losses"]["auto"]) for r in some) / sum(sum(r["held"]) for r in some)
        with_choice = [r for r in some if "chosen" in r["losses"]]
        beside = "plain average" in some[0]["losses"]
        printed = [r["gains"].get(str(votes - 1), 0.0) for r in some]
        cells = [
            str(votes),
            PROXIES[proxies],
            "all" if size == 10**9 else str(size),
            str(len(some)),
            f"{nll:.4f}",
            words(pooled(some, "auto", "plain average")) if beside else "",
            words(pooled(with_choice, "auto", "chosen")) + f" [{len(with_choice)}]" if with_choice else "",
            words(pooled(some, "auto", "best weights")),
            words(pooled(some, "auto", "weighted", "2")) if beside else "",
            words(pooled(some, "auto", "auto without proxies")) if beside else "",
            f"{np.mean(printed):+.4f}" if beside else "",
            "{:.2f} ({:.2f} to {:.2f})".format(*over_promised(some)),
        ]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sizes", default="200,400,1000,all")
    parser.add_argument("--samples", default="0:20")
    parser.add_argument("--votes", default="3")
    parser.add_argument("--proxies", default=",".join(PROXIES[:-1]))
    parser.add_argument("--features", type=Path, default=None)
    parser.add_argument("--half", type=int, default=1, help="0 or 1: every second actor, 0 without the lockbox; 2: all")
    parser.add_argument("--chosen", type=int, default=3, help="samples in which the single best method is found too")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    done = [json.loads(line) for line in arguments.runs.read_text().splitlines()] if arguments.runs.exists() else []
    if arguments.report:
        report(done)
        return
    warnings.simplefilter("ignore", NotConvergedWarning)
    table = Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "tabulatedVotes.csv"
    samples = Samples(table, arguments.features)
    first, last = (int(part) for part in arguments.samples.split(":"))
    known = {tuple(run[key] for key in ("size", "sample", "votes", "proxies", "half")) for run in done}
    for sample in range(first, last):
        for size in (None if part == "all" else int(part) for part in arguments.sizes.split(",")):
            for votes in (int(part) for part in arguments.votes.split(",")):
                for proxies in arguments.proxies.split(","):
                    if (size, sample, votes, proxies, arguments.half) in known:
                        continue
                    run = {"size": size, "sample": sample, "votes": votes, "proxies": proxies, "half": arguments.half}
                    row = one_run(samples, run, sample < arguments.chosen)
                    with arguments.runs.open("a") as stream:
                        stream.write(json.dumps(row) + "\n")
                    done.append(row)
    report(done)


if __name__ == "__main__":
    main()
