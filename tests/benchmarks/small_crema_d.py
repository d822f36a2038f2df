"""The clips and actors of a made-up corpus in CREMA-D's shape."""

import sys
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "study"))


CLIPS = 8


ACTORS = [str(1001 + 2 * number) for number in range(16)]


def people() -> pl.DataFrame:
    """Who the made-up actors are."""
    count = len(ACTORS)
    return pl.DataFrame(
        {
            "ActorID": [int(actor) for actor in ACTORS],
            "Age": [20 + 3 * number for number in range(count)],
            "Sex": ["Male", "Female"] * (count // 2),
            "Race": ["Caucasian"] * count,
            "Ethnicity": ["Hispanic"] * 2 + ["Not Hispanic"] * (count - 2),
        }
    )
