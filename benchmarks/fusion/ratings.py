"""Ratings of valence against known means: how far off `fuse` is, and whether `valence_error` says so.

1,000 utterances with means from N(.5, .15); 100 raters with biases (deviation .08) and deviations of their own (.05 to
.18). Every utterance has one rating, some have a second one, or all have two or three; without a proxy, and with one of
four draws (slope .8, error .06). Root mean squared errors of the plain mean and of `valence`, the mean of
`valence_error`, and the share of true means within 1.96 of it. Means of the seeds.

    python benchmarks/fusion/ratings.py [--seeds 5]
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl

from alm_proxies.estimators.attributes import Attributes
from alm_proxies.seeds import generator
from alm_proxies.tables import Votes

UTTERANCES, RATERS, DRAWS = 1000, 100, 4
CASES = (("one", 1.0), ("one, of a tenth two", 1.1), ("one, of three tenths two", 1.3), ("two", 2.0), ("three", 3.0))
"""What is printed, and the mean number of ratings."""


def rows(ids: np.ndarray, annotator: object, source: str, value: np.ndarray, draw: object = 0) -> pl.DataFrame:
    """Votes that are ratings alone."""
    columns = {"utterance_id": ids, "annotator": annotator, "source": source, "valence": value, "draw": draw}
    return pl.DataFrame({**columns, "label": None}, schema_overrides={"label": pl.String, "draw": pl.Int32})


def errors(each: float, *, proxy: bool, seed: int) -> np.ndarray:
    """The four figures of one draw of the crowd."""
    rng = generator(seed, "ratings", str(each))
    ids = np.array([f"c/{number:04d}" for number in range(UTTERANCES)])
    mean = rng.normal(0.5, 0.15, UTTERANCES).clip(0.1, 0.9)
    bias, spread = rng.normal(0, 0.08, RATERS), rng.uniform(0.05, 0.18, RATERS)
    most = int(np.ceil(each))
    rater = np.argsort(rng.random((UTTERANCES, RATERS)), axis=1)[:, :most]
    value = (mean[:, None] + bias[rater] + rng.normal(size=rater.shape) * spread[rater]).clip(0, 1)
    has = np.ones(value.shape, dtype=bool)
    if each < most:
        has[round((each - most + 1) * UTTERANCES) :, -1] = False
    names = np.array([f"c/r{number:03d}" for number in range(RATERS)])[rater]
    frames = [rows(np.repeat(ids, most)[has.ravel()], names[has], "human", value[has])]
    if proxy:
        stated = 0.3 + 0.8 * (mean - 0.3) + rng.normal(0, 0.06, UTTERANCES)
        drawn = (stated[:, None] + rng.normal(0, 0.05, (UTTERANCES, DRAWS))).clip(0, 1)
        draw = np.tile(np.arange(DRAWS), UTTERANCES)
        frames.append(rows(np.repeat(ids, DRAWS), "c/proxy", "proxy", drawn.ravel(), draw))
    votes = Votes.of(pl.concat(frames))
    predicted = Attributes().fit(votes).predict(votes)
    off, stated_error = predicted["valence"].to_numpy() - mean, predicted["valence_error"].to_numpy()
    plain = np.where(has, value, 0.0).sum(1) / has.sum(1) - mean
    within = np.abs(off) < 1.96 * stated_error
    return np.array([np.sqrt(np.mean(plain**2)), np.sqrt(np.mean(off**2)), stated_error.mean(), within.mean()])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print("| ratings | proxy | plain mean | fused | stated error | within 95 % |\n|---|---|---:|---:|---:|---:|")
    for name, each in CASES:
        for proxy in (False, True):
            figures = np.mean([errors(each, proxy=proxy, seed=seed) for seed in range(options.seeds)], axis=0)
            words = " | ".join(f"{figure:.3f}".lstrip("0") for figure in figures[:3])
            print(f"| {name} | {'yes' if proxy else 'no'} | {words} | {100 * figures[3]:.0f} % |")


if __name__ == "__main__":
    main()
