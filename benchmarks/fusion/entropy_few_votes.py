"""The errors of corrections of the entropy for few votes: smoothed CREMA-D clips, 2 to 20 votes per clip.

python benchmarks/fusion/entropy_few_votes.py FOLDER_WITH_tabulatedVotes.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import digamma

from alm_proxies.measures.divergence import entropy_nats
from alm_proxies.seeds import generator

LABELS = ["A", "D", "F", "H", "N", "S"]


def plain(c: np.ndarray) -> np.ndarray:
    return entropy_nats(c / c.sum(1, keepdims=True))


def miller_madow(c: np.ndarray) -> np.ndarray:
    return plain(c) + ((c > 0).sum(1) - 1) / (2 * c.sum(1))


def grassberger(c: np.ndarray) -> np.ndarray:
    n = c.sum(1)
    g = digamma(np.where(c > 0, c, 1)) + 0.5 * (-1) ** c * (digamma((c + 1) / 2 + 0.0) - digamma(np.maximum(c, 1) / 2))
    return np.log(n) - (np.where(c > 0, c * g, 0)).sum(1) / n


def posterior(a: float):
    def estimate(c: np.ndarray) -> np.ndarray:
        alpha = c + a
        total = alpha.sum(1)
        return digamma(total + 1) - (alpha * digamma(alpha + 1)).sum(1) / total

    return estimate


def chao_shen(c: np.ndarray) -> np.ndarray:
    """-sum p ln p / (1 - (1 - p)^n) with p = C c / n and coverage C = 1 - (labels voted once) / n (2003)."""
    n = c.sum(1, keepdims=True)
    once = (c == 1).sum(1, keepdims=True)
    p = (1.0 - np.where(once == n, n - 1, once) / n) * c / n
    chance = np.where(c > 0, 1.0 - (1.0 - p) ** n, 1.0)
    return -(p * np.log(np.where(c > 0, p, 1.0)) / chance).sum(1)


ESTIMATORS = {
    "plain": plain,
    "miller_madow": miller_madow,
    "grassberger": grassberger,
    **{f"posterior a={a:.3f}": posterior(a) for a in (1 / 6, 1 / 3, 0.5, 1.0)},
    "chao_shen": chao_shen,
}


def main(folder: Path) -> None:
    table = pl.read_csv(folder / "tabulatedVotes.csv", null_values="NA", infer_schema_length=None)
    table = table.filter(pl.col("").cast(pl.Int64) // 100_000 == 1).filter(pl.sum_horizontal(LABELS) >= 9)
    counts = table.select(LABELS).to_numpy().astype(float)
    rng = generator(0, "entropy")
    for smoothing in (0.0, 0.5, 2.0):
        prior = counts.sum(0) / counts.sum()
        truth = (counts + smoothing * prior) / (counts.sum(1, keepdims=True) + smoothing)
        exact = entropy_nats(truth)
        print(
            f"truth: shares of {len(counts)} clips smoothed by {smoothing} votes; mean entropy {exact.mean():.3f} nats"
        )
        for n in (2, 3, 5, 10, 20):
            c = np.concatenate([rng.multinomial(n, truth) for _ in range(10)])
            e = np.tile(exact, 10)
            cells = []
            for name, estimator in ESTIMATORS.items():
                error = estimator(c) - e
                cells.append(f"{name} {error.mean():+.3f}/{np.sqrt((error**2).mean()):.3f}")
            print(f"  n={n:2d} bias/rmse: " + "  ".join(cells))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
