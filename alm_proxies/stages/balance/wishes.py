"""The wanted shares in the settings, as features with targets for their weighted means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ambiguity import LEVELS
from alm_proxies.columns import did_you_mean
from alm_proxies.errors import SettingsError
from alm_proxies.nearest import known_names
from alm_proxies.printable import counted
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.tables import Finding, Labels

Array = NDArray[np.float64]

KEPT_GROUPS = ("gender", "corpus")
_OWN = ("classes", "ambiguity", "within")  # the kinds of wishes that are no group
MOST_VALUES = 50
"""A column with more values than this cannot be used as a group."""


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """One wanted share: its utterances (0..1 per row), name, present share and target."""

    kind: str
    """classes, ambiguity, within, or the group's column."""
    name: str
    feature: Array
    today: float
    target: float


def wishes_of(
    labels: Labels,
    utterances: pl.DataFrame,
    settings: BalanceSettings,
    wanted: Mapping[str, float] | None = None,
) -> tuple[list[Wish], list[Finding]]:
    """Every share wanted in the settings, for labels and utterances in the same order.

    Present shares are weighted. `wanted` has the shares of the Labels file in `settings.classes`, if it names one.
    """
    weights = labels.frame["weight"].to_numpy()
    weights = weights / weights.sum()
    shares = labels.distributions()
    shares = shares / shares.sum(1, keepdims=True)
    levels = labels.frame["ambiguity"].to_numpy()
    marks = {level: (levels == level).astype(np.float64) for level in LEVELS if (levels == level).any()}
    now = {level: float(weights @ mark) for level, mark in marks.items()}
    classes = _class_targets(labels.taxonomy, weights @ shares, settings, wanted)
    ambiguity, findings = _level_targets(now, settings)

    def wish(kind: str, name: str, feature: Array, target: float) -> Wish:
        return Wish(kind, name, feature, float(weights @ feature), target)

    named = list(enumerate(zip(labels.taxonomy, map(float, classes), strict=True)))
    wishes = [wish("classes", label, shares[:, number], share) for number, (label, share) in named]
    wishes += [wish("ambiguity", level, mark, ambiguity[level]) for level, mark in marks.items()]
    if settings.within:
        wishes += [
            wish("within", f"{label}, {level} ambiguity", shares[:, number] * mark, share * ambiguity[level])
            for level, mark in marks.items()
            for number, (label, share) in named
        ]
    for column, asked in _groups(utterances, settings).items():
        values = _values(utterances, column)
        now = {name: float(weights @ (values == name)) for name in sorted(set(values))}
        for name, target in _group_targets(column, now, asked).items():
            wishes.append(wish(column, name, (values == name).astype(np.float64), target))
    return wishes, findings


def wishes_with_items(
    labels: Labels, utterances: pl.DataFrame, settings: BalanceSettings, first: Sequence[Wish]
) -> list[Wish]:
    """The wishes over utterances and added items, with the targets and present shares of `first`, those from before
    items were added; 0 if there were none, as for the group of items mixed from two groups.
    """
    groups = dict.fromkeys((wish.kind for wish in first if wish.kind not in _OWN), "keep")
    any_target = settings.model_copy(update={"classes": "keep", "ambiguity": "keep", "groups": groups})
    wishes, _ = wishes_of(labels, utterances, any_target)
    known = {(wish.kind, wish.name): wish for wish in first}
    targeted = []
    for wish in wishes:
        before = known.get((wish.kind, wish.name))
        today, target = (before.today, before.target) if before is not None else (0.0, 0.0)
        targeted.append(replace(wish, today=today, target=target))
    return targeted


def _class_targets(
    taxonomy: Sequence[str], today: Array, settings: BalanceSettings, wanted: Mapping[str, float] | None
) -> Array:
    wish = settings.classes
    if wish == "uniform":
        return np.full(len(taxonomy), 1 / len(taxonomy))
    if wish == "keep":
        return today
    if wish == "square_root":
        roots = np.sqrt(today)
        return np.asarray(roots / roots.sum())
    asked = wish if isinstance(wish, dict) else wanted or {}
    if unknown := [label for label in asked if label not in taxonomy]:
        near = did_you_mean(unknown[0], taxonomy)
        fix = f"{near} The labels are {', '.join(taxonomy)}.".strip()
        raise SettingsError(f"classes has a share of {unknown[0]!r}, which is not a label", fix=fix)
    values = np.array([asked.get(label, 0.0) for label in taxonomy], dtype=np.float64)
    if missing := [label for label in taxonomy if label not in asked]:
        fix = "Give every label a share; 0 is allowed."
        raise SettingsError(f"classes has no share of {missing[0]!r}", fix=fix)
    return np.asarray(values / values.sum())


def _level_targets(now: Mapping[str, float], settings: BalanceSettings) -> tuple[dict[str, float], list[Finding]]:
    wish = settings.ambiguity
    if wish == "keep":
        return dict(now), []
    given = dict.fromkeys(LEVELS, 1.0) if isinstance(wish, str) else {str(level): wish[level] for level in wish}
    asked = {level: given.get(level, 0.0) for level in LEVELS}
    total = sum(asked[level] for level in now)
    if not total > 0:
        fix = f"Ask for a share of {' or '.join(now)}."
        raise SettingsError("ambiguity has shares for levels that no utterance has", fix=fix)
    findings = []
    if lacking := [level for level in LEVELS if level not in now and asked[level] > 0]:
        message = f"no utterance has {' or '.join(lacking)} ambiguity: its share goes to the other levels"
        fix = "Choose other shares, or fuse again with cut points of this corpus: ambiguity = quantiles."
        findings.append(Finding("balance", "level_lacking", message, fix))
    return {level: asked[level] / total for level in now}, findings


def _groups(utterances: pl.DataFrame, settings: BalanceSettings) -> dict[str, str | dict[str, float]]:
    if settings.groups is not None:
        return dict(settings.groups)
    return {name: "keep" for name in KEPT_GROUPS if utterances[name].n_unique() > 1}


def _values(utterances: pl.DataFrame, column: str) -> NDArray[np.object_]:
    if column not in utterances.columns:
        near = did_you_mean(column, utterances.columns)
        fix = f"{near} There are: {', '.join(utterances.columns)}.".strip()
        raise SettingsError(f"groups names the column {column!r}, which the utterances do not have", fix=fix)
    values = utterances[column].cast(pl.String).fill_null("unknown")
    if (count := values.n_unique()) > MOST_VALUES:
        fix = f"Bring it to {MOST_VALUES} values or fewer; for speakers there is cap = {{ speaker = 0.1 }}."
        raise SettingsError(f"the column {column!r} has {counted(count, 'value')}, too many for a group", fix=fix)
    return values.to_numpy()


def _group_targets(column: str, now: Mapping[str, float], wish: str | Mapping[str, float]) -> dict[str, float]:
    if isinstance(wish, str):
        return dict(now) if wish == "keep" else dict.fromkeys(now, 1 / len(now))
    if unknown := [name for name in wish if name not in now]:
        message = f"groups has a share of {column} = {unknown[0]!r}, which no utterance has"
        raise SettingsError(message, fix=known_names(unknown[0], now))
    if missing := [name for name in now if name not in wish]:
        message = f"groups has no share of {column} = {missing[0]!r}, which utterances have"
        raise SettingsError(message, fix="Give every value a share; 0 is allowed. Without a value it is 'unknown'.")
    total = sum(wish.values())
    return {name: wish[name] / total for name in now}
