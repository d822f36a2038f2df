"""align from files: big votes files are read part by part, and only the votes of the report's sample are held."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alm_proxies.audio.folder import recordings_in
from alm_proxies.progress import Progress
from alm_proxies.stages.align.settings import AlignSettings
from alm_proxies.stages.align.stage import Alignment, align, aligned
from alm_proxies.table_sorting import folder_of_parts
from alm_proxies.tables import Labels, Utterances, Votes, combine
from alm_proxies.votes_parts import VotesInParts, are_big, read_in_parts

PART_ROWS = 250_000
"""The number of votes in memory at a time."""
WHOLE_ROWS = 500_000
"""Files with at most this many votes together are held in memory."""
_SORTED_AT_ONCE = 4
"""Parts that are in memory at a time while a file is sorted."""


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

    Copies of big files that are not sorted by utterance_id, or are CSV or JSON lines, are made beside the output.
    """
    table = Labels.read(labels, taxonomy=taxonomy)
    people = recordings_in(utterances) if utterances.is_dir() else Utterances.read(utterances)
    if not are_big(votes, whole_rows):
        return align(table, combine(*(Votes.read(path, taxonomy=taxonomy) for path in votes)), people, settings)
    chosen = settings or AlignSettings()

    def report(big: VotesInParts) -> Alignment:
        with Progress("reading votes", quiet=quiet) as progress:
            parts = (part for part, _ in big.parts(progress))
            return aligned(table, parts, big.votes_on, people, chosen, big.findings("report on it"))

    big = VotesInParts(tuple(votes), None, taxonomy, (), part_rows, sort_rows=_SORTED_AT_ONCE * part_rows)
    with folder_of_parts(output) as folder:
        return read_in_parts(big, folder, report, quiet=quiet)
