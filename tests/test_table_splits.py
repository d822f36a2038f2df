"""Speakers on two sides of any split are counted; rows without a speaker or side are not."""

from __future__ import annotations

import polars as pl
import pytest

from alm_proxies.table_splits import speakers_on_two_sides

SPEAKERS = pl.Series(["c", "a", "a", "b", "b", None, None, "c"])


@pytest.mark.parametrize(
    ("sides", "both"),
    [
        (["train", "train", "test", "train", "test", "train", "test", "train"], ["a", "b"]),
        ([True, True, True, True, False, True, False, True], ["b"]),
        (["train", "train", None, "train", None, "train", "test", "test"], ["c"]),
        (["train"] * 8, []),
        ([None] * 8, []),
    ],
)
def test_speakers_on_two_sides_are_counted_with_an_example(sides: list[object], both: list[str]) -> None:
    findings = speakers_on_two_sides(SPEAKERS, pl.Series("chosen", sides), "in more than one split")
    assert [finding.count for finding in findings] == ([len(both)] if both else [])
    assert all(finding.kind == "speaker_in_two_splits" and repr(both[0]) in finding.message for finding in findings)


def test_a_table_without_rows_has_none() -> None:
    assert speakers_on_two_sides(pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.String), "in both") == []
