"""The JSON Schema of metrics files: valid for every file of a stage, not for text instead of a number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest

from alm_proxies.cli.app import run as command
from alm_proxies.pipeline.schema import metrics_schema
from alm_proxies.stages.align.settings import AlignSettings
from alm_proxies.stages.align.stage import align
from alm_proxies.stages.evaluate.stage import evaluate
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def tables() -> tuple[Labels, Votes, Utterances]:
    random = np.random.default_rng(5)
    rows = []
    for number, share in enumerate(random.dirichlet(np.full(3, 0.6), 90)):
        for annotator, count in (("crowd", 7), ("proxy", 5)):
            for draw, label in enumerate(random.choice(3, count, p=share)):
                human = annotator == "crowd"
                source = "human" if human else "proxy"
                rows.append((f"u{number:03}", annotator, source, draw, LABELS[label], human and draw >= 3))
    names = ["utterance_id", "annotator", "source", "draw", "label", "held_out"]
    votes = Votes.of(pl.DataFrame(rows, schema=names, orient="row"), taxonomy=LABELS)
    ids = [f"u{number:03}" for number in range(90)]
    people = Utterances.of(pl.DataFrame({"utterance_id": ids, "speaker": [f"s{number % 15}" for number in range(90)]}))
    return fuse(votes, FuseSettings(method="gated", classes=3), utterances=people, quiet=True).labels, votes, people


def nulls(value: Any, path: str = "") -> list[str]:
    """The paths of all nulls, with * for positions in lists."""
    if isinstance(value, dict):
        return [place for key, below in value.items() for place in nulls(below, f"{path}/{key}" if path else key)]
    if isinstance(value, list):
        return [place for below in value for place in nulls(below, f"{path}/*")]
    return [path] if value is None else []


def checked(metrics: Any) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(json.dumps(metrics, allow_nan=False))
    jsonschema.Draft202012Validator(metrics_schema()).validate(written)
    return written


def test_alignments_keep_to_the_schema_and_give_a_reason_for_every_null(
    tables: tuple[Labels, Votes, Utterances],
) -> None:
    labels, votes, people = tables
    bare = Votes.of(votes.frame.filter(~pl.col("held_out")), about=votes.about)
    alone = Votes.of(votes.frame.filter(pl.col("source") == "human"), about=votes.about)
    for some in (votes, bare, alone):
        written = checked(align(labels, some, people, AlignSettings(examples=0)).metrics)
        assert set(nulls(written)) == set(written["reasons"])
        assert written["averages"]["nll_per_vote"] == "held-out votes"
        assert written["averages"]["jsd_base2"] == "utterances"
    assert checked(align(labels, bare, people, AlignSettings(examples=0)).metrics)["reasons"]["scores"] == (
        "no vote was held out"
    )


def test_agreement_is_given_with_and_without_held_out_votes(tables: tuple[Labels, Votes, Utterances]) -> None:
    labels, votes, people = tables
    written = align(labels, votes, people, AlignSettings(examples=0)).metrics
    bare = Votes.of(votes.frame.filter(~pl.col("held_out")), about=votes.about)
    without = align(labels, bare, people, AlignSettings(examples=0)).metrics
    assert written["human_agreement_without_held_out"]["alpha"] == without["human_agreement"]["alpha"]
    assert written["human_agreement"]["alpha"] != without["human_agreement"]["alpha"]


def test_evaluations_keep_to_the_schema_and_give_a_reason_for_every_null(
    tables: tuple[Labels, Votes, Utterances],
) -> None:
    written = checked(evaluate({"fused": tables[0]}, tables[1], tables[2]).metrics)
    assert set(nulls(written)) == set(written["reasons"])


def test_files_of_the_commands_keep_to_the_schema(tables: tuple[Labels, Votes, Utterances], tmp_path: Path) -> None:
    for name, table in zip(("labels", "votes", "people"), tables, strict=True):
        table.write(tmp_path / f"{name}.parquet")
    labels, votes, people = (str(tmp_path / f"{name}.parquet") for name in ("labels", "votes", "people"))
    rest = ["--utterances", people, "--quiet"]
    assert command(["align", labels, "--votes", votes, *rest, "-o", str(tmp_path / "report.html")]) == 0
    assert command(["evaluate", labels, "--votes", votes, *rest, "-o", str(tmp_path / "scores.html")]) == 0
    assert command(["balance", labels, *rest, "--classes", "uniform", "-o", str(tmp_path / "balanced")]) == 0
    files = [*tmp_path.glob("*.metrics.json"), tmp_path / "balanced" / "metrics.json"]
    assert len(files) == 3
    for file in files:
        written = checked(json.loads(file.read_text(encoding="utf-8")))
        assert set(nulls(written)) == set(written["reasons"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"worth_in_human_votes": {"all": {"votes": "inf"}}},
        {"jsd_base2": "0.2"},
        {"methods": {"a": {"nll_per_vote": {"value": "nan", "low": None, "high": None}}}},
        {"utterances": True},
        {"no such metric": 1.0},
        {"reasons": {"a": None}},
    ],
)
def test_text_for_a_number_and_unknown_names_do_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(metrics_schema()).validate(wrong)


def test_the_schema_is_printed_by_the_command(tmp_path: Path) -> None:
    assert command(["schema", "metrics", "-o", str(tmp_path / "metrics.json")]) == 0
    schema = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert schema == metrics_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["jsd_base2"]["description"].startswith("Jensen-Shannon")
