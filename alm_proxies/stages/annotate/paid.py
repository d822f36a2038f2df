"""What of a plan is in the ledger already, what it cost, and what the rest should cost: read only, before a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.files import is_there
from alm_proxies.printable import in_money
from alm_proxies.stages.annotate.figures import counted
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.prices import lengths_of, measured_price, price_before


@dataclass(frozen=True, slots=True)
class Expectation:
    """The votes of one annotator: how many are planned and cast, what they cost, and what the rest should cost."""

    planned: int
    cast: int
    """Planned votes that are not asked for again."""
    paid: float
    """What its votes have cost so far."""
    price: float
    """What the others should cost."""
    price_of_vote: float | None
    """What a vote has cost, measured; None where too few were asked for."""

    @property
    def left(self) -> int:
        """Votes that are still to be asked for."""
        return self.planned - self.cast

    def __str__(self) -> str:
        words = counted(self.planned, "vote")
        if self.cast or self.paid:
            words = f"{self.cast:,} of {words} cast, {in_money(self.paid)} paid; {self.left:,} left"
        if not self.left:
            return words
        if self.price_of_vote is not None:
            rate = f"{in_money(self.price_of_vote)} a vote as measured"
        elif self.price:
            rate = f"{in_money(self.price / self.left)} a vote by its price table"
        else:
            return f"{words}, at no price"
        return f"{words}, about {in_money(self.price)} at {rate}"


def expectation_of(annotator: Annotator, utterances: pl.DataFrame, ledger: Ledger | None, seed: int) -> Expectation:
    """What is to be expected of an annotator about these utterances, given the ledger of earlier runs."""
    votes = annotator.votes
    number = ledger.number_of(annotator.name, annotator.digest, seed) if ledger is not None else None
    missing = np.ones((utterances.height, votes), dtype=np.bool_)
    measured, paid = None, 0.0
    if ledger is not None and number is not None:
        done = ledger.done(number, votes)
        known = ledger.numbers(utterances["utterance_id"])
        paths = dict(zip(known.to_list(), utterances["path"].to_list(), strict=True))
        for utterance, draw, kind in ledger.failed(number, votes):  # a run asks for them again
            if kind != "missing" or is_there(paths.get(utterance) or ""):
                done[utterance, draw] = False
        there = known.is_not_null().to_numpy()
        missing[there] = ~done[known.drop_nulls().to_numpy()]
        measured, paid = measured_price(ledger, number, annotator), ledger.paid_for(number)
    left = missing.sum(axis=1)
    price = (
        measured * float(left.sum())
        if measured is not None
        else price_before(annotator, lengths_of(utterances), left.tolist())
    )
    return Expectation(missing.size, int(missing.size - left.sum()), paid, price, measured)


def ledger_at(folder: Path, shard: tuple[int, int] | None) -> Path:
    """Where the ledger of a folder is, or that of a shard."""
    return folder / ("ledger.sqlite" if shard is None else f"ledger.{shard[0]}-of-{shard[1]}.sqlite")
