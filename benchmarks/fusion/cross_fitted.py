"""Labels of an utterance from a fit without its votes, against labels from one fit to all votes.

CREMA-D as in real_votes.py (three voice votes a clip, audio-visual proxies or none, four votes held out), all actors
and a quarter of them at a time. Both labels are made from the same votes of the clip by `auto`; for the
first it is fitted again without the actor's fold. Printed: NLL of the held-out votes, the difference with a paired
interval over actors, and the squared error that pairs of held-out votes show over what the concentration promises.

    ALM_PROXIES_TEST_DATA=... python benchmarks/fusion/cross_fitted.py
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from crema_votes import Corpus, losses

from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.estimator import NotConvergedWarning, Posterior
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.trials import folds_of, paired

FOLDS = 5


def both(counts: Counts) -> tuple[Posterior, Posterior]:
    """The labels from one fit, and from fits to the actors of the other folds."""
    stack = Stack().fit(counts)
    stacked = stack.posterior(stack.aligned(counts))
    fold = folds_of(counts, FOLDS, 0)
    mean, strength = np.zeros_like(stacked.mean), np.zeros_like(stacked.concentration)
    for number in range(int(fold.max()) + 1):
        own, others = (np.flatnonzero(part).astype(np.int64) for part in (fold == number, fold != number))
        fit = Stack().fit(counts.rows(others))
        posterior = fit.posterior(fit.aligned(counts.rows(own)))
        mean[own], strength[own] = posterior.mean, posterior.concentration
    return stacked, Posterior(mean, strength)


def parts_of_promise(posterior: Posterior, held: Array) -> tuple[Array, Array]:
    """Squared error to the truth, and its expected value, of each clip; (v - p)(w - p) of two votes is unbiased."""
    votes, mean = held.sum(1), posterior.mean
    error = np.square(held - votes[:, None] * mean).sum(1) - (held * (1 - 2 * mean)).sum(1) - votes * (mean**2).sum(1)
    rows = votes >= 2
    claim = (1 - np.square(mean).sum(1)) / (posterior.concentration + 1)
    return np.where(rows, error / np.maximum(votes * (votes - 1), 1), 0.0), np.where(rows, claim, 0.0)


def promised(posterior: Posterior, held: Array) -> float:
    """Squared error to the truth relative to its expectation from the concentration."""
    error, claim = parts_of_promise(posterior, held)
    return float(error.sum() / claim.sum())


def main() -> None:
    warnings.simplefilter("ignore", NotConvergedWarning)
    corpus = Corpus(Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "tabulatedVotes.csv")
    actor = corpus.actors.rank("dense").to_numpy() - 1
    kept, held = corpus.split(0, 3)
    print("| clips | proxies | one fit | fits to others | difference | error / promised |\n|---|---|---|---|---|---|")
    for rows in (np.arange(len(actor)), *(np.flatnonzero(actor % 4 == part) for part in range(4))):
        for name, proxies in (("none", {}), ("audio-visual", {"audio-visual": corpus.audio_visual})):
            counts = corpus.counts(kept[3], proxies).rows(rows)
            stacked, others = both(counts)
            first, second = losses(stacked.mean, held[rows])[0], losses(others.mean, held[rows])[0]
            gap = paired(second, first, counts.speakers)
            print(
                f"| {len(rows)} | {name} | {first.mean:.4f} | {second.mean:.4f} | {gap.mean:+.4f} ({gap.low:+.4f} to "
                f"{gap.high:+.4f}) | {promised(stacked, held[rows]):.2f}, {promised(others, held[rows]):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
