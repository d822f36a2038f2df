"""The measured features of a clip as one row of numbers, for models that take vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from alm_proxies.audio.clip import Clip
from alm_proxies.audio.features import GROUPS, VERSION, Measured, measure, names_of
from alm_proxies.audio.vectors import Floats
from alm_proxies.files import digest_of
from alm_proxies.printable import counted
from alm_proxies.tables import Finding

_VERSION = 1
NAMES = names_of(GROUPS)
"""The names of a row's numbers."""
DIGEST = digest_of([_VERSION, VERSION, *NAMES])
"""A digest of the row's definition, and of the features in it."""


def measuring(stage: str) -> Callable[[Clip, str], tuple[Floats | None, tuple[Finding, ...]]]:
    """A function of a clip and its utterance id: its row of features (NaN = not measurable) and findings."""
    return partial(_measured, stage)


def row_of(measured: Measured) -> Floats:
    """Measured features as a row; NaN = not measurable."""
    return np.array([np.nan if (value := measured.values[name]) is None else value for name in NAMES], dtype=np.float32)


def _measured(stage: str, clip: Clip, utterance_id: str) -> tuple[Floats | None, tuple[Finding, ...]]:
    measured = measure(clip)
    row = row_of(measured)
    nothing = bool(np.isnan(row).all())
    fix = "Leave it out." if nothing else "Listen to it; features that cannot be measured are left empty."
    findings = tuple(
        Finding(
            stage,
            failure.kind,
            f"not measured: {counted(len(failure.names), 'feature')} ({failure.why})",
            fix,
            utterance_id,
            count=len(failure.names),
        )
        for failure in measured.failures
    )
    return (None if nothing else row), findings
