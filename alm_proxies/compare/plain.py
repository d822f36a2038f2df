"""Figures as plain values for metrics.json: one shape for an interval everywhere, null where a figure is not known.

{"value": 1.20, "low": 1.15, "high": 1.26, "method": "percentile", "speakers": 46}, a paired one with its p_value too.
No text ever stands for a number; `reasons` says by path ("*" for any name or place) why a value is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from alm_proxies.compare.comparison import Score
from alm_proxies.interval import FEWEST_TO_TEST, Interval
from alm_proxies.measures.bootstrap import Paired
from alm_proxies.metrics import AVERAGES

BEYOND = "beyond the end of the learning curve, `beyond` votes after those given"
ENDS = "an interval takes three speakers or more, five on a learning curve, and an estimate that is known"
INFINITE = "infinite: a label with votes was given no probability"
_INFINITE_DIFFERENCE = "infinite, or of two that are: a label with votes was given no probability"
_DISAGREEMENT = "the predicted or the observed disagreement is the same for all utterances"
_BY_NAME = {
    "low": ENDS,
    "high": ENDS,
    "less_baseline": "it is the baseline",
    "nll_per_vote/value": INFINITE,
    "kld_nats/value": INFINITE,
    "kld_nats_to_truth/value": INFINITE,
    "less_baseline/value": _INFINITE_DIFFERENCE,
    "log_score_without": INFINITE,
    "dirichlet_multinomial_nll": "the labels have no concentration",
    "concentration": "the labels have no concentration",
    "ceiling": "fewer than 200 utterances have four held-out votes",
    "rank_ceiling": "fewer than 200 utterances have four held-out votes",
    "speakers": "speakers are not known",
    "fit": "the curve does not fall, or has fewer than four points",
    "stands_out": f"it takes {FEWEST_TO_TEST} speakers to judge",
    "passed": "there are fewer than three raters",
    "told_transcripts": "the annotator does not say",
    "correlation/value": _DISAGREEMENT,
    "rank_correlation/value": _DISAGREEMENT,
    "slope/value": "the predicted disagreement is the same for all utterances",
    "label_shares/correlation": "a share is the same for all utterances, or there are fewer than three",
    "alpha/value": "all votes are for the same label",
    "kappa": "all votes are for the same label",
    "kappa/human_human/value": "all human votes are for the same label",
    "kappa/human_proxy/value": "all votes, of people and proxies, are for the same label",
    "kappa/difference/value": "the kappa of human votes, or with proxies, is not known: all votes are for one label",
    **{
        f"kappa/{pair}/per_speaker": "all votes on the speaker's utterances are for the same label"
        for pair in ("human_human", "human_proxy", "difference")
    },
}
"""By the last name of a path, or by its last two or three; the longest counts."""
_OTHERWISE = "too few utterances, votes or speakers to estimate it"


def plain(value: Any) -> Any:
    """Intervals, scores, dataclasses, arrays and tuples as dictionaries and lists; what is no finite number as None."""
    if isinstance(value, Interval):
        parts = {"value": value.estimate, "low": value.low, "high": value.high, "method": value.method}
        parts |= {"speakers": value.speakers} if value.speakers else {}
        return plain(parts | ({"per_speaker": value.per_speaker} if value.per_speaker else {}))
    if isinstance(value, Paired):
        return {**plain(value.difference), "p_value": plain(value.p_value)}
    if isinstance(value, Score):
        return {
            "method": value.method,
            "utterances": value.utterances,
            "nll_per_vote": plain(value.nll),
            "jsd_base2": plain(value.jsd),
            "brier": plain(value.brier),
            "less_baseline": plain(value.gain),
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.name != "findings"}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | tuple | list):
        return [plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_reasons(metrics: Mapping[str, Any], known: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The metrics with what each average is over, and a reason for every null; `known` gives reasons by path."""
    return {**metrics, "averages": dict(AVERAGES), "reasons": reasons_in(metrics, known)}


def reasons_in(metrics: Mapping[str, Any], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """A reason for every null, by path; `known` gives reasons by path."""
    reasons: dict[str, str] = {}
    _gather(metrics, (), {**(known or {})}, reasons)
    return reasons


def _gather(value: Any, path: tuple[str, ...], known: Mapping[str, str], reasons: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, below in value.items():
            _gather(below, (*path, str(key)), known, reasons)
    elif isinstance(value, list):
        for below in value:
            _gather(below, (*path, "*"), known, reasons)
    elif value is None:
        where = "/".join(path)
        named = [part for part in path if part != "*"]
        matches = [why for pattern, why in known.items() if pattern == where or _matches(pattern.split("/"), path)]
        endings = ("/".join(named[-length:]) for length in (3, 2, 1))
        by_name = next((_BY_NAME[ending] for ending in endings if ending in _BY_NAME), _OTHERWISE)
        reasons[where] = matches[0] if matches else by_name


def _matches(pattern: list[str], path: tuple[str, ...]) -> bool:
    return len(pattern) == len(path) and all(a in ("*", b) for a, b in zip(pattern, path, strict=True))
