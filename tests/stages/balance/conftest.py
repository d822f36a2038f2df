"""Simulated speech that tests of balance share, and a cache for what is measured of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_proxies.stages.simulate.settings import SimulateSettings
from alm_proxies.stages.simulate.stage import Corpus, simulate


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """120 simulated utterances of twelve speakers."""
    return simulate(tmp_path_factory.mktemp("speech"), SimulateSettings(utterances=120, speakers=12), quiet=True)


@pytest.fixture(scope="session")
def cache_of_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def the_same_recordings_are_measured_once(
    a_cache_of_its_own: None, cache_of_features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cache for all tests that use it, which keeps features by the content of their recordings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_of_features))
