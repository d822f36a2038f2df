"""The account of a fit, as plain values for the metadata of labels: methods, weights, classes and proxies.

{"method": "auto",
 "levels": [{"level": "with proxies", "share": .8, "strength_scale": 1.1, "methods": [
    {"method": "gated", "weight": .5, "members": [{"method": "gated", "classes": 8, "penalty": .003}, ...]}]}, ...],
 "proxies": [{"proxy": "listener", "annotators": ["listener"], "counts": true, "lowers_log_loss_by": {"value": .03,
    "low": .02, "high": .04}, "beside": "the other proxies", "why": null}]}

`weight` is within its level, `share` that of the level in the stack. `lowers_log_loss_by` is in nats per held-out
(cross-validated) human vote, and null where it was not measured; `why` is the reason why a proxy does not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alm_proxies.estimators.chosen import Chosen
from alm_proxies.estimators.counts import COLUMNS, Counts
from alm_proxies.estimators.estimator import Estimator
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.stack_trial import seen_of
from alm_proxies.estimators.trials import printed

if TYPE_CHECKING:
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.stack_trial import Level

_PARAMETERS = ("classes", "penalty")
ADDS_NOTHING = "does not add to the others"
NO_GAIN = "no significant gain in a one-sided test"
TOO_LITTLE = "too little"
NOT_TESTED = "no utterance has both its votes and human votes of the fit"
NOT_USED = "the method takes no proxies"


def account_of(estimator: Estimator | DawidSkene, counts: Counts | None = None) -> dict[str, Any]:
    """The account of a fitted estimator and of the proxies in the counts it was fitted to."""
    if isinstance(estimator, Stack):
        return {
            "method": estimator.name,
            "levels": _levels(estimator),
            "proxies": _proxies(estimator, counts),
            "raters_count": estimator.learned_.raters_count,
        }
    if isinstance(estimator, Chosen):
        return {"method": estimator.name, "chosen": _member(estimator.estimator_), "proxies": _of(estimator, counts)}
    return {**_member(estimator), "proxies": _of(estimator, counts)}


def _member(estimator: Estimator | DawidSkene) -> dict[str, Any]:
    return {
        "method": estimator.name,
        **{name: getattr(estimator, name) for name in _PARAMETERS if hasattr(estimator, name)},
        "converged": bool(getattr(estimator, "converged_", True)),
    }


def _levels(stack: Stack) -> list[dict[str, Any]]:
    learned, levels = stack.learned_, []
    parts: Sequence[tuple[str, Level | None, Sequence[tuple[float, Estimator]]]] = (
        ("with proxies", learned.beside if stack.share_ else None, stack.members_),
        ("without proxies", learned.alone, stack.members_without_),
    )
    for name, level, members in parts:
        if level is None:
            continue
        methods: dict[str, dict[str, Any]] = {}
        for weight, member in members:
            entry = methods.setdefault(member.name, {"method": member.name, "weight": 0.0, "members": []})
            entry["weight"] += float(weight)
            entry["members"].append(_member(member))
        share = stack.share_ if name == "with proxies" else 1.0 - stack.share_
        levels.append(
            {
                "level": name,
                "share": float(share),
                "strength_scale": _number(level.scale),
                "log_loss_left_out": _number(level.loss),
                "methods": list(methods.values()),
            }
        )
    return levels


def _proxies(stack: Stack, counts: Counts | None) -> list[dict[str, Any]]:
    """Every proxy: whether it counts, what it adds, why it does not."""
    adds = {
        row["method"].removeprefix("loglinear less "): row
        for row in stack.trials_.iter_rows(named=True)
        if row["method"].startswith("loglinear less ")
    }
    gains = {gain.context: gain.interval for gain in stack.learned_.gains}
    test = stack.learned_.test
    proxies = []
    for name, annotators in _names(counts).items():
        why = None
        if name in stack.leaks_:
            why = stack.leaks_[name]
        elif name not in stack.proxies_ and not _tested(counts, name):
            why = NOT_TESTED
        elif name not in stack.learned_.proxies:
            why = ADDS_NOTHING
        elif not stack.share_:
            why = TOO_LITTLE if test is not None and test.high < 0 else NO_GAIN
        gain, beside = None, None
        if name in adds:
            row = adds[name]
            gain, beside = _interval(row["against_no_proxies"], row["low"], row["high"]), "the other proxies"
        elif name in stack.proxies_ and gains:
            most = printed(gains[max(gains)])
            gain, beside = _interval(-most.estimate, -most.high, -most.low), "human votes alone"
        proxies.append(_proxy(name, annotators, why) | {"lowers_log_loss_by": gain, "beside": beside})
    return proxies


def _of(estimator: Estimator | DawidSkene, counts: Counts | None) -> list[dict[str, Any]]:
    uses = getattr(estimator, "uses_proxies", True)
    kept = getattr(estimator, "blocks_", ())
    if isinstance(estimator, Chosen):
        kept, leaks = estimator.candidate_.proxies, estimator.leaks_
        other = dict.fromkeys(_names(counts), ADDS_NOTHING if kept else NO_GAIN)
        other |= {name: NOT_TESTED for name in other if not _tested(counts, name)}
        other.update(leaks)
    else:
        kept, other = (*kept, COLUMNS), {}
    return [
        _proxy(name, annotators, None if uses and name in kept else other.get(name, NOT_USED))
        for name, annotators in _names(counts).items()
    ]


def _tested(counts: Counts | None, name: str) -> bool:
    """Whether any utterance has both human votes and votes of a proxy, or a known column."""
    return counts is not None and bool((counts.human.any(1) & seen_of(counts, (name,))).any())


def _proxy(name: str, annotators: Sequence[str], why: str | None) -> dict[str, Any]:
    return {
        "proxy": name,
        "annotators": list(annotators),
        "counts": why is None,
        "lowers_log_loss_by": None,
        "beside": None,
        "why": why,
    }


def _names(counts: Counts | None) -> Mapping[str, Sequence[str]]:
    if counts is None:
        return {}
    blocks = {block.name: block.annotators for block in counts.blocks}
    return blocks | ({COLUMNS: ()} if counts.columns.shape[1] else {})


def _interval(value: float, low: float, high: float) -> dict[str, float | None]:
    return {"value": _number(value), "low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
