"""The error where none of the recordings that are needed can be used."""

from __future__ import annotations

from collections.abc import Sequence

from alm_proxies.errors import InputError
from alm_proxies.finding import Finding


def none_usable(message: str, findings: Sequence[Finding], *, where: str | None = None) -> InputError:
    """The error with the first recording that could not be used, the last that was found of it, and its fix."""
    lost = [finding for finding in findings if finding.utterance_id is not None]
    if not lost:
        return InputError(message, where=where, fix="Check the paths.")
    last = next(finding for finding in reversed(lost) if finding.utterance_id == lost[0].utterance_id)
    message = f"{message}; the first is {last.utterance_id!r}: {last.message}"
    return InputError(message, where=where, fix=last.fix or "Check the paths.")
