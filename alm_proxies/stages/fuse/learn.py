"""Fit the estimator of fuse to a sample of the utterances: the named one, or auto's stack of several."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.estimators.account import account_of
from alm_proxies.estimators.chosen import Chosen
from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.leaks import leaking, leaks_found
from alm_proxies.estimators.named import named
from alm_proxies.estimators.stack import Stack
from alm_proxies.plugins import plugin
from alm_proxies.tables import Finding

if TYPE_CHECKING:
    from alm_proxies.estimators.attributes import Attributes
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.stages.fuse.settings import FuseSettings


@dataclass(frozen=True, slots=True)
class Learnt:
    """The fitted estimator, its trials and its findings."""

    estimator: Estimator
    trials: pl.DataFrame
    findings: tuple[Finding, ...]
    account: dict[str, Any]
    """The account of the fit, as plain values."""


def teaches(settings: FuseSettings, human: Array) -> NDArray[np.bool_]:
    """Which utterances the estimator can learn from, by their human counts."""
    return _named(settings).teaches(human)


def needs_people(settings: FuseSettings) -> bool:
    """Whether the method cannot be fitted to proxies alone."""
    return bool(getattr(plugin("estimators", settings.method).load(), "needs_people", True))


def learn(counts: Counts, settings: FuseSettings, *, quiet: bool = False) -> Learnt:
    """Fit the estimator of the settings to the usable utterances, or to a sample of them."""
    with quiet_fits():
        estimator = _named(settings, quiet).fit(counts)
    account = account_of(estimator, counts)
    if isinstance(estimator, Stack | Chosen):
        return Learnt(estimator, estimator.trials_, (*estimator.findings_, *_of_fit(estimator)), account)
    effect = "so the labels count them twice and are over-confident"
    leaks = leaks_found(leaking(counts), effect) if estimator.uses_proxies else []
    return Learnt(estimator, pl.DataFrame(), (*leaks, *_of_fit(estimator)), account)


@contextmanager
def quiet_fits() -> Iterator[None]:
    """Turn the warning of a fit that has not converged into a finding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        yield


def unsettled(estimator: Estimator | DawidSkene) -> list[Finding]:
    """A finding for a fit that stopped before it converged."""
    if getattr(estimator, "converged_", True):
        return []
    return [Finding("fuse", "not_converged", f"{estimator.name} stopped before it converged")]


def unsettled_attributes(rated: Attributes) -> list[Finding]:
    """A finding for the attributes with a fit that stopped before it converged."""
    names = [name for name, model in rated.models_.items() if not model.converged]
    if not names:
        return []
    return [Finding("fuse", "not_converged", f"the fit of {', '.join(names)} stopped before it converged")]


def _of_fit(estimator: Estimator) -> list[Finding]:
    learned = estimator.learned_part_
    if learned == 1.0:
        return unsettled(estimator)
    if learned:
        message = (
            f"few utterances have two human votes: the agreement learned from them counts {100 * learned:.0f} %, an "
            "assumed one of 0.3 the rest"
        )
    else:
        message = "no utterance has two human votes: an agreement of 0.3 between listeners is assumed"
    fix = "Have some utterances rated by two listeners or more."
    return [Finding("fuse", "assumed_agreement", message, fix=fix), *unsettled(estimator)]


def _named(settings: FuseSettings, quiet: bool = False) -> Estimator:
    """The estimator of the method, constructed with the settings that it takes."""
    return named(settings.method, settings.model_dump(), quiet=quiet)
