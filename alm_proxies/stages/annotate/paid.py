"""A forecast from the ledger: votes that are already cast, their cost, and the expected cost of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.printable import counted, in_money
from alm_proxies.stages.annotate.askable import with_gone
from alm_proxies.stages.annotate.changes import lacks
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
    impossible: int = 0
    """Planned votes without an outcome that will fail unasked, for want of a recording or of what the prompt requires.
    """

    @property
    def left(self) -> int:
        """Votes that will be requested."""
        return self.planned - self.cast - self.impossible

    def __str__(self) -> str:
        words = counted(self.planned, "vote")
        if self.cast or self.paid:
            words = f"{self.cast:,} of {words} cast, {in_money(self.paid, self.currency)} paid; {self.left:,} left"
        if self.impossible:
            words += f", {self.impossible:,} impossible without their recording or what the prompt requires"
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
    cannot, measured, paid = _cannot(annotator, utterances), None, 0.0
    if ledger is not None and number is not None:
        done = ledger.done(number, votes)
        known = ledger.numbers(utterances["utterance_id"])
        for utterance, draw in ledger.failed(number, votes):  # a run requests them again
            done[utterance, draw] = False
        in_ledger = known.is_not_null().to_numpy()
        missing[in_ledger] = ~done[known.drop_nulls().to_numpy()]
        measured, paid = measured_price(ledger, number, annotator), ledger.paid_for(number)
    impossible = int(missing[cannot].sum())
    missing[cannot] = False
    left = missing.sum(axis=1)
    price = (
        measured * float(left.sum())
        if measured is not None
        else price_before(annotator, lengths_of(utterances), left.tolist())
    )
    currency, cast = annotator.file.price.currency, int(missing.size - left.sum()) - impossible
    return Expectation(missing.size, cast, paid, price, measured, currency, impossible)


def _cannot(annotator: Annotator, utterances: pl.DataFrame) -> NDArray[np.bool_]:
    """Which utterances an annotator cannot be asked about, as far as that is known before evidence is measured."""
    cannot = with_gone(utterances)["gone"].to_numpy().copy()
    if annotator.prompt.requires:
        evidence = (
            utterances if "evidence" in utterances.columns else utterances.with_columns(evidence=pl.lit("not known"))
        )
        cannot |= np.fromiter((lacks(annotator, row) is not None for row in evidence.iter_rows(named=True)), np.bool_)
    return cannot


def ledger_at(folder: Path, shard: tuple[int, int] | None) -> Path:
    """The path of the ledger in a folder, or of a shard's ledger."""
    return folder / ("ledger.sqlite" if shard is None else f"ledger.{shard[0]}-of-{shard[1]}.sqlite")
