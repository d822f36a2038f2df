"""What annotate takes from human votes: the label of each utterance, the shares of the labels, and a digest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alm_proxies.about import About
from alm_proxies.ballots import which_count
from alm_proxies.content import ContentDigest
from alm_proxies.progress import Progress
from alm_proxies.table_checks import refuse_two_sources
from alm_proxies.table_parts import PART_ROWS
from alm_proxies.table_sorting import folder_of_parts
from alm_proxies.tables import Votes, combine
from alm_proxies.votes_parts import VotesInParts, are_big, read_in_parts

WHOLE_ROWS = 500_000
"""Files with at most this many votes together are held in memory."""
_COUNTS = which_count("human", consensus=True)


@dataclass(frozen=True, slots=True)
class HumanVotes:
    """Human votes in short, to draw a representative pilot and to detect collapse; held-out votes do not count."""

    labels: pl.DataFrame
    """utterance_id, and its human_label: the one with the most votes."""
    shares: dict[str, float]
    """The share of every label."""
    taxonomy: tuple[str, ...]
    digest: str
    """The content digest of the votes table, with all its rows."""

    @classmethod
    def of(cls, votes: Votes | HumanVotes | None) -> HumanVotes | None:
        """From a table."""
        return cls.of_parts([votes]) if isinstance(votes, Votes) else votes

    @classmethod
    def of_parts(cls, parts: Iterable[Votes]) -> HumanVotes:
        """From parts in the order of ids, with all votes of an utterance in one part."""
        digest, about = ContentDigest(Votes.KEY), About()
        sources: list[pl.DataFrame] = []
        labels, sums = [pl.DataFrame(schema=_LABELS)], [pl.DataFrame(schema=_SUMS)]
        for votes in parts:
            about = votes.about
            sources.append(votes.frame.select("annotator", "source").unique())
            digest.update(votes.content())
            human = votes.frame.filter(_COUNTS)
            each = human.group_by("utterance_id", "label").agg(pl.col("weight").sum())
            by_weight = each.sort(["utterance_id", "weight", "label"], descending=[False, True, False])
            first = by_weight.unique("utterance_id", keep="first", maintain_order=True)
            # the text is copied: otherwise it keeps the text of the whole part in memory
            labels.append(first.select(pl.col("utterance_id") + "", human_label=pl.col("label") + ""))
            sums.append(human.group_by("label").agg(pl.col("weight").sum()).sort("label"))
        if sources:
            refuse_two_sources(pl.concat(sources).unique(), "votes")
        each = pl.concat(sums).group_by("label").agg(pl.col("weight").sum()).sort("label")
        total = float(each["weight"].sum())
        shares = {label: weight / total for label, weight in each.iter_rows()} if total else {}
        stated = Votes(pl.DataFrame(), about).stated()
        return cls(pl.concat(labels), shares, about.taxonomy, digest.hexdigest(stated))

    def content_digest(self) -> str:
        """The content digest of the votes table."""
        return self.digest


_LABELS = {"utterance_id": pl.String(), "human_label": pl.String()}
_SUMS = {"label": pl.String(), "weight": pl.Float64()}


def human_votes_in(
    paths: Sequence[Path],
    taxonomy: str | None,
    folder: Path,
    *,
    quiet: bool = False,
    part_rows: int = PART_ROWS // 4,
    whole_rows: int = WHOLE_ROWS,
) -> HumanVotes:
    """The human votes of files; big files are read part by part, with copies in this folder if they are not sorted."""
    if not are_big(paths, whole_rows):
        return HumanVotes.of_parts([combine(*(Votes.read(path, taxonomy=taxonomy) for path in paths))])

    def read(big: VotesInParts) -> HumanVotes:
        with Progress("reading votes", quiet=quiet) as progress:
            return HumanVotes.of_parts(votes for votes, _ in big.parts(progress))

    with folder_of_parts(folder / "human_votes") as beside:
        return read_in_parts(VotesInParts(tuple(paths), None, taxonomy, (), part_rows), beside, read, quiet=quiet)
