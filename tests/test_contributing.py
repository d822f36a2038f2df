"""Everything that CONTRIBUTING.md names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATHS = sorted(set(re.findall(r"`([\w.]+(?:/[\w.]*)+|[\w]+\.(?:toml|md|py))`", (ROOT / "CONTRIBUTING.md").read_text())))
DATA = {"crema_d/", "emodb/"}
"""Folders of the test data, which are outside the checkout."""
EACH_STAGE = {"stage.py", "settings.py"}


def test_it_names_paths() -> None:
    assert len(PATHS) > 15
    assert set(PATHS) >= DATA | EACH_STAGE


@pytest.mark.parametrize("path", [path for path in PATHS if path not in DATA | EACH_STAGE])
def test_every_path_it_names_is_there(path: str) -> None:
    assert any((place / path).exists() for place in (ROOT, ROOT / "alm_proxies"))
