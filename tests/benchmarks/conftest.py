"""A small corpus in the layout of CREMA-D for the benchmarks."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "study"))
from small_crema_d import ACTORS, CLIPS, people
from study_votes import (
    Corpus,
    read_corpus,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up corpus in CREMA-D's shape, with four actors of the lockbox among sixteen."""
    place = tmp_path_factory.mktemp("crema_d")
    (place / "AudioWAV").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number, (actor, clip) in enumerate((actor, clip) for actor in ACTORS for clip in range(CLIPS)):
        name = f"{actor}_IEO_{clip}_XX"
        (place / "AudioWAV" / f"{name}.ogg").touch()
        truth = rng.dirichlet(0.3 + 3 * np.eye(6)[number % 6])
        for modality in (1, 2, 3):
            votes = rng.multinomial(9 if clip else 7, truth)
            rows.append([100_000 * modality + number + 1, *votes.tolist(), name])
    pl.DataFrame(rows, schema=["", "A", "D", "F", "H", "N", "S", "fileName"], orient="row").write_csv(
        place / "tabulatedVotes.csv"
    )
    people().write_csv(place / "VideoDemographics.csv")
    return place


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return read_corpus(folder)


@pytest.fixture(scope="module")
def features(corpus: Corpus) -> np.ndarray:
    """Noisy voice shares: something can be learned."""
    rng = np.random.default_rng(1)
    shares = corpus.voice / corpus.voice.sum(1, keepdims=True)
    return np.concatenate([shares + rng.normal(0, 0.2, shares.shape), rng.normal(size=shares.shape)], axis=1).astype(
        np.float32
    )
