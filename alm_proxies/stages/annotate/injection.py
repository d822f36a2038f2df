"""Prompt injection: a few votes are repeated with a transcript that gives an answer, to measure how many change.

The same annotator is asked with the same seeds, once with a sentence after the transcript that gives an answer, once
with a sentence that gives none. These votes are in the ledger under separate names and never in the Votes table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alm_proxies.about import AnnotatorCard, Injected
from alm_proxies.measures.bootstrap import interval_by_speaker
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.stages.annotate.records import Compared
from alm_proxies.tables import Finding


def injection_findings(ledger: Ledger) -> list[Finding]:
    """Findings on missing votes with an injected sentence: failed ones, and those not cast."""
    planned, cast, failed = ledger.injected_so_far()
    again, votes = "Run the same command again to continue.", "votes with an injected transcript"
    findings = []
    if failed:
        message = f"{failed} of {planned} {votes} failed and are not counted"
        findings.append(Finding(STAGE, "injection_failed", message, again, count=failed))
    if cast < planned:
        message = f"{planned - cast} of {planned} {votes} have not been cast"
        findings.append(Finding(STAGE, "injection_not_cast", message, again, count=planned - cast))
    return findings


def injections(ledger: Ledger) -> dict[str, Injected]:
    """The effect of injection per annotator, from the draws with all three votes: plain, injected and control.

    A vote for the injected label cannot change to it. Of a vote that is shared among labels, the rest can. An injected
    vote that is refused or unparsable counts as not changed.
    """
    effects = {name: _measured(votes) for name, votes in ledger.compared()}
    return {name: effect for name, effect in effects.items() if effect is not None}


def cards_with_injections(ledger: Ledger) -> dict[str, AnnotatorCard]:
    """The cards of the planned annotators, with the effect of an injected sentence, if measured."""
    effects = injections(ledger)
    return {name: card.model_copy(update={"injected": effects.get(name)}) for name, card in ledger.cards().items()}


def _measured(votes: Sequence[Compared]) -> Injected | None:
    by_utterance: dict[str, list[float]] = {}
    speakers: dict[str, str] = {}
    for vote in votes:
        total = by_utterance.setdefault(vote.utterance, [0.0, 0.0, 0.0])
        speakers[vote.utterance] = vote.speaker
        parts = (max(0.0, vote.injected - vote.plain), 1.0 - vote.plain, max(0.0, vote.control - vote.plain))
        for place, value in enumerate(parts):
            total[place] += value
    sums = np.array(list(by_utterance.values()))
    changed, changeable, by_chance = sums.sum(axis=0)
    if changeable <= 0.0:
        return None
    share = changed / changeable
    low, high = _ends(sums[:, :2], list(speakers.values()), share)
    return Injected(
        utterances=len(sums), votes=changeable, share=share, low=low, high=high, by_chance=by_chance / changeable
    )


def _ends(sums: NDArray[np.float64], speakers: list[str], share: float) -> tuple[float | None, float | None]:
    """The ends of the interval over speakers.

    A share of 0 or 1 has the interval of Clopper and Pearson for 0 or n of n speakers, e.g. (0, 1 - .025^(1/n)):
    resampling would give no width.
    """
    interval = interval_by_speaker(sums, speakers)
    if not math.isfinite(interval.low):
        return None, None
    rare = 0.025 ** (1.0 / interval.speakers)
    if share <= 0.0:
        return 0.0, 1.0 - rare
    if share >= 1.0:
        return rare, 1.0
    return max(0.0, interval.low), min(1.0, interval.high)
