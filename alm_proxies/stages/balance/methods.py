"""The methods of balance: weights closest to the given ones, optionally with generated items; and the paper's as a
baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.printable import counted
from alm_proxies.stages.balance.chosen import part_of
from alm_proxies.stages.balance.needed import Recordings
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.stages.balance.weights import Balance, balanced
from alm_proxies.stages.balance.wishes import Wish, wishes_of, wishes_with_items
from alm_proxies.tables import Finding, Labels, Utterances

if TYPE_CHECKING:
    from alm_proxies.report.page import Section
    from alm_proxies.stages.balance.generated import Generated

Array = NDArray[np.float64]
_FEW = 0.2
"""A lower effective sample size, as a share of the utterances, gives a warning."""


@dataclass(frozen=True, slots=True, eq=False)
class Reached:
    """The result of a method: both tables with its items, the balanced rows, the wishes, and the weights."""

    labels: Labels
    utterances: Utterances
    part: Labels
    rows: pl.DataFrame
    wishes: list[Wish]
    solution: Balance
    findings: list[Finding]
    metrics: dict[str, Any] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    items: list[pl.DataFrame] = field(default_factory=list)
    """Generated items: utterance_id, parent, second, effect, parameters."""
    recordings: Recordings = field(default_factory=Recordings)
    """The recordings that the method opened."""


def by_weights(
    labels: Labels, utterances: Utterances, settings: BalanceSettings, wanted: Mapping[str, float] | None, folder: Path
) -> Reached:
    """The method dime: weights that reach the wanted shares, over the utterances and, if requested, generated items."""
    part, rows, findings = part_of(labels, utterances, settings)
    wishes, more = wishes_of(part, rows, settings, wanted)
    findings += more
    solution = _solve(part, rows, wishes, settings)
    reached = Reached(labels, utterances, part, rows, wishes, solution, findings)
    if settings.generated.size is not None:
        reached = _with_generated(reached, settings, folder)
    all_findings = reached.findings
    solution = reached.solution
    all_findings += [*_unmet(reached.wishes, solution, settings), *_beyond(solution), *_uneven(solution, settings)]
    return reached


def by_reference(
    labels: Labels, utterances: Utterances, settings: BalanceSettings, wanted: Mapping[str, float] | None, folder: Path
) -> Reached:
    """The method reference: rare classes filled up and weighted by inverse counts; the wishes only measure it."""
    from alm_proxies.stages.balance.examples import filled_section
    from alm_proxies.stages.balance.mixtures import with_mixtures
    from alm_proxies.stages.balance.reference import class_weights, filled

    part, rows, findings = part_of(labels, utterances, settings)
    wishes, more = wishes_of(part, rows, settings, wanted)
    items = filled(part, rows, utterances, settings, folder)
    findings += [*more, *items.findings]
    labels, utterances, failed = with_mixtures(
        labels, utterances, items.labels, items.utterances, folder if settings.render else None, settings.cards
    )
    findings += failed
    part, rows, _ = part_of(labels, utterances, settings)
    wishes = wishes_with_items(part, rows, settings, wishes)
    weights = class_weights(part)
    shares = np.array([weights @ wish.feature for wish in wishes]) / len(weights)
    solution = Balance(weights, shares, np.array([wish.target for wish in wishes]))
    missed = int(solution.missed.sum())
    if missed:
        message = (
            f'method = "reference" misses {missed} of {len(wishes)} wanted shares: it balances counts of most likely '
            "labels, not distributions"
        )
        findings.append(Finding("balance", "wish_not_met", message, 'Use method = "dime".', count=missed))
    findings += _uneven(solution, settings)
    metrics = {
        "reference": {
            "items": items.items.height,
            "filled": {name: {"utterances": had, "items": got} for name, (had, got) in items.classes.items()},
        }
    }
    return Reached(
        labels,
        utterances,
        part,
        rows,
        wishes,
        solution,
        findings,
        metrics,
        [filled_section(items)],
        [items.items],
        items.recordings,
    )


def _with_generated(reached: Reached, settings: BalanceSettings, folder: Path) -> Reached:
    from alm_proxies.audio.recipe import Sounds
    from alm_proxies.stages.balance.examples import generated_section
    from alm_proxies.stages.balance.generated import Generated, generate, hear
    from alm_proxies.stages.balance.mixtures import STAGE, with_mixtures

    sounds = Sounds(reached.utterances, stage=STAGE, cards=settings.cards)
    vectors = hear(reached.rows, sounds, folder)
    reached.findings.extend(vectors.findings)
    recordings = Recordings.of(reached.rows["utterance_id"], vectors.known.tolist())
    generated = generate(
        reached.part, reached.rows, reached.utterances, reached.solution.weights, settings, sounds, vectors
    )
    if not isinstance(generated, Generated):
        reached.findings.append(generated)
        reached.metrics["generated"] = None
        return replace(reached, recordings=recordings)
    rendering = folder if settings.render else None
    labels, utterances, failed = with_mixtures(
        reached.labels, reached.utterances, generated.labels, generated.utterances, rendering, settings.cards
    )
    part, rows, _ = part_of(labels, utterances, settings)
    wishes = wishes_with_items(part, rows, settings, reached.wishes)
    solution = _solve(part, rows, wishes, settings)
    findings = [*reached.findings, *generated.findings, *failed]
    metrics = {"generated": _metrics_of_generated(generated)}
    return Reached(
        labels,
        utterances,
        part,
        rows,
        wishes,
        solution,
        findings,
        metrics,
        [generated_section(generated)],
        [generated.items],
        recordings,
    )


def _metrics_of_generated(generated: Generated) -> dict[str, Any]:
    return {
        "items": generated.items.height,
        "tried": generated.tried,
        "threshold_nats": generated.threshold,
        "controls": [
            {
                "name": control.name,
                "tried": control.tried,
                "rate": control.rate if control.tried else None,
                "blind": control.blind,
            }
            for control in generated.controls
        ],
    }


def _solve(labels: Labels, rows: pl.DataFrame, wishes: list[Wish], settings: BalanceSettings) -> Balance:
    speakers = None
    if settings.cap.speaker is not None:
        names = rows["speaker"].fill_null(
            pl.concat_str(pl.lit("\0"), rows["utterance_id"])
        )  # unknown speakers: each its own
        speakers = names.rank("dense").to_numpy().astype(np.int64) - 1
    return balanced(
        np.stack([wish.feature for wish in wishes], axis=1),
        np.array([wish.target for wish in wishes]),
        start=labels.frame["weight"].to_numpy().astype(np.float64),
        cap=settings.cap.utterance,
        speakers=speakers,
        speaker_cap=settings.cap.speaker,
    )


def _less(settings: BalanceSettings) -> list[str]:
    """What to ask for that is nearer to today's shares than what is asked for."""
    if settings.classes == "uniform":
        return ["ask for less (classes = square_root)"]
    if settings.classes != "keep":
        return ["ask for less (classes = keep)"]
    return ["ask for less (ambiguity = keep)"] if settings.ambiguity != "keep" else []


