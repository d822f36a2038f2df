"""The hostile cases that are quick, each a test; table.py tries them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import local
import pytest
import served

from alm_proxies.engines.traffic import Traffic

SLOW = {"recordings broken off", "recordings damaged", "signals"}
"""Tried by tests/audio/test_lengths.py and tests/cli/test_start.py, or by the table alone."""
EVERY_THIRD = {"token counts", "keys"}
CASES = {
    f"{name}: {case}": run
    for name, cases in {**served.CLASSES, **local.CLASSES}.items()
    if name not in SLOW
    for case, run in list(cases.items())[:: 3 if name in EVERY_THIRD else 1]
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is sent again a moment after it failed, not half a second."""
    monkeypatch.setitem(Traffic.__init__.__kwdefaults__, "first_wait", 0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_hostile_day_costs_nothing(case: Callable[[Path], None], tmp_path: Path) -> None:
    case(tmp_path)
