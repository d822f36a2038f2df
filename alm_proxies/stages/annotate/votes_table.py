"""The Votes table of the current plan, written from the ledger in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from alm_proxies.about import About, AnnotatorCard, Cost, MadeBy
from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import whole
from alm_proxies.stages.annotate.injection import cards_with_injections
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.records import Member, Row
from alm_proxies.tables import Votes, metadata_of


def write_votes(ledger: Ledger, path: Path, taxonomy: tuple[str, ...], made_by: MadeBy) -> About:
    """Write the Votes of the current plan in parts; the file appears only when it is complete. Gives its metadata.

    Every planned vote has its rows, with any status; a vote that was not cast is failed.
    """
    about = About(taxonomy=taxonomy, annotators=_cards(ledger), made_by=made_by)
    errors: list[AlmProxiesError] = []
    empty = Votes.of(_frame([]).drop("number").with_columns(utterance_id=pl.lit(""), annotator=pl.lit("")), about=about)

    def parts(*_: object) -> Iterator[pl.DataFrame]:
        panel = ledger.panel()
        try:
            for names, numbers in ledger.planned_by_name():
                yield Votes.of(_part(ledger, panel, names, numbers), about=about, where=str(ledger.path)).frame
        except AlmProxiesError as error:  # polars would raise its own error instead
            errors.append(error)
            raise

    with whole(path) as temporary:
        source = register_io_source(parts, schema=empty.frame.schema)
        try:
            source.sink_parquet(temporary, metadata=metadata_of(about), maintain_order=True)
        except pl.exceptions.PolarsError:
            if errors:
                raise errors[0] from None
            raise
    ledger.note_table(path)
    return about


def _cards(ledger: Ledger) -> dict[str, AnnotatorCard]:
    """The cards of the planned annotators, with the effect of an injected sentence and the cost of their votes."""
    cards = cards_with_injections(ledger)
    for member in ledger.panel():
        votes, price = ledger.answered_since(member.number, 0.0)
        card = cards[member.name]
        cost = Cost(votes=votes, price=round(price, 9), currency=card.currency or "") if price else None
        cards[member.name] = card.model_copy(update={"cost": cost})
    return cards


def _part(ledger: Ledger, panel: Sequence[Member], names: list[str], numbers: list[int]) -> pl.DataFrame:
    """The rows of some utterances, sorted by key."""
    planned = pl.DataFrame({"number": numbers, "utterance_id": names})
    frames = []
    for member in panel:
        cast = _frame(ledger.cast(member.number, member.votes, numbers))
        draws = pl.DataFrame({"draw": range(member.votes)}, schema={"draw": pl.Int32})
        every = planned.join(draws, how="cross").join(cast, on=["number", "draw"], how="left")
        frames.append(every.with_columns(annotator=pl.lit(member.name), status=pl.col("status").fill_null("failed")))
    frame = pl.concat(frames).with_columns(source=pl.lit("proxy"), weight=pl.col("weight").fill_null(1.0))
    return frame.drop("number").sort(Votes.KEY, nulls_last=False)


_SCHEMA: dict[str, Any] = {
    "number": pl.Int64,
    "draw": pl.Int32,
    "status": pl.String,
    "label": pl.String,
    "weight": pl.Float64,
    "secondary": pl.List(pl.String),
    "valence": pl.Float64,
    "arousal": pl.Float64,
    "dominance": pl.Float64,
    "stated": pl.String,
}


def _frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")
