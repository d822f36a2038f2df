"""A forecast from the ledger: votes that are already cast, their cost, and the expected cost of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.printable import counted, in_money
from alm_proxies.stages.annotate.askable import is_gone
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.prices import lengths_of, measured_price, price_before


@dataclass(frozen=True, slots=True)
class Expectation:
    """The planned and cast votes of one annotator, their cost, and the expected cost of the others."""

    planned: int
    cast: int
    """Planned votes that are not requested again."""
    paid: float
    """Cost of its votes so far."""
    price: float
    """Expected cost of the other votes."""
    price_of_vote: float | None
    """Measured cost of a vote; None if too few were requested."""
    currency: str = ""

    @property
    def left(self) -> int:
        """Votes that will be requested."""
        return self.planned - self.cast

    def __str__(self) -> str:
        words = counted(self.planned, "vote")
        if self.cast or self.paid:
            words = f"{self.cast:,} of {words} cast, {in_money(self.paid, self.currency)} paid; {self.left:,} left"
        if not self.left:
            return words
        if self.price_of_vote is not None:
            rate = f"{in_money(self.price_of_vote, self.currency)} a vote as measured"
        elif self.price:
            rate = f"{in_money(self.price / self.left, self.currency)} a vote by its price table"
        else:
            return f"{words}, free of charge"
        return f"{words}, about {in_money(self.price, self.currency)} at {rate}"


def expectation_of(annotator: Annotator, utterances: pl.DataFrame, ledger: Ledger | None, seed: int) -> Expectation:
    """The expectation for an annotator and these utterances, given the ledger of earlier runs."""
    votes = annotator.votes
    number = ledger.number_of(annotator.name, annotator.digest, seed) if ledger is not None else None
    missing = np.ones((utterances.height, votes), dtype=np.bool_)
    measured, paid = None, 0.0
    if ledger is not None and number is not None:
        done = ledger.done(number, votes)
        known = ledger.numbers(utterances["utterance_id"])
        failed = list(ledger.failed(number, votes))  # a run requests them again
        those = known.is_in([utterance for utterance, *_ in failed])
        rows = dict(zip(known.filter(those).to_list(), utterances.filter(those).iter_rows(named=True), strict=True))
        for utterance, draw, kind in failed:
            row = rows.get(utterance) or {}
            gone = kind == "missing" and is_gone(row.get("path") or "")
            lacking = kind in ("no_transcript", "no_speaker") and not row.get(kind.removeprefix("no_"))
            done[utterance, draw] = gone or lacking
        in_ledger = known.is_not_null().to_numpy()
        missing[in_ledger] = ~done[known.drop_nulls().to_numpy()]
        measured, paid = measured_price(ledger, number, annotator), ledger.paid_for(number)
    left = missing.sum(axis=1)
    price = (
        measured * float(left.sum())
        if measured is not None
        else price_before(annotator, lengths_of(utterances), left.tolist())
    )
    currency = annotator.file.price.currency
    return Expectation(missing.size, int(missing.size - left.sum()), paid, price, measured, currency)


def ledger_at(folder: Path, shard: tuple[int, int] | None) -> Path:
    """The path of the ledger in a folder, or of a shard's ledger."""
    return folder / ("ledger.sqlite" if shard is None else f"ledger.{shard[0]}-of-{shard[1]}.sqlite")
