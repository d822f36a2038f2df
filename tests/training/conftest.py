from __future__ import annotations

import pytest
from tones_in_noise import recordings

from alm_proxies.tables import Labels, Utterances


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Utterances, Labels]:
    return recordings(tmp_path_factory.mktemp("tones"))
