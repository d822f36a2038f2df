"""The bill of requests to a server: tries, tokens and seconds of audio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from alm_proxies.engines.completions import Completion
from alm_proxies.engines.engine import NOT_REPORTED, Reported
from alm_proxies.engines.faults import FaultError, Sent
from alm_proxies.engines.trials import ACCOUNT, BOOK_AGAIN, TrialQuestion, TrialUse


@dataclass(frozen=True, slots=True)
class TriedOut:
    """The cost of probing a server's abilities."""

    requests: int = 0
    audio_seconds: float = 0.0
    tokens_in: int = 0
    """Prompt tokens of all requests that may be charged for."""
    tokens_out: int = 0


@dataclass(slots=True)
class Bill:
    """The bill of one request, over all its HTTP requests and tries, or of several requests."""

    tries: int = 0
    paid_tries: int = 0
    counted: int = 0
    implausible: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    audio_seconds: float = 0.0
    model: str = ""
    without_answer: Reported = NOT_REPORTED

    def add(self, sent: Sent[Completion], audio_seconds: float = 0.0) -> None:
        """Add an answer and its tries, each with this number of seconds of audio."""
        self.tries += sent.tries
        self.paid_tries += sent.paid_tries
        self.counted += sent.answer.tokens_in > 0
        self.implausible += sent.answer.implausible
        self.tokens_in += sent.answer.tokens_in
        self.tokens_out += sent.answer.tokens_out
        self.audio_seconds += sent.paid_tries * audio_seconds
        self.model = self.model or sent.answer.model
        self.without_answer = self.without_answer.and_(sent.reported)

    def add_fault(self, fault: FaultError, audio_seconds: float = 0.0) -> None:
        """Add tries that all failed."""
        self.tries += fault.tries
        self.paid_tries += fault.paid_tries
        self.audio_seconds += fault.paid_tries * audio_seconds
        self.without_answer = self.without_answer.and_(fault.reported)

    @property
    def tried_out(self) -> TriedOut:
        """The bill of probing a server."""
        more = self.without_answer
        return TriedOut(
            self.tries, self.audio_seconds, self.tokens_in + more.tokens_in, self.tokens_out + more.tokens_out
        )


async def sent_on_account(
    send: Callable[[], Awaitable[Sent[Completion]]], question: TrialQuestion, bill: Bill
) -> Sent[Completion]:
    """The answer of a trial, booked before it is sent and settled afterwards if there is an account."""
    account = ACCOUNT.get()
    number = await account.book(question) if account is not None else 0
    again = BOOK_AGAIN.set(None if account is None else partial(account.book_again, number))
    use = TrialUse("killed", 1, 1, 0, 0, 0)
    try:
        sent = await send()
        bill.add(sent, question.audio_seconds)
        answer, before = sent.answer, sent.reported
        counted = int(answer.tokens_in > 0) + before.tries
        tokens_in, tokens_out = answer.tokens_in + before.tokens_in, answer.tokens_out + before.tokens_out
        use = TrialUse("answered", sent.tries, sent.paid_tries, counted, tokens_in, tokens_out)
        return sent
    except FaultError as fault:
        bill.add_fault(fault, question.audio_seconds)
        use = TrialUse(fault.failure.kind, fault.tries, fault.paid_tries, *fault.reported[:3])
        raise
    finally:
        BOOK_AGAIN.reset(again)
        if account is not None:
            await account.settle(number, use)
