"""Limits of a run: when an annotator is stopped, and when the run is stopped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.errors import AlmProxiesError, SettingsError
from alm_proxies.printable import counted
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.settings import Stop

AGAIN = "Run the same command again to continue."
RAISE_THE_BUDGET = "Raise the budget (--budget), then run the same command again to continue."

_BROKEN, _BROKEN_FROM = 0.9, 10
"""Code in this process that fails in this share of its votes ends the run, from this number of recordings on."""


@dataclass(slots=True)
class Tally:
    """The votes of one annotator so far, without those on recordings that cannot be used."""

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    labels: dict[str, float] = field(default_factory=dict)
    broken: dict[str, AlmProxiesError] = field(default_factory=dict)
    """Errors of the code of a function or plug-in in this run, by utterance, as many as decide whether it works."""

    def count(self, status: str, shares: Iterable[tuple[str, float]] = ()) -> None:
        """Count one vote."""
        self.statuses[status] += 1
        for label, share in shares:
            self.labels[label] = self.labels.get(label, 0.0) + share

    def broke(self, utterance: str, error: AlmProxiesError) -> None:
        """Count an error of the code of a function or plug-in; raises it where nearly every vote fails."""
        if len(self.broken) < _BROKEN_FROM:
            self.broken.setdefault(utterance, error)
        if len(self.broken) == _BROKEN_FROM and self.statuses["failed"] >= _BROKEN * self.statuses.total():
            raise self._broken()

    def refuse_broken(self) -> None:
        """Raise the first error of such code if no vote was cast; called when everything was asked."""
        if self.broken and self.statuses["failed"] == self.statuses.total():
            raise self._broken()

    def _broken(self) -> SettingsError:
        failed, votes = self.statuses["failed"], counted(self.statuses.total(), "vote")
        error = next(iter(self.broken.values()))
        message = f"{error.message}; {failed:,} of {votes} of {self.name} failed"
        raised = SettingsError(message, where=error.where, fix=error.fix)
        raised.__cause__ = error
        return raised

    def verdict(self, stop: Stop, human: Mapping[str, float]) -> str | None:
        """The reason to stop this annotator, as a sentence, or None."""
        total = self.statuses.total()
        if total < stop.after:
            return None
        for status, allowed in (("failed", stop.failed), ("refused", stop.refused)):
            share = self.statuses[status] / total
            if share > allowed:
                message = f"{share:.0%} of the votes of {self.name} {status} (stop.{status} = {allowed:g})"
                error = next(iter(self.broken.values()), None) if status == "failed" else None
                return message if error is None else f"{message}, e.g. {error.message}{_place(error)}"
        ok = sum(self.labels.values())
        if ok >= stop.after / 2:
            label, weight = max(self.labels.items(), key=lambda item: (item[1], item[0]))
            if weight / ok > stop.collapse and human.get(label, 0.0) <= stop.collapse:
                beside = f", human votes {human.get(label, 0.0):.0%}" if human else ""
                message = f"{self.name} gives {label} in {weight / ok:.0%} of its votes{beside}"
                return f"{message} (stop.collapse = {stop.collapse:g})"
        return None


def _place(error: AlmProxiesError) -> str:
    return f" ({error.where})" if error.where else ""


def tally_of(ledger: Ledger, name: str, number: int) -> Tally:
    """The tally of the votes in the ledger."""
    statuses, labels = ledger.tally(number)
    return Tally(name, Counter(statuses), labels)


class Halt:
    """Whether the run is stopped: the first reason is kept, and no request is sent after it."""

    def __init__(self, minutes: float | None) -> None:
        self.reason: str | None = None
        self.fix = AGAIN
        self.interrupted = False
        self._deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
        self._minutes = minutes

    def because(self, reason: str, fix: str = "") -> None:
        """Stop for this reason; `fix` is needed if running the command again is not enough."""
        if self.reason is None:
            self.reason, self.fix = reason, fix or AGAIN

    @property
    def now(self) -> bool:
        """Whether the run is stopped."""
        if self.reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.because(f"the {self._minutes:g} minutes of max_minutes are over")
        return self.reason is not None


def refuse_same_names(panel: Sequence[Annotator]) -> None:
    """Refuse a panel with two annotators of the same name."""
    for name, count in Counter(annotator.name for annotator in panel).items():
        if count > 1:
            raise SettingsError(f"the panel has {count} annotators named {name!r}", fix="Give each a name of its own.")
    if not panel:
        fix = 'Name an annotator file: panel = ["A.toml"] (--annotator A.toml).'
        raise SettingsError("the panel is empty", fix=fix)
