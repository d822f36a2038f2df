"""annotate: request votes on utterances from a panel of annotators; no vote is ever paid twice."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from alm_proxies.about import About, Injected, MadeBy
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.arguments import checked
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_of
from alm_proxies.printable import in_money
from alm_proxies.shown import Shown
from alm_proxies.stages.annotate.askable import shard_of
from alm_proxies.stages.annotate.egress import refuse_all_egress
from alm_proxies.stages.annotate.human_votes import HumanVotes
from alm_proxies.stages.annotate.ledger import Ledger, Lost
from alm_proxies.stages.annotate.ledgers import refuse_another_division
from alm_proxies.stages.annotate.limits import refuse_same_names
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.stages.annotate.plan import make_plans
from alm_proxies.stages.annotate.prices import currency_of, expected_price
from alm_proxies.stages.annotate.reporting import findings_after, say_opened, say_plan
from alm_proxies.stages.annotate.restoring import TableState
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.votes_table import write_votes
from alm_proxies.tables import Findings, Utterances, Votes

__all__ = ["AnnotateSettings", "Annotated", "Spent", "annotate", "read_panel"]

if TYPE_CHECKING:
    from alm_proxies.engines.engine import Engine


@dataclass(frozen=True, slots=True)
class Spent:
    """Counts and costs of a run."""

    planned: int
    """Votes planned."""
    cast: int
    """Votes with an outcome, this run and earlier ones."""
    cast_now: int
    """Votes with an outcome from this run."""
    injected: int
    """Votes planned with a sentence injected into the transcript: paid, but not in the votes table."""
    injected_cast: int
    """Those of them with an outcome."""
    unasked: int
    """Votes that cannot be planned because their utterances have no recording."""
    price: float
    """Total cost so far, including failures and votes set aside."""
    price_now: float
    """Cost of this run."""
    tried_out: int
    """Requests that probed servers, in this run and earlier ones."""
    tried_out_price: float
    """Cost of these requests."""
    lost: Lost
    """Requests in flight when an earlier run was killed, at their maximum cost."""
    expected: float
    """Expected cost of the missing votes before this run."""
    whole: float | None
    """For a pilot: the extrapolated cost of all utterances."""
    seconds: float
    currency: str = ""
    """The currency that the annotator files state; empty = none."""


@dataclass(frozen=True, repr=False)
class Annotated(Shown):
    """The result of annotate: a row for every planned vote, the bill, findings, and the reason if it stopped."""

    path: Path
    """The votes table that was written."""
    about: About
    """The metadata of the table."""
    by_status: dict[str, int]
    """Planned votes by status; those not cast are failed."""
    spent: Spent
    findings: Findings
    table: TableState | None = None
    """The table as a file."""
    stopped: str | None = None
    interrupted: bool = False

    @cached_property
    def votes(self) -> Votes:
        """The votes table; a large one is read on access, as long as the file has not been overwritten."""
        if self.table != TableState.of(self.path):
            fix = "Read the table of each run before the next run overwrites it."
            raise InputError("was overwritten by a later run", where=str(self.path), fix=fix)
        return Votes.read(self.path)

    @property
    def complete(self) -> bool:
        """Whether every planned vote has an outcome, those with an injected sentence included."""
        return self.spent.cast == self.spent.planned and self.spent.injected_cast == self.spent.injected

    @property
    def counts(self) -> dict[str, float]:
        """Votes planned and cast, their cost, and how many are not ok."""
        spent = self.spent
        votes = spent.planned + spent.unasked
        counted = {"planned": spent.planned, "cast": spent.cast, "price": spent.price}
        return {**counted, "votes": votes, "left_out": votes - self.by_status.get("ok", 0)}

    @property
    def line(self) -> str:
        """The result in one sentence."""
        spent = self.spent
        line = f"{spent.cast:,} of {spent.planned:,} votes cast, {spent.cast_now:,} of them now"
        line += f", {in_money(spent.price, spent.currency)} spent"
        if spent.cast < spent.planned:
            line += f", {spent.planned - spent.cast:,} not requested"
        if spent.unasked:
            line += f", {spent.unasked:,} more impossible without a recording"
        if spent.whole is not None:
            line += f", about {in_money(spent.whole, spent.currency)} for all utterances"
        return "; ".join([line, *(f"{name}: {effect}" for name, effect in self._injected.items())])

    @property
    def data(self) -> dict[str, object]:
        """The bill, and the effect of injected transcripts on the votes."""
        injected = {name: effect.model_dump() for name, effect in self._injected.items()}
        return {"injected": injected, "spent": {**asdict(self.spent), "lost": self.spent.lost._asdict()}}

    @property
    def _injected(self) -> dict[str, Injected]:
        cards = self.about.annotators.items()
        return {name: card.injected for name, card in cards if card.injected is not None}


def counts_of(votes: Votes) -> dict[str, int]:
    """The number of votes, and of those that are not ok; a vote may be several rows."""
    draws = votes.frame.select("utterance_id", "annotator", "draw", "status").unique()
    return {"votes": draws.height, "left_out": int((draws["status"] != "ok").sum())}


_HELD_AT_ONCE = 500_000
"""Votes up to which their table is held in memory."""
Opener = Callable[[Annotator], Awaitable["Engine"]]


@checked
def annotate(
    utterances: Utterances,
    panel: Sequence[Annotator],
    folder: str | Path,
    settings: AnnotateSettings,
    *,
    votes: Votes | HumanVotes | None = None,
    engine_of: Opener = Annotator.open,
    quiet: bool = False,
) -> Annotated:
    """Cast the votes of every annotator of the panel on every utterance; a second run requests only missing votes.

    `votes` are human votes, to detect collapse and to draw a representative pilot. `engine_of` opens an engine.
    `quiet` prints no progress.
    """
    started = time.monotonic()
    refuse_same_names(panel)
    human = HumanVotes.of(votes)
    ready = [annotator.ready(utterances.taxonomy, settings.votes) for annotator in panel]
    currency = currency_of(ready)
    refuse_all_egress(utterances.frame["corpus"].unique().to_list(), ready, settings)
    shard = shard_of(settings.shard)
    ending = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
    table = Path(folder) / f"votes{ending}.parquet"
    path = Path(folder) / f"ledger{ending}.sqlite"
    refuse_another_division(path, [annotator.name for annotator in ready])
    with Ledger.open(path, table=table, accept_loss=settings.accept_loss) as ledger:
        ledger.keep("merged", "no")
        ledger.keep("taxonomy", json.dumps(utterances.taxonomy))
        say_opened(ledger, quiet)
        before = ledger.spent()
        plans = make_plans(utterances, ready, ledger, settings, human)
        plan = plans.plan
        expected = expected_price(plans, ledger, settings)
        say_plan(plans, expected, quiet)
        ledger.checkpoint()
        from alm_proxies.stages.annotate.asking import ask_for_missing

        asked = ask_for_missing(plans.both, ledger, settings, human, engine_of, quiet)
        decides = settings.model_dump(include={"votes", "seed", "limit", "shard", "injection"})
        read = {"utterances": utterances, "votes": human}
        inputs = {need: content.content_digest() for need, content in read.items() if content is not None}
        made_by = MadeBy(stage=STAGE, settings_digest=digest_of(decides), inputs=inputs)
        about = write_votes(ledger, table, utterances.taxonomy, made_by)
        by_status = ledger.by_status()
        left = plan.planned - sum(by_status.values())
        injected, injected_cast, _ = ledger.injected_so_far()
        price, tried_out = ledger.spent(), ledger.tried_out()
        part = settings.limit is not None or shard is not None
        silent = 0 if part and plan.planned else len(utterances) - plans.every.height
        spent = Spent(
            planned=plan.planned,
            cast=plan.planned - left,
            cast_now=plans.missing - left,
            injected=injected,
            injected_cast=injected_cast,
            unasked=silent * sum(annotator.votes for annotator in ready),
            price=price,
            price_now=price - before,
            tried_out=tried_out[0],
            tried_out_price=tried_out[1],
            lost=ledger.lost,
            expected=expected.price,
            whole=expected.whole(ledger.spent_on_plan(), (plan.planned - left) / max(plan.planned, 1))
            if settings.limit
            else None,
            seconds=time.monotonic() - started,
            currency=currency,
        )
        findings = findings_after(plans.both, ledger, asked.stopped, left, asked.halt, asked.findings)
    findings.write(Path(folder) / f"findings{ending}.parquet")
    halt = asked.halt
    reason = halt.reason if halt is not None and halt.reason else next(iter(asked.stopped.values()), None)
    if left:
        by_status = {**by_status, "failed": by_status.get("failed", 0) + left}
    interrupted, state = halt is not None and halt.interrupted, TableState.of(table)
    annotated = Annotated(table, about, by_status, spent, findings, state, reason, interrupted)
    if plan.planned <= _HELD_AT_ONCE:
        _ = annotated.votes
    return annotated


def read_panel(settings: AnnotateSettings, beside: str | Path = ".") -> list[Annotator]:
    """The annotators named in the settings, relative to a folder."""
    if not settings.panel:
        fix = 'Name one: panel = ["embedded"] (--annotator embedded).'
        raise SettingsError("annotate needs an annotator", fix=fix)
    return [Annotator.read(path, beside=beside) for path in settings.panel]
