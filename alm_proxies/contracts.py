"""Versions of the tables' contract, and the names in earlier ones: their files are read and upgraded in memory.

Files are written under the newest contract only. A renamed column or metadata key has one line here, and
tests/contracts has a small file of the previous contract.

- 2: Findings say `message` and `fix` (were what, mend); Labels have `concentration_gain` (was proxy_worth; in units of
  concentration, not of human votes); `made_by` has `settings_digest` and `settings` (were settings, said), and its
  inputs are content digests by need. An annotator's card says `context` (was told).
- 1: the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

CONTRACT = 2

_COLUMNS: dict[str, dict[str, str]] = {
    "Findings": {"what": "message", "mend": "fix"},
    "Labels": {"proxy_worth": "concentration_gain"},
}
"""By table: the names of columns under earlier contracts, and those they have now."""
_FINDING_KINDS = {"no_split": "unknown_speaker", "speakers_not_known": "unknown_speaker"}
"""Kinds of findings that have another name now."""
_METHODS = {"stacking": "supervised"}
_CARD = {"told": "context"}


def upgraded_frame(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """The frame with columns, and kinds of findings, under their present names; other frames are unchanged."""
    there = set(frame.columns)
    names = {old: new for old, new in _COLUMNS.get(table, {}).items() if old in there and new not in there}
    if table == "Findings" and frame.schema.get("kind") == pl.String():
        frame = frame.with_columns(pl.col("kind").replace(_FINDING_KINDS))
    return frame.rename(names) if names else frame


def upgraded_about(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a file of an earlier contract, upgraded to this contract."""
    made_by = stated.get("made_by")
    if isinstance(made_by, Mapping):
        made_by = _upgraded_made_by(made_by)
    return {**stated, "contract": CONTRACT, "made_by": made_by}


def upgraded_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """An annotator's card with the keys of earlier contracts under their present names."""
    return {_CARD.get(key, key) if _CARD.get(key, key) not in card else key: value for key, value in card.items()}


def _upgraded_made_by(made_by: Mapping[str, Any]) -> dict[str, Any]:
    upgraded = dict(made_by)
    if isinstance(upgraded.get("settings"), str):
        upgraded["settings_digest"] = upgraded.pop("settings")
    if "said" in upgraded:
        settings = dict(upgraded.pop("said"))
        if isinstance(method := settings.get("method"), str):
            settings["method"] = _METHODS.get(method, method)
        upgraded["settings"] = settings
    return upgraded
