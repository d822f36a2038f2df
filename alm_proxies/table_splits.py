"""Checks of a split: speakers who are on two sides of it."""

from __future__ import annotations

import polars as pl

from alm_proxies.finding import Finding
from alm_proxies.printable import counted


def speakers_on_two_sides(speakers: pl.Series, sides: pl.Series, where: str) -> list[Finding]:
    """A finding if a speaker has rows on two sides; rows without a speaker or side do not count.

    `where` completes the message: "in more than one split".
    """
    rows = pl.DataFrame({"speaker": speakers, "side": sides}).drop_nulls()
    both = rows.group_by("speaker").agg(pl.col("side").n_unique()).filter(pl.col("side") > 1)["speaker"].sort()
    if not len(both):
        return []
    message = f"{counted(len(both), 'speaker is', 'speakers are')} {where}, such as {both[0]!r}"
    fix = (
        "Split by speaker (read --split speakers:.7,.1,.2): otherwise a model is tested on speakers it was trained on."
    )
    return [Finding.of("speaker_in_two_splits", message, fix, count=len(both))]
