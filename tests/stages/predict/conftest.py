"""A small corpus to predict."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from alm_proxies.tables import Labels, Utterances, Votes

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from small_corpus import small_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Utterances, Votes, Labels]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, *small_corpus(folder)
