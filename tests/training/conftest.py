from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from own_process import fit
from small_corpus import small_corpus, tiny_encoder
from tones_in_noise import FAMILIES, SHORT, TINY, recordings, settings_for

from alm_proxies.models import tiny
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances, Votes


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Utterances, Labels]:
    return recordings(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Utterances, Labels]:
    """Twelve recordings to learn from and four to look at."""
    return recordings(tmp_path_factory.mktemp("few"), 16)


@pytest.fixture(scope="session")
def trained_on_tones(tones: tuple[Utterances, Labels], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A new audio language model that has learned what the tones are."""
    settings = TINY.model_copy(update={"epochs": 16})
    return train(tones[1], tones[0], tmp_path_factory.mktemp("trained"), settings, quiet=True)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained checkpoint of every family, with windows of two seconds.

    With the seed 0 the Qwen2-Audio is certain of one label, and training hardly moves such an answer.
    """
    folder = tmp_path_factory.mktemp("bases")
    return {family: tiny.build(folder / family, family, seed=1, hearing=SHORT) for family in FAMILIES}


@pytest.fixture(scope="session")
def adapted(
    bases: dict[str, Path], few: tuple[Utterances, Labels], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """An adapter on every base, trained for two epochs."""
    folder = tmp_path_factory.mktemp("adapted")
    return {
        family: train(few[1], few[0], folder / family, settings_for(base), quiet=True) for family, base in bases.items()
    }


@dataclass(frozen=True)
class Corpus:
    folder: Path
    utterances: Utterances
    votes: Votes
    labels: Labels
    encoder: Path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The small corpus as tables on disk, beside a tiny encoder."""
    folder = tmp_path_factory.mktemp("corpus")
    utterances, votes, labels = small_corpus(folder)
    utterances.write(folder / "utterances.parquet")
    votes.write(folder / "votes.parquet")
    labels.write(folder / "labels.parquet")
    return Corpus(folder, utterances, votes, labels, tiny_encoder(folder / "encoder"))


@pytest.fixture
def one_thread() -> None:
    """Sums are rounded the same as in a process with OMP_NUM_THREADS=1; the number is restored after the test."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """A training that nothing interrupts."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes it is compared with
    out = tmp_path_factory.mktemp("whole") / "out"
    done = fit(corpus, out, dropout=0.2)
    torch.set_num_threads(threads)
    return done, out
