"""Does the balanced-population estimate cover the truth? python benchmarks/balance/evaluation_sets.py [--draws 500]

A simulated population: five kinds of utterance, one of them half of all, each with its own spread of true
distributions; speakers differ in which kinds they utter. A model predicts from evidence of its own. Few votes are
fitted, others are held out. The truth is the model's log loss in the population nearest to this one whose TRUE
distributions have the same share of every label. Estimates: weights by exact posterior means, by posterior means of an
estimator of ours fitted to the votes of each draw, by raw shares of the same votes, and by raw shares of the scored
votes.
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.estimators.counts import counts_of
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.measures.balanced_population import BalancedPopulation, balanced_population
from alm_proxies.tables import Votes

Array = NDArray[np.float64]
KINDS = 5
PRIOR = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
SPREAD = 4.0 * np.eye(KINDS) + 0.4 + np.outer(np.ones(KINDS), [0.8, 0, 0, 0, 0])
LABELS = tuple("abcde")


def population(rng: np.random.Generator, speakers: int, each: int) -> tuple[Array, Array]:
    """True distributions and speakers."""
    habits = rng.dirichlet(8 * PRIOR, speakers)
    who = np.repeat(np.arange(speakers), each)
    kinds = (rng.random((len(who), 1)) > habits[who].cumsum(1)).sum(1).clip(max=KINDS - 1)
    drawn = rng.gamma(SPREAD[kinds])
    return drawn / drawn.sum(1, keepdims=True), who.astype(np.float64)


def posterior(counts: Array) -> Array:
    """The exact posterior mean of the true distribution, given votes."""
    from scipy.special import gammaln

    logs = np.log(PRIOR) + np.stack(
        [
            gammaln(spread.sum())
            - gammaln(spread.sum() + counts.sum(1))
            + (gammaln(spread + counts) - gammaln(spread)).sum(1)
            for spread in SPREAD
        ],
        axis=1,
    )
    shares = np.exp(logs - logs.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    each = np.stack([(spread + counts) / (spread + counts).sum(1, keepdims=True) for spread in SPREAD], axis=1)
    means: Array = np.einsum("ik,ikl->il", shares, each)
    return means


def fitted(counts: Array) -> Array:
    """The posterior mean from a mixture fitted to these votes."""
    rows = [
        {"utterance_id": f"u{row:05d}", "annotator": f"r/{draw}", "label": LABELS[label]}
        for row, votes in enumerate(counts.astype(int).tolist())
        for draw, label in enumerate(np.repeat(np.arange(KINDS), votes).tolist())
    ]
    table = counts_of(Votes.of(pl.DataFrame(rows), taxonomy=LABELS))
    return Mixture(classes=8).fit(table).predict(table).distributions()


def drawn(rng: np.random.Generator, speakers: int, each: int, votes: int) -> dict[str, Array]:
    """One test set: true distributions, speakers, fitted and held-out votes, and the loss of the model."""
    true, who = population(rng, speakers, each)
    held = rng.multinomial(4, true).astype(np.float64)
    predicted = posterior(rng.multinomial(2, true).astype(np.float64))
    loss = -(held * np.log(predicted)).sum(1) / 4
    return {
        "true": true,
        "who": who,
        "fit": rng.multinomial(votes, true).astype(np.float64),
        "held": held,
        "loss": loss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--fits", type=int, default=100)
    parser.add_argument("--replicates", type=int, default=300)
    sizes = parser.parse_args()
    rng = np.random.default_rng(0)
    for votes in (3, 6):
        everyone = drawn(rng, 4_000, 50, votes)
        truth = balanced_population(
            everyone["true"], {"loss": (everyone["loss"], 1.0)}, everyone["who"], replicates=1
        )  # fmt: skip
        assert isinstance(truth, BalancedPopulation)
        wanted, plain = truth.means["loss"].estimate, float(everyone["loss"].mean())
        print(f"{votes} fitted votes; true loss {plain:.4f} as the test set is, {wanted:.4f} balanced", flush=True)
        for speakers in (15, 40, 160):
            by_name: dict[str, list[tuple[float, bool, float, float]]] = {}
            for draw in range(sizes.draws):
                test = drawn(rng, speakers, 25, votes)
                by = {
                    "exact posterior means": posterior(test["fit"]),
                    "raw shares of the fitted votes": test["fit"] / votes,
                    "raw shares of the scored votes": test["held"] / 4,
                }
                if draw < sizes.fits:
                    by["posterior means of a fitted mixture"] = fitted(test["fit"])
                for name, means in by.items():
                    estimated = balanced_population(
                        means, {"loss": (test["loss"], 1.0)}, test["who"], seed=draw, replicates=sizes.replicates
                    )
                    if isinstance(estimated, str):
                        continue
                    loss = estimated.means["loss"]
                    shares = estimated.weights @ test["true"] / len(estimated.weights)
                    away = float(shares[0] - 1 / KINDS)
                    inside = loss.low <= wanted <= loss.high
                    by_name.setdefault(name, []).append((loss.estimate, inside, away, estimated.effective_size))
            for name, rows in by_name.items():
                estimates, inside, away, size = (
                    np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)
                )
                print(
                    f"  {speakers} speakers of 25, {name}: bias {estimates.mean() - wanted:+.4f}, covers "
                    f"{inside.mean():.3f} of {len(rows)}, true share of the commonest label {0.2 + away.mean():.3f}, "
                    f"effective size {size.mean():.0f} of {speakers * 25}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
