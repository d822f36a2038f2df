"""Functions that are given another table or other settings than they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import alm_proxies
from alm_proxies import (
    AlignSettings,
    FuseSettings,
    ListenSettings,
    SettingsError,
    TableError,
    TrainSettings,
    Utterances,
    Votes,
    align,
    evaluate,
    fuse,
    listen,
    predict,
    read,
    train,
)
from alm_proxies.stages.read.stage import Corpus
from alm_proxies.stages.registry import STAGES
from alm_proxies.tables import Findings

ROWS = [("a", "r1", "happy"), ("a", "r2", "sad"), ("b", "r1", "sad")]
VOTES = Votes.of(
    pl.DataFrame(ROWS, schema=["utterance_id", "annotator", "label"], orient="row"), taxonomy=["happy", "sad"]
)
UTTERANCES = Utterances.of(pl.DataFrame({"utterance_id": ["a", "b"], "speaker": ["s", "t"]}))
SETTINGS = FuseSettings(method="human")
LABELS = fuse(VOTES, SETTINGS, quiet=True).labels
NO_LABELS: Any = VOTES
NO_SOURCE: Any = "CREMA-D"


@pytest.mark.parametrize(
    ("call", "wrong", "fix"),
    [
        (lambda: fuse(UTTERANCES), "votes is of type Utterances, not Votes", "order"),
        (lambda: align(VOTES, LABELS, UTTERANCES), "labels is of type Votes, not Labels", "order"),
        (lambda: fuse("votes.parquet"), "votes is of type str, not Votes", "Votes.read('votes.parquet')"),
        (lambda: align(Path("l.parquet"), VOTES, UTTERANCES), "not Labels", "Labels.read('l.parquet')"),
        (lambda: fuse(VOTES.frame), "votes is of type DataFrame, not Votes", "Votes.of(frame)"),
        (lambda: fuse(Corpus(UTTERANCES, VOTES, Findings.gather([]))), "votes is of type Corpus, not Votes", ".votes"),
        (lambda: fuse([VOTES, VOTES]), "votes is of type list, not Votes", "combine"),
        (lambda: fuse(None), "votes is None, not Votes", "Give Votes"),
        (lambda: fuse(VOTES, utterances=VOTES), "utterances is of type Votes, not Utterances", "order"),
        (
            lambda: evaluate([LABELS], VOTES, UTTERANCES),
            "predictions is of type list, not a dict",
            "Name each",
        ),
        (
            lambda: evaluate({"x": NO_LABELS}, VOTES, UTTERANCES),
            "predictions['x'] is of type Votes, not Labels",
            "order",
        ),
    ],
)
def test_another_table_is_refused_with_what_to_give(call: Any, wrong: str, fix: str) -> None:
    with pytest.raises(TableError) as caught:
        call()
    assert wrong in caught.value.message
    assert fix in (caught.value.fix or "")
    assert caught.value.where in alm_proxies.__all__


NO_FOLDER: Any = ListenSettings()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: listen(UTTERANCES, VOTES, NO_FOLDER), "ListenSettings"),
        (lambda: train(LABELS, UTTERANCES, NO_LABELS, TrainSettings(recipe="features")), "Votes"),
        (lambda: train(LABELS, UTTERANCES, folder=NO_LABELS, settings=TrainSettings(recipe="features")), "Votes"),
    ],
)
def test_what_is_no_folder_is_refused_before_a_path_is_made_of_it(call: Any, kind: str) -> None:
    with pytest.raises(SettingsError) as caught:
        call()
    assert (caught.value.message, caught.value.__context__) == (f"folder is of type {kind}, not a path", None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fuse(VOTES, AlignSettings()),
        lambda: fuse(VOTES, {"method": "human"}),
        lambda: fuse(VOTES, "human"),
        lambda: train(LABELS, UTTERANCES, Path("m"), None),
        lambda: train(LABELS, UTTERANCES, Path("m"), SETTINGS),
        lambda: read(NO_SOURCE),
        lambda: read([NO_SOURCE]),
        lambda: read({"source": NO_SOURCE}),
    ],
)
def test_other_settings_and_what_is_no_source_are_refused(call: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        call()
    assert caught.value.fix is not None
    assert "Settings(...)" in caught.value.fix or "Source(" in caught.value.fix


def test_what_a_function_takes_is_let_through(tmp_path: Path) -> None:
    assert len(fuse(votes=VOTES, settings=None, utterances=None, quiet=True).labels) == 2
    with pytest.raises(TypeError):
        fuse()  # type: ignore[call-arg]
    with pytest.raises(alm_proxies.InputError, match="model"):
        predict(tmp_path, str(tmp_path))
    with pytest.raises(alm_proxies.AlmProxiesError):
        listen(UTTERANCES, VOTES, tmp_path, quiet=True)


@pytest.mark.parametrize("verb", sorted(set(STAGES) - {"read"}))
def test_every_stage_is_checked(verb: str) -> None:
    assert hasattr(getattr(alm_proxies, verb), "__wrapped__")
