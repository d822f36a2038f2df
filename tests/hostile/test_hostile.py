"""The hostile cases that are quick, each a test; table.py tries them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import local
import pytest
import served

SLOW = {"recordings broken off", "recordings damaged", "signals"}
"""Tried by tests/audio/test_lengths.py and tests/cli/test_start.py, or by the table alone."""
EVERY_THIRD = {"token counts", "keys"}
CASES = {
    f"{name}: {case}": run
    for name, cases in {**served.CLASSES, **local.CLASSES}.items()
    if name not in SLOW
    for case, run in list(cases.items())[:: 3 if name in EVERY_THIRD else 1]
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_hostile_day_costs_nothing(case: Callable[[Path], None], tmp_path: Path) -> None:
    case(tmp_path)
