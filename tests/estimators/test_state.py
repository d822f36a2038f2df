"""A fitted estimator is kept as JSON and read back with the same predictions; nothing but an estimator is read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.estimators.dawid_skene import DawidSkene
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.state import NotKeptError, estimator_of, state_of
from alm_proxies.plugins import plugins
from alm_proxies.tables import Votes

LABELS = ("angry", "happy", "neutral", "sad")
FOUND = {name: plugin.load() for name, plugin in plugins("estimators").items() if not plugin.origin}


@pytest.fixture(scope="module")
def votes() -> Votes:
    chance = np.random.default_rng(0)
    rows = []
    for number in range(120):
        truth = chance.dirichlet(np.full(4, 0.5))
        rows += [(f"c/{number}", f"c/r{rater}", "human", 0, LABELS[chance.choice(4, p=truth)]) for rater in range(6)]
        for name in ("one", "two"):
            seen = [LABELS[place] for place in chance.choice(4, 5, p=0.7 * truth + 0.075)]
            rows += [(f"c/{number}", name, "proxy", draw, label) for draw, label in enumerate(seen)]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "source", "draw", "label"], orient="row")
    return Votes.of(frame, taxonomy=LABELS)


@pytest.mark.filterwarnings(f"ignore::{NotConvergedWarning.__module__}.NotConvergedWarning")
@pytest.mark.parametrize("name", sorted(set(FOUND) - {"dawid_skene"}))
def test_every_method_predicts_the_same_after_it_was_kept(name: str, votes: Votes) -> None:
    estimator = FOUND[name]()
    estimator.fit(votes)
    state = state_of(estimator)
    assert state is not None
    again = estimator_of(json.loads(json.dumps(state)))
    assert type(again) is type(estimator)
    assert again.predict(votes).frame.equals(estimator.predict(votes).frame)


def test_what_is_no_estimator_of_ours_is_not_kept(votes: Votes) -> None:
    class Mine(Estimator):
        name = "mine"

    assert state_of(object()) is None
    assert state_of(DawidSkene().fit(votes)) is None
    assert Mine.__module__ != Estimator.__module__
    assert state_of(3.0) is None


@pytest.mark.parametrize(
    "state",
    [
        None,
        3,
        [],
        {},
        {"object": "os:system", "state": {}},
        {"object": "alm_proxies.files:whole", "state": {}},
        {"object": "alm_proxies.estimators.trials:Path", "state": {}},
        {"object": "alm_proxies.estimators.state:import_module", "state": {}},
        {"object": "alm_proxies.estimators.nothing:Nothing", "state": {}},
        {"object": "alm_proxies.interval:Interval", "state": {}},
        {"object": 3, "state": {}},
        {"array": "AAAA", "type": "O", "shape": [1]},
        {"array": "?", "type": "<f8", "shape": [1]},
        {"array": "", "type": "<f8", "shape": [5]},
        {"dict": [[{"list": []}, 1]]},
        {"float": "many"},
    ],
    ids=str,
)
def test_nothing_else_is_read(state: Any) -> None:
    with pytest.raises(NotKeptError):
        estimator_of(state)


def test_numbers_that_json_does_not_have_are_kept(votes: Votes) -> None:
    estimator: Any = FOUND["weighted"]()
    estimator.fit(votes)
    estimator.more = (float("nan"), float("inf"), np.float64(-np.inf), {1: frozenset({2})}, [True, None], np.eye(2) > 0)
    state = state_of(estimator)
    assert state is not None
    again: Any = estimator_of(json.loads(json.dumps(state, allow_nan=False)))
    assert str(again.more) == str((float("nan"), float("inf"), float("-inf"), *estimator.more[3:]))
