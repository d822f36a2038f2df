"""Fusion compared with other methods on the same votes: log loss and JSD to the same held-out votes, each at its best.

Two tables. CREMA-D: three voice votes of every clip (their raters have no names: one worker who votes three times),
one proxy (audio-visual raters, one vote each, or the listener of --features), four other voice votes held out.
Made-up crowds of `known_raters`: five named votes an utterance, 0 to 30 % spam, no proxies.

Every rival gets the temperature, and the share of an even distribution mixed in, that are best for the very votes it is
scored on, which it could not know, and of the proxy's votes either all or the first choice alone, whichever is better;
ours gets none of that. Rivals that model one true label for each utterance give its
posterior. CROWDLAB gets class probabilities of the proxy (its shares, a tenth of a vote added to each label). Bayesian
classifier combination (iBCC, variational) is written out below, since no package has it. Prediction-powered inference
(PPI) estimates the shares of the corpus alone: every utterance gets these. Differences from `auto` are paired over
actors (CREMA-D) or utterances (crowds), losses averaged over seeds.

crowd-kit comes with the tests' environment; cleanlab and peerannot are taken where they can be imported, for example
from `pip install --no-deps --target FOLDER cleanlab termcolor peerannot sparse` with FOLDER on PYTHONPATH.

    ALM_PROXIES_TEST_DATA=... python benchmarks/fusion/rivals.py [--seeds 5] [--features FILE]
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from crema_votes import jsd
from crowdkit.aggregation import GLAD, MACE, DawidSkene, OneCoinDawidSkene
from known_raters import crowd
from scipy.special import digamma
from stacking import Samples

from alm_proxies.estimators.counts import Array, Counts, Index
from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.trials import Losses, paired
from alm_proxies.measures.class_shares import class_shares

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
CROWD = (1000, 5, 60)
TEMPERATURES = np.geomspace(0.5, 100.0, 80)


@dataclass(frozen=True)
class Ballots:
    """Single votes in the form of the rivals: utterance, worker and label of each; and the proxy's class shares."""

    rows: int
    task: Index
    worker: Index
    label: Index
    shares: Array | None

    def frame(self) -> pd.DataFrame:
        """One row per vote, in the form of crowd-kit."""
        return pd.DataFrame({"task": self.task, "worker": self.worker, "label": self.label})

    def matrix(self) -> Array:
        """Utterances x workers, nan where there is no vote; a worker who votes n times is n workers."""
        order = np.lexsort((self.task, self.worker))
        keys = self.worker[order] * self.rows + self.task[order]
        first = np.searchsorted(keys, keys)
        turn = np.empty(len(keys), dtype=np.int64)
        turn[order] = np.arange(len(keys)) - first
        name = np.unique(np.stack([self.worker, turn]), axis=1, return_inverse=True)[1].ravel()
        filled = np.full((self.rows, name.max() + 1), np.nan)
        filled[self.task, name] = self.label
        return filled


def ballots(counts: Counts, first_choice: bool) -> Ballots:
    """The votes of some counts: named raters where there are any; else the crowd is one worker, and each proxy one.

    first_choice: the proxy casts one vote for its most frequent label, in place of all of its votes.
    """
    rows = len(counts.human)
    named = counts.raters
    if named is not None:
        return Ballots(rows, named.rows, named.raters, named.vectors.argmax(1), None)
    parts, shares = [(0, counts.human)], None
    for number, block in enumerate(counts.blocks, start=1):
        shares = block.counts
        if block.kind != "shares":
            shares = (shares + 0.1) / (shares + 0.1).sum(1, keepdims=True)
        one_vote = first_choice or block.kind == "shares"  # a distribution has no votes
        parts.append((number, np.eye(len(LABELS))[shares.argmax(1)] if one_vote else block.counts))
    task, worker, label = [], [], []
    for number, votes in parts:
        row, column = np.nonzero(votes)
        times = votes[row, column].astype(int)
        task.append(row.repeat(times))
        label.append(column.repeat(times))
        worker.append(np.full(times.sum(), number))
    return Ballots(rows, np.concatenate(task), np.concatenate(worker), np.concatenate(label), shares)


def relative(given: Ballots) -> Array:
    """Relative frequencies of all votes (NaiveSoft, "pooling")."""
    counts = np.zeros((given.rows, len(LABELS)))
    np.add.at(counts, (given.task, given.label), 1.0)
    total: Array = counts / counts.sum(1, keepdims=True)
    return total


def crowdkit(make: Callable[[], Any]) -> Callable[[Ballots], Array]:
    def run(given: Ballots) -> Array:
        probabilities = make().fit_predict_proba(given.frame())
        full = probabilities.reindex(index=range(given.rows), columns=range(len(LABELS)), fill_value=0.0)
        return np.asarray(full.to_numpy(dtype=np.float64))

    return run


