"""How often the 95 % intervals by speaker cover the truth, for a mean of skewed values with few to many speakers.

python benchmarks/fusion/speaker_intervals.py
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from alm_proxies.measures import bootstrap
from alm_proxies.seeds import generator

TRIALS = 1000


def accelerated(sums: np.ndarray, drawn: np.ndarray, estimate: float) -> np.ndarray:
    without = bootstrap.ratio(sums.sum(0) - sums)
    deviation = without.mean() - without
    acceleration = (deviation**3).sum() / (6.0 * np.square(deviation).sum() ** 1.5)
    bias = ndtri(np.clip((drawn < estimate).mean(), 0.001, 0.999))
    z = bias + ndtri(np.array([0.025, 0.975]))
    return np.quantile(drawn, ndtr(bias + z / (1.0 - acceleration * z)))


def main() -> None:
    rng = generator(0, "speaker intervals")
    print("share of intervals that hold the truth (nominal .950)")
    for speakers in (5, 10, 20, 45, 91):
        for skewed in (False, True):
            held = {"percentile, widened (ours)": 0, "percentile": 0, "bca": 0, "jackknife t": 0}
            for trial in range(TRIALS):
                many = rng.integers(5, 60, speakers)
                own = rng.exponential(1, speakers) - 1 if skewed else rng.normal(0, 1, speakers)
                codes = np.repeat(np.arange(speakers), many)
                values = 0.3 * own[codes] + rng.exponential(1, len(codes)) - 1
                columns = np.stack([values, np.ones(len(values))], axis=1)
                sums = bootstrap.sums_by_speaker(columns, codes, speakers)
                estimate = float(bootstrap.ratio(sums.sum(0, keepdims=True))[0])
                drawn = bootstrap.ratio(bootstrap._resamples(speakers, trial % 50) @ sums)
                intervals = {
                    "percentile, widened (ours)": bootstrap._percentiles(sums, bootstrap.ratio, 0.95, trial % 50),
                    "percentile": np.quantile(drawn, [0.025, 0.975]),
                    "bca": accelerated(sums, drawn, estimate),
                    "jackknife t": bootstrap._t_interval(sums, bootstrap.ratio, estimate, 0.95),
                }
                for name, (low, high) in intervals.items():
                    held[name] += bool(low <= 0 <= high)
            line = "  ".join(f"{name} {count / TRIALS:.3f}" for name, count in held.items())
            print(f"{speakers:3d} speakers, {'skewed' if skewed else 'normal'}: {line}")


if __name__ == "__main__":
    main()
