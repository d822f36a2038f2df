"""The plan: the votes to request, without those that the ledger has already."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import AnnotatorCard
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.files import digest_of
from alm_proxies.stages.annotate.askable import to_ask
from alm_proxies.stages.annotate.changes import lacks, set_aside
from alm_proxies.stages.annotate.human_votes import HumanVotes
from alm_proxies.stages.annotate.injection import ANSWER, CONTROL, shows_transcripts
from alm_proxies.stages.annotate.ledger import Ledger, Outcome
from alm_proxies.stages.annotate.outcomes import not_asked
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.tables import Finding, Utterances

_AT_ONCE = 20_000
"""Outcomes that are written at a time."""


@dataclass(frozen=True, slots=True)
class PanelMember:
    """An annotator in the panel: its number in the ledger, and which draws of which planned utterance are missing."""

    annotator: Annotator
    number: int
    missing: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Plan:
    """The votes to request: utterances in their order, the members of the panel, and findings."""

    utterances: pl.DataFrame
    members: tuple[PanelMember, ...]
    findings: tuple[Finding, ...]

    @property
    def planned(self) -> int:
        """Votes planned, cast or not."""
        return sum(member.missing.size for member in self.members)

    @property
    def missing(self) -> int:
        """Planned votes without an outcome."""
        return sum(int(member.missing.sum()) for member in self.members)

    @property
    def remote(self) -> bool:
        """Whether recordings have to be fetched."""
        return bool(self.utterances["path"].str.contains("://", literal=True).any())

    def rows(self, members: Sequence[PanelMember]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Position and columns of every utterance with a missing vote of one of these members, in order."""
        wanted = np.zeros(self.utterances.height, dtype=np.bool_)
        for member in members:
            wanted |= member.missing.any(axis=1)
        positions = np.flatnonzero(wanted)
        for start in range(0, len(positions), 1024):
            part = positions[start : start + 1024]
            yield from zip(part.tolist(), self.utterances[part].iter_rows(named=True), strict=True)


@dataclass(frozen=True, slots=True)
class Plans:
    """All votes to request: the plan, and the plan of the votes with an injected sentence."""

    plan: Plan
    injection: Plan
    every: pl.DataFrame
    """All utterances that can be asked about, including those beyond the limit of a pilot."""
    injected_of_every: pl.DataFrame
    """Those of them that the injection would take without a limit."""
    missing: int
    """Votes of the plan that had no outcome before."""
    gone: tuple[str, ...]
    """Recordings that do not exist."""

    @property
    def both(self) -> tuple[Plan, Plan]:
        """The plan and the injection."""
        return self.plan, self.injection


def make_plans(
    utterances: Utterances,
    panel: Sequence[Annotator],
    ledger: Ledger,
    settings: AnnotateSettings,
    human: HumanVotes | None = None,
) -> Plans:
    """Plan all votes, write the plan into the ledger, and record votes on missing recordings as failed.

    Failed votes and votes on changed recordings or texts are set aside, each with a finding. An utterance of the
    injection has two rows: one with a sentence that gives a random label, one with the control sentence.
    """
    asked = to_ask(utterances, panel, settings, human, ledger.path.parent)
    cards = {annotator.name: annotator.card(settings.seed) for annotator in panel}
    told = {
        annotator.name: tuple(_injected(cards[annotator.name], annotator.name, text) for text in (ANSWER, CONTROL))
        for annotator in panel
        if shows_transcripts(annotator)
    }
    frame = asked.frame
    numbers = ledger.utterance_ids(frame["utterance_id"])
    frame = frame.with_columns(number=pl.Series(numbers, dtype=pl.Int64))
    members = {ledger.annotator_id(cards[annotator.name], annotator.name): annotator for annotator in panel}
    ledger.set_plan(numbers, {number: annotator.votes for number, annotator in members.items()})
    with_answer, with_control = (
        part.join(frame.select("utterance_id", "number"), on="utterance_id", how="left", maintain_order="left")
        for part in (asked.injected.with_answer, asked.injected.with_control)
    )
    sides: tuple[dict[int, Annotator], ...] = ({}, {})
    injections: list[tuple[int, int, str, str | None, int, int]] = []
    for number, annotator in members.items():
        if annotator.name in told:
            pair = tuple(ledger.annotator_id(card, name) for card, name in told[annotator.name])
            for side, number_told in zip(sides, pair, strict=True):
                side[number_told] = annotator
            rows = zip(with_answer["number"], asked.injected.labels, with_answer["speaker"], strict=True)
            injections += [(number, *row, *pair) for row in rows]
    ledger.set_injections(injections)
    again, of_injection = set_aside(ledger, frame, members, ((with_answer, sides[0]), (with_control, sides[1])))
    plan = Plan(frame, tuple(_members(ledger, frame, members)), (*asked.findings, *again))
    injected = [
        replace(member, missing=_every_second(member.missing, place))
        for place, (part, side) in enumerate(zip((with_answer, with_control), sides, strict=True))
        for member in _members(ledger, part, side)
    ]
    alternating = np.arange(2 * with_answer.height).reshape(2, -1).T.ravel()
    injection = Plan(
        pl.concat([with_answer, with_control])[alternating], tuple(injected), (*of_injection, *asked.injected.findings)
    )
    missing = plan.missing
    gone = (*fail_missing(plan, ledger), *fail_missing(injection, ledger))
    return Plans(plan, injection, asked.every, asked.injected_of_every, missing, gone)


def fail_missing(plan: Plan, ledger: Ledger) -> list[str]:
    """Record votes on missing recordings, and those without what their prompt requires, as failed, so that no engine
    is opened for them; gives the paths of the recordings.
    """
    gone: list[str] = []
    rows: list[Outcome] = []
    for place, row in plan.rows(plan.members):
        gone += [row["path"]] if row["gone"] else []
        for member in plan.members:
            kind, message = "missing", f"{row['path']}: there is no such file"
            if not row["gone"]:
                lacking = lacks(member.annotator, row)
                if lacking is None:
                    continue
                kind, message = f"no_{lacking}", f"the prompt needs its {lacking}"
            draws = member.missing[place].nonzero()[0].tolist()
            rows += not_asked(member.number, row["number"], draws, kind, message, time.time())
            member.missing[place] = False
        if len(rows) >= _AT_ONCE:
            ledger.write(outcomes=rows)
            rows = []
    if rows:
        ledger.write(outcomes=rows)
    return gone


def _members(ledger: Ledger, frame: pl.DataFrame, annotators: Mapping[int, Annotator]) -> Iterator[PanelMember]:
    """The members of a plan of these utterances, with the draws that have no outcome."""
    numbers = frame["number"].to_numpy()
    for number, annotator in annotators.items():
        yield PanelMember(annotator, number, ~ledger.done(number, annotator.votes)[numbers])


def _every_second(missing: NDArray[np.bool_], place: int) -> NDArray[np.bool_]:
    """The missing draws in a plan of which every second row, from `place` on, has the member's sentence."""
    alternating = np.zeros((2 * len(missing), missing.shape[1]), dtype=np.bool_)
    alternating[place::2] = missing
    return alternating


def _injected(card: AnnotatorCard, annotator: str, sentence: str) -> tuple[AnnotatorCard, str]:
    """The card and name of an annotator with an injected sentence; no name in a panel has spaces, as this one has."""
    digest = f"{card.digest} {digest_of(sentence)}"
    return card.model_copy(update={"digest": digest}), f"{annotator} told {sentence!r}"
