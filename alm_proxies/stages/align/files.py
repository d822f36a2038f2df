"""align from files: big votes files are read part by part, and only the votes of the report's sample are held."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from alm_proxies.about import about_of
from alm_proxies.audio.folder import recordings_in
from alm_proxies.contracts import upgraded_frame
from alm_proxies.progress import Progress
from alm_proxies.stages.align.settings import AlignSettings
from alm_proxies.stages.align.stage import Alignment, align, aligned
from alm_proxies.table_parts import ID, NotSortedError
from alm_proxies.tables import Labels, Utterances, Votes, combine
from alm_proxies.votes_parts import VotesInParts, are_big

PART_ROWS = 250_000
"""The number of votes in memory at a time."""
WHOLE_ROWS = 500_000
"""Files with at most this many votes together are held in memory."""


def align_files(
    labels: Path,
    votes: Sequence[Path],
    utterances: Path,
    output: Path,
    settings: AlignSettings | None = None,
    *,
    taxonomy: str | None = None,
    quiet: bool = False,
    part_rows: int = PART_ROWS,
    whole_rows: int = WHOLE_ROWS,
) -> Alignment:
    """The report of `align` on files, whatever the size of the parts; the caller writes it to `output`.

    Votes files that are not sorted by utterance_id are held in memory.
    """
    table = Labels.read(labels, taxonomy=taxonomy)
    people = recordings_in(utterances) if utterances.is_dir() else Utterances.read(utterances)
    if are_big(votes, whole_rows):
        big = VotesInParts(tuple(votes), None, taxonomy, (), part_rows)
        try:
            with Progress("reading votes", quiet=quiet) as progress:
                parts = (part for part, _ in big.parts(progress))
                chosen = partial(_votes_on, votes, taxonomy)
                return aligned(table, parts, chosen, people, settings or AlignSettings())
        except NotSortedError:
            pass
    whole = combine(*(Votes.read(path, taxonomy=taxonomy) for path in votes))
    return align(table, whole, people, settings)


def _votes_on(paths: Sequence[Path], taxonomy: str | None, ids: pl.Series) -> Votes:
    """The votes of Parquet files on some utterances, in the order of the files."""
    kept = pl.col(ID).is_in(ids.implode())
    tables = []
    for path in paths:
        frame = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False).filter(kept).collect()
        upgraded = upgraded_frame(frame, Votes.__name__)
        tables.append(Votes.of(upgraded, taxonomy=taxonomy, about=about_of(path), where=str(path)))
    return combine(*tables)
