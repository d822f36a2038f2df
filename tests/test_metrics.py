"""Every metric of a stage is in the table of metrics, which the documentation prints."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import alm_proxies
from alm_proxies.estimators.gated import Gated
from alm_proxies.measures.held_out import _MEANS
from alm_proxies.metric_keys import DESCRIPTIONS, NAMED
from alm_proxies.metrics import ENDS, GROUPS, METRICS
from alm_proxies.stages.align.settings import AlignSettings
from alm_proxies.stages.align.stage import align
from alm_proxies.stages.evaluate.stage import evaluate
from alm_proxies.tables import Labels, MadeBy, Utterances, Votes

PACKAGE = Path(alm_proxies.__file__).parent
LABELS = ("angry", "happy", "neutral", "sad")
KNOWN = {*METRICS, *DESCRIPTIONS, *ENDS}
ATTRIBUTE = re.compile(r"(ccc|rmse)_(valence|arousal|dominance)")


def unknown(value: Any, levels: int = 0) -> Iterator[str]:
    """The keys without a line; `levels` levels of keys are names of methods, strata or labels."""
    if isinstance(value, list):
        for item in value:
            yield from unknown(item, levels)
    if isinstance(value, dict):
        for key, below in value.items():
            key = ATTRIBUTE.sub(r"\1", key)
            if levels:
                yield from unknown(below, levels - 1)
                continue
            if key not in KNOWN:
                yield key
            yield from unknown(below, len(METRICS[key].by if key in METRICS else NAMED.get(key, ())))


@pytest.fixture(scope="module")
def tables() -> tuple[Votes, Utterances, np.ndarray]:
    """200 utterances of 20 speakers with votes to fit, proxy votes, and four held-out votes of known raters."""
    rng = np.random.default_rng(3)
    truth = rng.dirichlet([0.5, 0.5, 1.0, 0.7], 200)
    rows = []
    for number in range(200):
        for draw in range(12):
            source = "proxy" if draw > 6 else "human"
            rater = f"model{draw % 2}" if source == "proxy" else f"made/r{draw}"
            label = str(rng.choice(LABELS, p=truth[number]))
            rows.append((f"made/{number:03d}", rater, source, draw, label, 2 < draw < 7, float(rng.random())))
    names = ["utterance_id", "annotator", "source", "draw", "label", "held_out", "valence"]
    votes = Votes.of(pl.DataFrame(rows, schema=names, orient="row"), taxonomy=LABELS)
    frame = {
        "utterance_id": [f"made/{number:03d}" for number in range(200)],
        "speaker": [f"made/s{number // 10}" for number in range(200)],
        "gender": ["female" if number // 10 % 2 else "male" for number in range(200)],
    }
    return votes, Utterances.of(pl.DataFrame(frame)), truth


def test_all_that_align_writes_is_in_the_table(tables: tuple[Votes, Utterances, np.ndarray]) -> None:
    votes, utterances, _ = tables
    metrics = align(Gated(4, 0.01).fit(votes).predict(votes), votes, utterances, AlignSettings(examples=2)).metrics
    assert {"alt_tests", "learning", "every_score", "variance"} <= {name for name, value in metrics.items() if value}
    assert sorted(set(unknown(json.loads(json.dumps(metrics))))) == []


def test_all_that_evaluate_writes_is_in_the_table(tables: tuple[Votes, Utterances, np.ndarray]) -> None:
    votes, utterances, truth = tables
    predictions = {}
    for name, condition in (("plain", None), ("noisy", "noise")):
        frame = {"utterance_id": utterances.frame["utterance_id"], "concentration": 5.0, "valence": 0.4}
        shares = 0.8 * truth + 0.05
        labels = Labels.of(
            pl.DataFrame(frame | {f"p_{label}": shares[:, k] for k, label in enumerate(LABELS)}), taxonomy=LABELS
        )
        maker = MadeBy(stage="predict", settings={"model": "m", "condition": condition})
        predictions[name] = Labels(labels.frame, labels.about.with_(made_by=maker))
    metrics = evaluate(predictions, votes, utterances).metrics
    assert metrics["methods"]["plain"]["ambiguity"] is not None
    assert metrics["conditions_less_as_recorded"]
    assert {"ccc_valence", "emd", "kld_nats", "ece"} <= set(metrics["methods"]["plain"])
    assert sorted(set(unknown(json.loads(json.dumps(metrics))))) == []


def test_every_name_that_the_code_writes_is_in_the_table() -> None:
    written = set(_MEANS)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and "metrics" in node.name and "stages" in path.parts:
                literals = [inner for inner in ast.walk(node) if isinstance(inner, ast.Dict)]
                written |= {
                    str(key.value) for literal in literals for key in literal.keys if isinstance(key, ast.Constant)
                }
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "log.write":
                written |= {word.arg for word in node.keywords if word.arg}
    assert {"effective_size", "threshold_nats", "gradient", "less_baseline"} <= written
    assert sorted(written - KNOWN) == [], (
        "a new metric needs a line in alm_proxies/metrics.py, any other key in metric_keys.py"
    )


def test_every_line_says_what_it_must() -> None:
    for name, metric in METRICS.items():
        assert metric.group in GROUPS, name
        assert metric.meaning.endswith("."), name
        assert metric.formula.count("{") == metric.formula.count("}"), name
    assert set(METRICS) & set(DESCRIPTIONS) == set()
