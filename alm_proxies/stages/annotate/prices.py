"""Expected costs before a run, from the price tables or from the cost of earlier votes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.registry import OpenAIServe
from alm_proxies.errors import SettingsError
from alm_proxies.files import canonical_json
from alm_proxies.stages.annotate.budget import LETTERS_A_TOKEN, TOKENS_A_SECOND, sends_of
from alm_proxies.stages.annotate.injection import shows_transcripts
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.plan import Plans
from alm_proxies.stages.annotate.settings import AnnotateSettings

_ENOUGH = 20
"""Minimum number of answered votes for a measured price, which then replaces the price table."""
_UNKNOWN_SECONDS = 5.0
"""Assumed length of an utterance if no length is known."""
_USUAL_PROMPT = 250.0
"""Assumed letters of a prompt, for a price before it is rendered."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected cost of the missing votes."""

    price: float
    measured: frozenset[str]
    """Annotators with a measured price; the others are priced by their price table."""
    of_plan: float = 0.0
    """By the price tables: all votes of a pilot's plan, cast or not."""
    of_all: float = 0.0
    """The same for all utterances."""

    def whole(self, spent: float, cast: float) -> float:
        """The cost of all utterances, extrapolated from a pilot: what its plan has cost so far, for a share `cast`."""
        pilot = self.of_plan * cast
        return spent * self.of_all / pilot if pilot else 0.0


def currency_of(panel: Iterable[Annotator]) -> str:
    """The currency of a panel's prices, empty if none states one; several are refused, as prices are added up."""
    stated = {annotator.file.price.currency: annotator for annotator in panel if annotator.file.price.currency}
    if len(stated) > 1:
        which = ", ".join(f"{annotator.name} in {currency}" for currency, annotator in sorted(stated.items()))
        fix = "State all prices in one currency, or run these annotators one by one, each into a folder of its own."
        raise SettingsError(f"prices are added up and stated in several currencies: {which}", fix=fix)
    return next(iter(stated), "")


def price_before(annotator: Annotator, seconds: Sequence[float], missing: Sequence[int]) -> float:
    """The expected cost of the missing votes by the price table of the file: audio seconds x requests.

    `seconds` and `missing` are the length and the missing votes of each utterance. Draws of one cell share a request.
    """
    price = annotator.file.price
    if not any(price.model_dump().values()):
        return 0.0
    cells, serve = len(annotator.cells), annotator.serve
    total = 0.0
    for length, count in zip(seconds, missing, strict=True):
        requests = min(count, cells)
        shown = count * annotator.file.sampling.max_tokens
        if annotator.file.elicit == "score":
            answers = annotator.codes(annotator.cells[0]) or annotator.labels
            requests = shown = requests * sends_of(answers) if isinstance(serve, OpenAIServe) else min(requests, 1)
        tokens = requests * (_USUAL_PROMPT / LETTERS_A_TOKEN + TOKENS_A_SECOND * length)
        total += price.of(audio_seconds=length * requests, tokens_in=tokens, tokens_out=shown)
    return total


def expected_price(plans: Plans, ledger: Ledger, settings: AnnotateSettings) -> Expected:
    """The expected cost of all missing votes, by measured prices if known, otherwise by the price tables."""
    measured = measured_prices(ledger, {member.number: member.annotator for member in plans.plan.members})
    total = 0.0
    for plan in plans.both:
        seconds: list[float] | None = None
        for member in plan.members:
            name = member.annotator.name
            if name in measured:
                total += measured[name] * int(member.missing.sum())
            else:
                seconds = lengths_of(plan.utterances) if seconds is None else seconds
                total += price_before(member.annotator, seconds, member.missing.sum(axis=1).tolist())
    if settings.limit is None:
        return Expected(total, frozenset(measured))
    panel = [member.annotator for member in plans.plan.members]
    return Expected(
        total,
        frozenset(measured),
        of_plan=price_of_all(panel, plans.plan.utterances) + price_of_injection(panel, plans.injection.utterances[::2]),
        of_all=price_of_all(panel, plans.every) + price_of_injection(panel, plans.injected_of_every),
    )


def measured_prices(ledger: Ledger, members: Mapping[int, Annotator]) -> dict[str, float]:
    """The measured price of a vote by annotator name, where enough votes were answered at the current price table."""
    measured = {}
    for number, annotator in members.items():
        before, since = _price_kept(ledger, number)
        if before != (now := _price_now(annotator)):
            since = 0.0 if before is None else _after_all(ledger, number)
            ledger.keep(_price_key(number), json.dumps([now, since]))
        if (price := measured_price(ledger, number, annotator)) is not None:
            measured[annotator.name] = price
    return measured


def measured_price(ledger: Ledger, number: int, annotator: Annotator) -> float | None:
    """The measured price of an annotator's vote; None if few were answered or its price table has changed."""
    before, since = _price_kept(ledger, number)
    if before not in (None, _price_now(annotator)):
        return None
    count, price = ledger.answered_since(number, since)
    return price / count if count >= _ENOUGH else None


def _after_all(ledger: Ledger, number: int) -> float:
    """Now, or a moment after the latest vote where the clock was set back since."""
    return max(time.time(), math.nextafter(ledger.latest(number), math.inf))


def _price_key(number: int) -> str:
    return f"price of {number}"


def _price_kept(ledger: Ledger, number: int) -> tuple[str | None, float]:
    """The last price table of an annotator in the ledger, and since when it applies."""
    before, since = json.loads(ledger.about(_price_key(number)) or "[null, 0.0]")
    return before, float(since)


def _price_now(annotator: Annotator) -> str:
    return canonical_json(annotator.file.price.model_dump(exclude={"currency"}))


def price_of_all(annotators: Iterable[Annotator], utterances: pl.DataFrame) -> float:
    """The expected cost of all votes of these annotators on these utterances."""
    seconds = lengths_of(utterances)
    return sum(price_before(annotator, seconds, [annotator.votes] * len(seconds)) for annotator in annotators)


def lengths_of(utterances: pl.DataFrame) -> list[float]:
    """The length of every utterance in seconds; unknown ones get the mean of the others."""
    length = pl.coalesce(pl.col("end") - pl.col("start").fill_null(0.0), pl.col("duration"))
    known = utterances.select(length.alias("seconds"))["seconds"]
    mean = known.mean()
    return known.fill_null(float(mean) if isinstance(mean, int | float) else _UNKNOWN_SECONDS).to_list()


def price_of_injection(annotators: Sequence[Annotator], utterances: pl.DataFrame) -> float:
    """The expected cost of the two injected requests per utterance, for annotators whose prompts show transcripts."""
    return 2.0 * price_of_all([annotator for annotator in annotators if shows_transcripts(annotator)], utterances)
