"""Deprecated public names: they work for two minor releases and warn once."""

from __future__ import annotations

import warnings

GONE_IN = "0.3"


def renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that a public name was renamed."""
    warnings.warn(
        f"{old} is now {new}; {old} will be removed in version {GONE_IN}", DeprecationWarning, stacklevel=stacklevel
    )
