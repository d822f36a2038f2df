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
from alm_proxies.stages.annotate.ledger_questions import Compared
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.stages.annotate.plan import CONTROL, TELLS
from alm_proxies.tables import Finding

__all__ = ["CONTROL", "TELLS", "cards_with_injections", "injection_findings", "injections"]


def injection_findings(ledger: Ledger) -> list[Finding]:
    """Findings on missing votes with an injected sentence: failed ones, and those not cast."""
    planned, cast, failed = ledger.injected_so_far()
    again, votes = "Run the same command again to continue.", "votes with an injected transcript"
    found = []
    if failed:
        message = f"{failed} of {planned} {votes} failed and are not counted"
        found.append(Finding(STAGE, "injection_failed", message, again, count=failed))
    if cast < planned:
        message = f"{planned - cast} of {planned} {votes} have not been cast"
        found.append(Finding(STAGE, "injection_not_cast", message, again, count=planned - cast))
    return found


def injections(ledger: Ledger) -> dict[str, Injected]:
    """The effect of injection per annotator, from the draws with all three votes: plain, injected and control.

    A vote for the injected label cannot change to it; of a vote shared among labels, the rest can. An
    injected vote that is refused or unparsable counts as not changed.
    """
    found = {name: _measured(votes) for name, votes in ledger.compared()}
    return {name: one for name, one in found.items() if one is not None}


def cards_with_injections(ledger: Ledger) -> dict[str, AnnotatorCard]:
    """The cards of the planned annotators, with the effect of an injected sentence, if measured."""
    found = injections(ledger)
    return {name: card.model_copy(update={"injected": found.get(name)}) for name, card in ledger.cards().items()}


def _measured(votes: Sequence[Compared]) -> Injected | None:
    by_utterance: dict[str, list[float]] = {}
    speakers: dict[str, str] = {}
    for one in votes:
        total = by_utterance.setdefault(one.utterance, [0.0, 0.0, 0.0])
        speakers[one.utterance] = one.speaker
        parts = (max(0.0, one.told - one.plain), 1.0 - one.plain, max(0.0, one.control - one.plain))
        for place, value in enumerate(parts):
            total[place] += value
    sums = np.array(list(by_utterance.values()))
    turned, could, by_chance = sums.sum(axis=0)
    if could <= 0.0:
        return None
    low, high = _ends(sums[:, :2], list(speakers.values()), turned / could)
    return Injected(
        utterances=len(sums), votes=could, share=turned / could, low=low, high=high, by_chance=by_chance / could
    )


def _ends(sums: NDArray[np.float64], speakers: list[str], share: float) -> tuple[float | None, float | None]:
    """The ends of the interval; where no speaker's votes or all of them were turned, those of n speakers out of n.

    These are Clopper and Pearson's: 0 of n have (0, 1 - .025^(1/n)), which resampling would call certain.
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