def ibcc(given: Ballots, steps: int = 100) -> Array:
    """Independent Bayesian classifier combination (Kim & Ghahramani 2012) by variational Bayes.

    One true label an utterance, a confusion matrix a worker with Dirichlet priors: .5 for a wrong label, 1.5 for the
    right one, .5 for the shares of the labels.
    """
    workers, labels = int(given.worker.max()) + 1, len(LABELS)
    prior = 0.5 + np.eye(labels)
    truth = relative(given)
    for _ in range(steps):
        shares = digamma(truth.sum(0) + 0.5)
        confusion = np.zeros((workers, labels, labels))
        np.add.at(confusion, (given.worker, slice(None), given.label), truth[given.task])
        confusion += prior
        logs = digamma(confusion) - digamma(confusion.sum(2, keepdims=True))
        evidence = np.tile(shares, (given.rows, 1))
        np.add.at(evidence, given.task, logs[given.worker, :, given.label])
        evidence = np.exp(evidence - evidence.max(1, keepdims=True))
        before, truth = truth, evidence / evidence.sum(1, keepdims=True)
        if np.abs(truth - before).max() < 1e-6:
            break
    return truth


def crowdlab(given: Ballots) -> Array:
    """CROWDLAB's posterior, from the weights of cleanlab; checked against its own value for the consensus label."""
    from cleanlab.multiannotator import get_label_quality_multiannotator

    assert given.shares is not None
    people = replace(given, **{name: getattr(given, name)[given.worker == 0] for name in ("task", "worker", "label")})
    filled = people.matrix()
    result = get_label_quality_multiannotator(filled, given.shares, verbose=False, return_weights=True)
    quality, model = result["label_quality"], result["model_weight"]
    likely = float(quality["annotator_agreement"][quality["num_annotations"] != 1].mean())
    posterior = given.shares * model
    total = np.full(given.rows, model)
    for votes, weight in zip(filled.T, result["annotator_weight"], strict=True):
        row = np.flatnonzero(~np.isnan(votes))
        each = np.full((len(row), len(LABELS)), (1 - likely) / (len(LABELS) - 1))
        each[np.arange(len(row)), votes[row].astype(int)] = likely
        posterior[row] += weight * each
        total[row] += weight
    posterior /= total[:, None]
    consensus = posterior[np.arange(given.rows), quality["consensus_label"]]
    if not np.allclose(consensus, quality["consensus_quality_score"], atol=1e-6):
        raise SystemExit("cleanlab's CROWDLAB is another than the one written out here")
    return posterior


def weighted_ds(given: Ballots) -> Array:
    """WDS: relative frequencies, each vote weighed by its worker's accuracy for that label under Dawid-Skene.

    The accuracies are of peerannot's Dawid-Skene; its own class WDS 0.0.1.post43 fails when it makes that one.
    """
    from peerannot.models.aggregation.dawid_skene import DawidSkene as PeerAnnot

    filled = given.matrix()
    answers = {
        task: {int(worker): int(row[worker]) for worker in np.flatnonzero(~np.isnan(row))}
        for task, row in enumerate(filled)
    }
    model = PeerAnnot(answers, n_workers=filled.shape[1], n_classes=len(LABELS))
    model.run()
    task, worker = np.nonzero(~np.isnan(filled))
    label = filled[task, worker].astype(int)
    weights = np.zeros((given.rows, len(LABELS)))
    np.add.at(weights, (task, label), model.pi[worker, label, label])
    total = weights.sum(1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1 / len(LABELS))


def corpus_shares(given: Ballots) -> Array:
    """PPI++: the shares of the corpus, from the human votes of a random third and the proxy of all, for everybody."""
    assert given.shares is not None
    people = np.zeros((given.rows, len(LABELS)))
    np.add.at(people, (given.task[given.worker == 0], given.label[given.worker == 0]), 1.0)
    voted = np.flatnonzero((people.sum(1) > 0) & (np.arange(given.rows) % 3 == 0))
    others = np.setdiff1d(np.arange(given.rows), voted)
    human = people[voted] / people[voted].sum(1, keepdims=True)
    shares = np.array(class_shares(human, given.shares[voted], given.shares[others]).share)
    return np.tile(shares / shares.sum(), (given.rows, 1))


