"""When to stop, and what may be asked at all: price, budget, collapse, refusals, failures, and what may leave."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.asking import Asking
from alm_proxies.ballots import which_count
from alm_proxies.cards import stays_because
from alm_proxies.engines.addresses import is_loopback
from alm_proxies.engines.engine import Abilities, OpenAIServe, Reply, consecutive_runs
from alm_proxies.errors import ForbiddenError, SettingsError
from alm_proxies.files import canonical_json
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.plan import Plan
from alm_proxies.stages.annotate.settings import Stop
from alm_proxies.tables import Votes

AGAIN = "Run the same command again to go on."
RAISE_THE_BUDGET = "Raise the budget (--budget), then run the same command: it goes on."
_ENOUGH = 20
"""Answered votes of an annotator from which the price of one is known better than by its price table."""
_TRIAL = (6.5, 390, 104)
"""Seconds of audio and tokens in and out of the questions that try a server out."""
_TOKENS_A_SECOND = 32.0
"""Prompt tokens that a second of audio is taken for, until replies say what it really is."""
_LETTERS_A_TOKEN = 3.0
"""Letters that a prompt token is taken for, on the low side, until replies say what it really is."""
_UNKNOWN_SECONDS = 5.0
"""How long an utterance is taken to be where no length is known, for the price before the run."""


@dataclass(slots=True)
class Tally:
    """What one annotator's votes have been so far; recordings that cannot be used are not its failures."""

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    labels: dict[str, float] = field(default_factory=dict)

    def count(self, status: str, shares: Iterable[tuple[str, float]] = ()) -> None:
        """Count one vote."""
        self.statuses[status] += 1
        for label, share in shares:
            self.labels[label] = self.labels.get(label, 0.0) + share

    def verdict(self, stop: Stop, human: Mapping[str, float]) -> str | None:
        """Why this annotator should be stopped, in a sentence, or None."""
        total = self.statuses.total()
        if total < stop.after:
            return None
        for status, borne in (("failed", stop.failed), ("refused", stop.refused)):
            share = self.statuses[status] / total
            if share > borne:
                return f"{share:.0%} of the votes of {self.name} {status} (stop.{status} = {borne:g})"
        ok = sum(self.labels.values())
        if ok >= stop.after / 2:
            label, mass = max(self.labels.items(), key=lambda item: (item[1], item[0]))
            if mass / ok > stop.collapse and human.get(label, 0.0) <= stop.collapse:
                heard = f", human votes {human.get(label, 0.0):.0%}" if human else ""
                message = f"{self.name} says {label} in {mass / ok:.0%} of its votes{heard}"
                return f"{message} (stop.collapse = {stop.collapse:g})"
        return None


def tally_of(ledger: Ledger, annotator: Annotator, number: int) -> Tally:
    """The tally of what the ledger already holds."""
    made = Tally(annotator.name)
    asked = "FROM vote WHERE annotator = ? AND tries > 0"
    counted = ledger.sql.execute(f"SELECT status, label, COUNT(*) {asked} GROUP BY status, label", (number,))
    for status, label, count in counted:
        made.statuses[status] += count
        if label is not None:
            made.labels[label] = made.labels.get(label, 0.0) + count
    shared = """SELECT json_extract(share.value, '$[0]'), SUM(json_extract(share.value, '$[1]'))
        FROM vote, json_each(vote.more, '$.shares') AS share WHERE annotator = ? GROUP BY 1"""
    for label, mass in ledger.sql.execute(shared, (number,)):
        made.labels[label] = made.labels.get(label, 0.0) + mass
    return made


def human_shares(votes: Votes | None) -> dict[str, float]:
    """The share of every label in the human votes that may be looked at."""
    if votes is None:
        return {}
    human = votes.frame.filter(which_count("human", consensus=True))
    sums = human.group_by("label").agg(pl.col("weight").sum()).sort("label")
    total = float(sums["weight"].sum())
    return {label: weight / total for label, weight in sums.iter_rows()} if total else {}


