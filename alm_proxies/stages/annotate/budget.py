"""The budget: upper bounds of the cost of a request, booked amounts, and the remaining budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.bounds import Booking, booking_of, tokens_of_prompt
from alm_proxies.engines.engine import Abilities, Reply, Request
from alm_proxies.engines.registry import OpenAIServe
from alm_proxies.printable import in_money

LETTERS_A_TOKEN = 3.0
"""Assumed letters per prompt token, for a price estimate before a run."""
TOKENS_A_SECOND = 32.0
"""Assumed prompt tokens per second of audio, for a price estimate before a run."""


class Use(NamedTuple):
    """The use of a request, actual or maximum."""

    audio_seconds: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0


class Estimate:
    """The maximum cost of a request, and the cost booked after its answer.

    Before a request is sent, one try is booked at the bounds of `engines.bounds`. A further try is booked before it is
    made, if an earlier one may be charged for. Reports of a server beyond the bounds are replaced by the bounds.
    """

    def __init__(self, annotator: Annotator, can: Abilities) -> None:
        self._price = annotator.file.price
        self._can = replace(can, tries=1)
        self._server = isinstance(annotator.serve, OpenAIServe)
        self._factor: float | None = None
        self._cut = 0.0
        self.implausible = 0
        """Number of tries with impossible token counts."""

    def most(self, request: Request) -> float:
        """The maximum cost of one try of a request."""
        return self.price(self.most_use(request))

    def most_use(self, request: Request) -> Use:
        """The maximum use of one try of a request, including all its pieces."""
        return self._most_use(request, booking_of(request, self._can))

    def _most_use(self, request: Request, booking: Booking) -> Use:
        times = self._more_pieces(request, booking)
        answers = booking.tokens_out + booking.requests + len(request.seeds)
        return Use(times * booking.audio_seconds, times * booking.tokens_in, answers)

    def again(self, request: Request) -> float:
        """The maximum cost of another try of one piece of a request."""
        booking = booking_of(request, self._can)
        answers = booking.tokens_out + booking.requests + len(request.seeds)
        return self.price(Use(_seconds(request), self._tokens_of_one(request), answers))

    def in_flight(self, request: Request) -> float:
        """The cost booked for a request without an answer, by the largest prompt so far."""
        booking = booking_of(request, self._can)
        most = self._most_use(request, booking)
        if self._factor is not None:
            largest = booking.requests * self._factor * _tokens_by_rule(request)
            most = most._replace(tokens_in=min(most.tokens_in, largest))
        return self.price(most)

    def used(self, request: Request, reply: Reply) -> Use:
        """The use to book for a reply: as reported if possible, otherwise the maximum."""
        counted, empty = max(0, reply.counted), reply.without_answer
        silent = max(0, reply.paid_tries - counted - empty.tries)
        booking, tokens_of_one = booking_of(request, self._can), self._tokens_of_one(request)
        answers = booking.tokens_out + booking.requests + len(request.seeds)
        tokens_in, wrong_in = _within(reply.tokens_in, counted * tokens_of_one)
        tokens_out, wrong_out = _within(reply.tokens_out, answers * min(1.0, counted / max(1, booking.requests)))
        empty_in, _ = _within(empty.tokens_in, empty.tries * tokens_of_one)
        empty_out, _ = _within(empty.tokens_out, empty.tries * answers)
        self.implausible += reply.implausible or (counted > 0 and (wrong_in or wrong_out)) or empty.implausible
        if not counted:
            tokens_in = tokens_out = 0.0
        elif reply.failure is None and not (reply.implausible or wrong_in):
            self._learn(request, tokens_in, counted)
        each = tokens_of_one if self._factor is None else min(tokens_of_one, self._factor * _tokens_by_rule(request))
        per_try = answers / max(1, booking.requests)
        return Use(reply.audio_seconds, tokens_in + empty_in + silent * each, tokens_out + empty_out + silent * per_try)

    def price(self, use: Use) -> float:
        """The cost of this use."""
        return self._price.of(audio_seconds=use.audio_seconds, tokens_in=use.tokens_in, tokens_out=use.tokens_out)

    def _learn(self, request: Request, tokens_in: float, counted: int) -> None:
        """Record the largest prompt relative to the rule, and the number of pieces that requests are cut into."""
        by_rule = _tokens_by_rule(request) * counted
        if tokens_in > 0 and by_rule > 0:
            self._factor = max(self._factor or 0.0, tokens_in / by_rule)
        self._cut = max(self._cut, counted / max(1, len(request.seeds)))

    def _more_pieces(self, request: Request, booking: Booking) -> float:
        """Factor by which the number of pieces can grow, because servers state no limit of n in advance."""
        if request.elicit == "score" or not self._server:
            return 1.0
        pieces = max(1, booking.requests)
        most = (self._cut or 1.0) * len(request.seeds)
        return max(1.0, most / pieces)

    def _tokens_of_one(self, request: Request) -> int:
        return max(map(tokens_of_prompt, request.questions))


def sends_of(choices: Sequence[str]) -> int:
    """Requests to a server to score one label order: one for codes, up to one per word for words."""
    return 1 if all(len(choice) == 1 for choice in choices) else len(choices)


def _within(reported: float, most: float) -> tuple[float, bool]:
    """A count as reported if it is possible, otherwise the maximum; and whether it was impossible."""
    possible = 0.0 <= reported <= most
    return (float(reported) if possible else float(most)), not possible


def _seconds(request: Request) -> float:
    return request.questions[0].seconds


def _tokens_by_rule(request: Request) -> float:
    """Usual number of prompt tokens of one piece."""
    letters = sum(question.letters for question in request.questions)
    return letters / len(request.questions) / LETTERS_A_TOKEN + TOKENS_A_SECOND * _seconds(request)


class Budget:
    """The remaining budget; requests in flight are booked at their maximum, so that the limit is never exceeded."""

    def __init__(self, limit: float | None, spent: float, currency: str = "") -> None:
        self.limit = limit
        self.spent = spent
        self.currency = currency
        self._in_flight = 0.0

    def book(self, most: float) -> bool:
        """Book the maximum cost of something, if the limit allows it."""
        if self.limit is not None and self.spent + self._in_flight + most > self.limit + 1e-12:
            return False
        self._in_flight += most
        return True

    def in_money(self, price: float) -> str:
        """A price as text, in the currency of the budget."""
        return in_money(price, self.currency)

    def __str__(self) -> str:
        """What is spent of it."""
        limit = "" if self.limit is None else f"the budget of {self.limit:g} {self.currency}".rstrip() + ": "
        return f"{limit}{self.in_money(self.spent)} are spent"

    def settle(self, booked: float, paid: float) -> None:
        """Replace the booked amount by the paid one."""
        self._in_flight -= booked
        self.spent += paid


class Booked:
    """The amount that a request has booked: one try, and each further try before it is made."""

    def __init__(self, budget: Budget, first: float, again: Callable[[], float]) -> None:
        self._budget = budget
        self._again = again
        self.total = first

    def book_again(self) -> bool:
        """Book another try if the budget allows it."""
        more = self._again()
        if not self._budget.book(more):
            return False
        self.total += more
        return True

    def settle(self, paid: float) -> None:
        """Replace the booked amount by the paid one."""
        self._budget.settle(self.total, paid)