RIVALS: dict[str, Callable[[Ballots], Array]] = {
    "relative frequencies": relative,
    "Dawid-Skene (crowd-kit)": crowdkit(lambda: DawidSkene(n_iter=100)),
    "one-coin Dawid-Skene (crowd-kit)": crowdkit(lambda: OneCoinDawidSkene(n_iter=100)),
    "GLAD (crowd-kit)": crowdkit(lambda: GLAD(n_iter=50, silent=True)),
    "MACE (crowd-kit)": crowdkit(lambda: MACE(n_restarts=5, random_state=0, verbose=0)),
    "weighted Dawid-Skene (peerannot)": weighted_ds,
    "iBCC": ibcc,
}
WITH_PROXY: dict[str, Callable[[Ballots], Array]] = {
    "CROWDLAB (cleanlab)": crowdlab,
    "corpus shares (PPI++)": corpus_shares,
}


def nll(mean: Array, held: Array) -> Array:
    return np.asarray(-(held * np.log(np.maximum(mean, 1e-12))).sum(1))


def at_its_best(mean: Array, held: Array) -> Array:
    """The distributions at the temperature and uniform share with the lowest loss on the held-out votes."""
    logs = np.log(np.maximum(mean, 1e-12))
    best, least = mean, np.inf
    for temperature in TEMPERATURES:
        tempered = np.exp((logs - logs.max(1, keepdims=True)) / temperature)
        tempered /= tempered.sum(1, keepdims=True)
        for even in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
            mixed = (1 - even) * tempered + even / mean.shape[1]
            loss = float(nll(mixed, held).sum())
            if loss < least:
                best, least = mixed, loss
    return best


def ours(counts: Counts, seed: int) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        fit = Stack(seed=seed, quiet=True).fit(counts)
    return fit.posterior(fit.aligned(counts)).mean


def ways(counts: Counts) -> list[Ballots]:
    """The votes with all votes of a proxy, and with only its first choice, if these differ."""
    both = any(block.kind != "shares" for block in counts.blocks)
    return [ballots(counts, first_choice) for first_choice in ((False, True) if both else (False,))]


def measure(draws: list[tuple[Counts, Array, Index]], rivals: dict[str, Callable[[Ballots], Array]]) -> None:
    """One table: every rival and `auto` on the same draws; a draw is counts, held-out votes and groups (actors)."""
    scores: dict[str, list[tuple[Array, Array]]] = {}
    seconds: dict[str, float] = {}
    for seed, (counts, held, _) in enumerate(draws):
        for name, rival in {"auto": None, **rivals}.items():
            begin = time.perf_counter()
            try:
                means = [ours(counts, seed)] if rival is None else [rival(given) for given in ways(counts)]
            except ImportError as error:
                if not seed:
                    print(f"left out: {name} ({error})", flush=True)
                continue
            seconds[name] = seconds.get(name, 0.0) + (time.perf_counter() - begin) / len(means)
            if rival is not None:
                means = [at_its_best(mean, held) for mean in means]
            mean = min(means, key=lambda mean: float(nll(mean, held).sum()))
            scores.setdefault(name, []).append((nll(mean, held), jsd(mean, held)))
    votes = np.mean([held.sum(1) for _, held, _ in draws], axis=0)
    groups = draws[0][2]

    def losses(name: str, column: int, weight: Array) -> Losses:
        loss = np.mean([each[column] for each in scores[name]], axis=0)
        return Losses(np.where(weight > 0, loss, 0.0), weight)

    print("\n| method | NLL | JSD | NLL less `auto` (95 %) | s |\n|---|---|---|---|---|")
    for name in sorted(scores, key=lambda name: float(losses(name, 0, votes).mean)):
        gap = paired(losses(name, 0, votes), losses("auto", 0, votes), groups)
        cells = [name, f"{losses(name, 0, votes).mean:.3f}", f"{losses(name, 1, (votes > 0).astype(float)).mean:.3f}"]
        cells += ["" if name == "auto" else f"{gap.estimate:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"]
        print("| " + " | ".join([*cells, f"{seconds[name] / len(draws):.1f}"]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--features", type=Path, default=None)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", NotConvergedWarning)
    samples = Samples(Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "tabulatedVotes.csv", arguments.features)
    for proxies in ("none", "audio-visual", *(["listener"] if arguments.features else [])):
        print(f"\n## CREMA-D, three voice votes, proxies: {proxies}")
        draws = [(*samples.sample(None, seed, 3, proxies, 2), samples.actor) for seed in range(arguments.seeds)]
        measure(draws, RIVALS | (WITH_PROXY if proxies != "none" else {}))
    for spam in (0.0, 0.1, 0.3):
        print(f"\n## A made-up crowd, five named votes, {spam:.0%} spam")
        crowds = [crowd(*CROWD, spam, seed) for seed in range(arguments.seeds)]
        measure([(counts, held, np.arange(len(held))) for counts, held in crowds], RIVALS)


if __name__ == "__main__":
    main()
