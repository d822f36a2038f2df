"""The fitted estimator beside the labels: written by fuse, read by explain instead of a second fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alm_proxies import __version__
from alm_proxies.about import MadeBy, about_of
from alm_proxies.files import read_text

if TYPE_CHECKING:
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.estimator import Estimator
    from alm_proxies.tables import Findings


def kept(estimator: Estimator | DawidSkene, made_by: MadeBy | None, findings: Findings) -> dict[str, Any] | None:
    """The estimator with what shows that it made these labels; None where it cannot be kept."""
    from alm_proxies.estimators.state import state_of

    state = state_of(estimator)
    if state is None or made_by is None:
        return None
    copies = findings.frame.filter(kind="copied_annotator")["where"].to_list()
    return {**_labels(made_by), "copies": copies, "estimator": state}


def kept_beside(labels: Path) -> tuple[Estimator, tuple[str, ...]] | None:
    """The estimator that made a labels file, and annotators that are copies of others; None where it is not there."""
    from alm_proxies.estimators.state import NotKeptError, estimator_of

    made_by = about_of(labels).made_by
    for path in (labels.with_name("fitted.json"), labels.with_name(f"{labels.stem}.fitted.json")):
        if made_by is None or not path.is_file():
            continue
        try:
            content = json.loads(read_text(path))
            if all(content[name] == value for name, value in _labels(made_by).items()):
                return estimator_of(content["estimator"]), tuple(map(str, content["copies"]))
        except (NotKeptError, ValueError, KeyError, TypeError):
            continue
    return None


def _labels(made_by: MadeBy) -> dict[str, Any]:
    """What distinguishes labels: the release, the settings and the content of the votes."""
    return {"version": __version__, "settings": made_by.settings_digest, "inputs": dict(made_by.inputs)}