class Estimate:
    """What a request should cost: audio by its length, tokens by rule until replies say how many there really are."""

    def __init__(self, annotator: Annotator, can: Abilities) -> None:
        self._price = annotator.file.price
        self._can = can
        self._factor = 1.0
        self.learned = self._price.million_tokens_in == 0.0
        serve = annotator.serve
        self._sends_each = isinstance(serve, OpenAIServe)
        self.tries = serve.tries if isinstance(serve, OpenAIServe) else 1
        """How often a request may be sent, each time at its price."""

    def of(self, asking: Asking) -> float:
        """The price of a request that needs no second try, its answers as long as they are allowed to be."""
        request, sent = asking.request, self._sent(asking)
        seconds = sum(clip.seconds for clip in request.audio)
        answers = sent if request.elicit == "score" else len(request.seeds) * request.sampling.max_tokens
        tokens = self._factor * self._tokens(asking) * sent
        return self._price.of(audio_seconds=seconds * sent, tokens_in=tokens, tokens_out=answers)

    def used(self, asking: Asking, reply: Reply) -> float:
        """Prompt tokens of a reply: those it tells, and for paid tries of which nobody told what they should be."""
        return reply.tokens_in + self._factor * self._tokens(asking) * (reply.paid_tries - reply.counted)

    def learn(self, asking: Asking, reply: Reply) -> None:
        """Take a reply's own count as a measure, if it is higher than what was thought."""
        guess = self._tokens(asking) * reply.counted
        if reply.tokens_in > 0 and guess > 0:
            factor = reply.tokens_in / guess
            self._factor = max(self._factor, factor) if self.learned else factor
        self.learned = self.learned or reply.failure is None  # some engines never say how many tokens there were

    def _sent(self, asking: Asking) -> int:
        """How many requests it is cut into: each holds the recording."""
        request = asking.request
        if request.elicit != "score":
            return len(consecutive_runs(request.seeds)) if self._can.several else len(request.seeds)
        return sum(sends_of(question.choices) for question in request.questions) if self._sends_each else 1

    def _tokens(self, asking: Asking) -> float:
        """Prompt tokens of one of them, by rule."""
        questions = asking.request.questions
        letters = sum(len(p) for q in questions for turn in q.turns for p in turn.parts if isinstance(p, str))
        seconds = sum(clip.seconds for clip in asking.request.audio)
        return letters / len(questions) / _LETTERS_A_TOKEN + _TOKENS_A_SECOND * seconds


def sends_of(choices: Sequence[str]) -> int:
    """How often a server is asked to score one label order: once for codes, for words up to once a word."""
    return 1 if all(len(choice) == 1 for choice in choices) else len(choices)


class Purse:
    """What may still be spent; what is in flight is set aside, so that the budget is never passed."""

    def __init__(self, budget: float | None, spent: float) -> None:
        self.budget = budget
        self.spent = spent
        self._aside = 0.0

    def take(self, price: float) -> bool:
        """Set a price aside if the budget allows it."""
        if self.budget is not None and self.spent + self._aside + price > self.budget + 1e-12:
            return False
        self._aside += price
        return True

    def settle(self, taken: float, paid: float) -> None:
        """Pay what something really cost."""
        self._aside -= taken
        self.spent += paid


class Halt:
    """Whether to go on: the first reason to stop is kept, and nothing new is sent after it."""

    def __init__(self, minutes: float | None) -> None:
        self.reason: str | None = None
        self.fix = AGAIN
        self.interrupted = False
        self._deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
        self._minutes = minutes

    def because(self, reason: str, fix: str = "") -> None:
        """Stop, for this reason; `fix` says how to go on where running it again is not enough."""
        if self.reason is None:
            self.reason, self.fix = reason, fix or AGAIN

    @property
    def now(self) -> bool:
        """Whether to send nothing more."""
        if self.reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.because(f"the {self._minutes:g} minutes given are over")
        return self.reason is not None


def price_before(annotator: Annotator, seconds: Sequence[float], missing: Sequence[int]) -> float:
    """What the missing votes should cost: audio seconds x requests, by the file's own price table.

    `seconds` and `missing` are the length and the missing votes of each utterance. Draws of one cell share a request.
    """
    cells, serve = len(annotator.cells), annotator.serve
    price = annotator.file.price
    total = 0.0
    for length, count in zip(seconds, missing, strict=True):
        requests = min(count, cells)
        shown = count * annotator.file.sampling.max_tokens
        if annotator.file.elicit == "score":
            answers = annotator.codes(annotator.cells[0]) or annotator.labels
            requests = shown = requests * sends_of(answers) if isinstance(serve, OpenAIServe) else min(requests, 1)
        tokens = requests * (250.0 / _LETTERS_A_TOKEN + _TOKENS_A_SECOND * length)
        total += price.of(audio_seconds=length * requests, tokens_in=tokens, tokens_out=shown)
    return total


