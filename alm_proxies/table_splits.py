"""Checks of a split: speakers who are on two sides of it, and utterances that may be of any side."""

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


def of_any_split(utterances: pl.DataFrame) -> pl.Series:
    """The recorded utterances in no split because their speakers are not known: they may be of speakers of any split.

    They are of corpora with a split by speaker, as read makes it, which has no utterance of an unknown speaker.
    """
    unknown, aside = pl.col("speaker").is_null(), pl.col("split").is_null()
    corpus = pl.col("corpus").fill_null("")
    by_speaker = (~aside).any().over(corpus) & ~(unknown & ~aside).any().over(corpus)
    return utterances.filter(pl.col("recipe").is_null()).filter(unknown & aside & by_speaker)["utterance_id"]
