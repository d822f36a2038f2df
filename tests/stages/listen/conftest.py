"""What tests of listen share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_corpus import Corpus, make

from alm_proxies import cache


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the tests of this module, and the folder of its features."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache.cache_folder() / "features"


@pytest.fixture(autouse=True)
def a_cache_of_its_own(cached: Path) -> None:
    """Not here: what one test measured, others read."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make(tmp_path_factory.mktemp("toy"))