def expected_price(plan: Plan, measured: Mapping[str, float]) -> float:
    """What everything that is missing should cost: by what a vote of its annotator has cost, else by the price table.

    `measured` is the price of a vote by annotator's name.
    """
    seconds, total = _seconds(plan.utterances), 0.0
    for seat in plan.seats:
        name = seat.annotator.name
        if name in measured:
            total += measured[name] * int(seat.missing.sum())
        else:
            total += price_before(seat.annotator, seconds, seat.missing.sum(axis=1).tolist())
    return total


def measured_prices(ledger: Ledger, plan: Plan) -> dict[str, float]:
    """What a vote has cost so far, by annotator's name, where enough were answered at the prices of now."""
    found = {}
    for seat in plan.seats:
        now, key = canonical_json(seat.annotator.file.price.model_dump()), f"price of {seat.number}"
        before, since = json.loads(ledger.about(key) or "[null, 0.0]")
        if before != now:
            since = 0.0 if before is None else time.time()
            ledger.keep(key, json.dumps([now, since]))
        answered = "tries > 0 AND status != 'failed' AND at >= ?"
        query = f"SELECT COUNT(*), SUM(price) FROM vote WHERE annotator = ? AND {answered}"
        count, price = ledger.sql.execute(query, (seat.number, since)).fetchone()
        if count >= _ENOUGH:
            found[seat.annotator.name] = price / count
    return found


def trial_price(annotator: Annotator) -> float:
    """What finding out what its server can do should cost; nothing where the engine is no server."""
    if not isinstance(annotator.serve, OpenAIServe):
        return 0.0
    return annotator.file.price.of(audio_seconds=_TRIAL[0], tokens_in=_TRIAL[1], tokens_out=_TRIAL[2])


def price_of_all(annotators: Iterable[Annotator], utterances: pl.DataFrame) -> float:
    """What all votes of these annotators about these utterances should cost."""
    seconds = _seconds(utterances)
    return sum(price_before(annotator, seconds, [annotator.votes] * len(seconds)) for annotator in annotators)


def _seconds(utterances: pl.DataFrame) -> list[float]:
    """The length of every utterance, the mean of the others where it is not known."""
    length = pl.coalesce(pl.col("end") - pl.col("start").fill_null(0.0), pl.col("duration"))
    known = utterances.select(length.alias("seconds"))["seconds"]
    mean = known.mean()
    return known.fill_null(float(mean) if isinstance(mean, int | float) else _UNKNOWN_SECONDS).to_list()


def leaves_this_machine(annotator: Annotator) -> bool:
    """Whether what an annotator is told leaves the machine: any server address that is not loopback."""
    serve = annotator.serve
    return isinstance(serve, OpenAIServe) and not all(is_loopback(url) for url in serve.base_urls)


def refuse_egress(
    corpora: Iterable[str], annotator: Annotator, local: bool, *, named: Collection[str], cards: Path | None
) -> None:
    """Refuse to send a corpus off this machine whose card forbids it, unless the user's file names it."""
    if local:
        return
    for corpus in sorted(set(corpora)):
        why = stays_because(corpus, named=named, folder=cards)
        if why is not None:
            shown = corpus or "its name"
            raise ForbiddenError(
                f"{annotator.name} is asked over the network, and {why}",
                where=annotator.where,
                fix=f"Use an engine on this machine; or, if you may, write may_leave = [{shown!r}] under [annotate].",
            )


def refuse_same_names(panel: Sequence[Annotator]) -> None:
    """Refuse a panel in which a name would sign two annotators' votes."""
    for name, count in Counter(annotator.name for annotator in panel).items():
        if count > 1:
            raise SettingsError(f"the panel has {count} annotators named {name!r}", fix="Give each a name of its own.")
    if not panel:
        raise SettingsError("the panel is empty", fix="Name an annotator file: --annotator A.toml.")