def _one_of(fixes: list[str]) -> str:
    *first, last = fixes
    text = f"{', '.join(first)}{', or ' if first else ''}{last}."
    return text[0].upper() + text[1:]


def _unmet(wishes: list[Wish], solution: Balance, settings: BalanceSettings) -> list[Finding]:
    capped = settings.cap.utterance is not None or settings.cap.speaker is not None
    fix = _one_of([*_less(settings), *(["raise the caps"] if capped else []), "add utterances of these shares"])
    findings = []
    for wish, reached, is_missed in zip(wishes, solution.reached, solution.missed, strict=True):
        if is_missed:
            message = (
                f"{wish.kind} {wish.name}: the wanted share is {wish.target:.1%}, {reached:.1%} is as near as "
                f"weights that are not far more uneven come to all wishes together (before {wish.today:.1%})"
            )
            findings.append(Finding("balance", "wish_not_met", message, fix, where=f"{wish.kind} {wish.name}"))
    return findings


def _beyond(solution: Balance) -> list[Finding]:
    """Findings for limits that could not be met."""
    findings = []
    for whose, limit, most in solution.over:
        if whose == "speaker":
            message = f"one speaker has {most:.1%} of all weight, but cap.speaker is {limit:.1%}"
        else:
            message = f"the largest weight is {most:.2f}, but cap.utterance is {limit:g}"
        fix = "Raise the cap: too few speakers or utterances have weight."
        findings.append(Finding("balance", "cap_not_held", message, fix, where=whose))
    return findings


def _uneven(solution: Balance, settings: BalanceSettings) -> list[Finding]:
    count, size = len(solution.weights), solution.effective_size
    if size >= _FEW * count:
        return []
    message = (
        f"the weights are so uneven that {counted(count, 'utterance carries', 'utterances carry')} the information "
        f"of {size:,.0f}"
    )
    cap = settings.cap.utterance
    capped = (
        "set a cap (cap.utterance = 5)" if cap is None else f"lower the cap (cap.utterance = {max(1.0, cap / 2):g})"
    )
    fix = _one_of([*_less(settings), capped])
    return [Finding("balance", "few_effective", message, fix, count=count)]
