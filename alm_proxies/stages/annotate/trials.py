"""Trials: requests that probe a server's abilities are booked, settled, and recorded in the ledger."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import Abilities, Engine, Reply, Request
from alm_proxies.engines.trials import BOOK_AGAIN, OverBudgetError, TrialQuestion, TrialUse
from alm_proxies.progress import say
from alm_proxies.stages.annotate.budget import Booked, Budget, Estimate, Use
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.records import Trial


class LedgerAccount:
    """The account that charges an annotator's trials to the budget of a run."""

    def __init__(self, ledger: Ledger, budget: Budget, annotator: Annotator, quiet: bool) -> None:
        self._ledger = ledger
        self.budget = budget
        self._annotator = annotator
        self._quiet = quiet
        self._booked: dict[int, tuple[TrialQuestion, Booked]] = {}
        self._announced = False
        self._booked_at: dict[int, float] = {}
        """When each trial was booked; it stays its time, by which a merge knows it in another state."""

    async def book(self, question: TrialQuestion) -> int:
        """Book one try of a question at its maximum cost."""
        if not self._announced:
            self._announced = True
            text = "about a dozen small requests first, to probe the server; each is in the ledger"
            say(f"{self._annotator.name}: {text}", quiet=self._quiet)
        use = Use(question.audio_seconds, question.tokens_in, question.tokens_out)
        number = await self.book_at("in flight", 1, use)
        most = self._price(use)
        self._booked[number] = question, Booked(self.budget, most, lambda: most)
        return number

    def book_again(self, number: int) -> bool:
        """Book another try if the budget allows it."""
        return self._booked[number][1].book_again()

    async def settle(self, number: int, use: TrialUse) -> None:
        """Replace the booked amount by the actual one; tries without reported tokens stay at their maximum cost."""
        question, booked = self._booked.pop(number)
        silent = max(0, use.paid_tries - use.counted)
        tokens_in = use.tokens_in + silent * question.tokens_in
        tokens_out = use.tokens_out + silent * question.tokens_out
        paid = Use(use.paid_tries * question.audio_seconds, tokens_in, tokens_out)
        await self.settle_at(number, use.state, use.tries, paid, booked.total)

    async def book_at(self, state: str, requests: int, use: Use) -> int:
        """Book a use; gives its number."""
        most = self._price(use)
        if not self.budget.book(most):
            text = f"probing the server could exceed {self.budget}, and the next question may cost up to"
            raise OverBudgetError(f"{text} {self.budget.in_money(most)}")
        number = self._ledger.next_trial()
        at = self._booked_at[number] = time.time()
        row = Trial(number, self._annotator.name, state, requests, *use, most, at)
        await asyncio.to_thread(self._ledger.write, trials=[row])
        return number

    async def settle_at(self, number: int, state: str, requests: int, use: Use, booked: float) -> None:
        """Replace the booked amount by the cost of a use."""
        price = self._price(use)
        row = Trial(number, self._annotator.name, state, requests, *use, price, self._booked_at.pop(number))
        await asyncio.to_thread(self._ledger.write, trials=[row])
        self.budget.settle(booked, price)

    def _price(self, use: Use) -> float:
        price = self._annotator.file.price
        return price.of(audio_seconds=use.audio_seconds, tokens_in=use.tokens_in, tokens_out=use.tokens_out)


class BilledEngine:
    """An engine whose requests are booked as trials, because they are no votes but cost the same."""

    def __init__(self, engine: Engine, account: LedgerAccount, estimate: Estimate) -> None:
        self._engine = engine
        self._account = account
        self._estimate = estimate

    @property
    def abilities(self) -> Abilities:
        """The abilities of the engine."""
        return self._engine.abilities

    async def ask(self, request: Request) -> Reply:
        """Book a request, send it, and settle the bill."""
        estimate, most = self._estimate, self._estimate.most_use(request)
        number = await self._account.book_at("in flight", 1, most)
        booked = Booked(self._account.budget, estimate.price(most), partial(estimate.again, request))
        again = BOOK_AGAIN.set(booked.book_again)
        try:
            reply = await self._engine.ask(request)
        finally:
            BOOK_AGAIN.reset(again)
        state = "answered" if reply.failure is None else reply.failure.kind
        used = estimate.used(request, reply)
        await self._account.settle_at(number, state, max(1, reply.tries), used, booked.total)
        return reply

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        """The token counts of the engine."""
        return await self._engine.token_counts(texts)

    async def close(self) -> None:
        """Do nothing, because the engine is closed where it was opened."""
