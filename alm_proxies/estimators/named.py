"""An estimator by the name of its method, with those settings of fuse that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alm_proxies.estimators.estimator import Estimator
from alm_proxies.plugins import plugin


def named(method: str, settings: Mapping[str, Any], *, quiet: bool = False) -> Estimator:
    """The estimator of the method, not yet fitted; settings that are not given keep its own defaults."""
    kind: type[Estimator] = plugin("estimators", method).load()
    arguments = {**settings, "quiet": quiet}
    return kind(**{name: arguments[name] for name in kind.takes if name in arguments})
