"""Functions of stages that write lock their folder: against pipelines as commands do, and as declarations say."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scripted_annotators import of_a_table

import alm_proxies
from alm_proxies import (
    AnnotateSettings,
    Annotator,
    BalanceSettings,
    ExportSettings,
    FuseSettings,
    InputError,
    ListenSettings,
    SimulateSettings,
    TrainSettings,
    fuse,
    register,
    simulate,
)
from alm_proxies.alone import alone_in, beside_others, is_taken, locked_for_stages
from alm_proxies.stage import load
from alm_proxies.stages.registry import STAGES, stage_of
from alm_proxies.stages.train.stage import Trained
from alm_proxies.tables import Labels, Utterances

WRITERS = [verb for verb in STAGES if stage_of(verb).into_folder]
Call = Callable[[Callable[..., Any], Path], object]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Call]:
    """A call of the function of every stage that writes into a folder."""
    folder = tmp_path_factory.mktemp("calls")
    corpus = simulate(folder / "sim", SimulateSettings(utterances=24, dense=4), quiet=True)
    labels = fuse(corpus.votes, FuseSettings(method="pool"), quiet=True).labels
    utterances, votes = corpus.utterances, corpus.votes
    answers = [f"{name},happy" for name in utterances.frame["utterance_id"]]
    (folder / "answers.csv").write_text("\n".join(["utterance_id,text", *answers]))
    panel = [Annotator.read(of_a_table(folder, "scripted"))]
    return {
        "simulate": lambda call, into: call(into, SimulateSettings(utterances=3), quiet=True),
        "annotate": lambda call, into: call(utterances, panel, into, AnnotateSettings(), quiet=True),
        "listen": lambda call, into: call(utterances, votes, into, ListenSettings(), quiet=True),
        "balance": lambda call, into: call(labels, utterances, into, BalanceSettings()),
        "train": lambda call, into: call(labels, utterances, into, TrainSettings(recipe="features"), quiet=True),
        "export": lambda call, into: call(labels, utterances, into, ExportSettings(format="csv")),
    }


@pytest.mark.parametrize("verb", WRITERS)
def test_the_function_locks_its_folder_alone_if_and_only_if_its_declaration_says_so(
    verb: str, calls: dict[str, Call], tmp_path: Path
) -> None:
    function = load(stage_of(verb).function)
    with beside_others([tmp_path]):
        if stage_of(verb).locks:
            with pytest.raises(InputError, match="another command is writing into this folder"):
                calls[verb](function, tmp_path)
            assert not list(tmp_path.iterdir())
        else:
            calls[verb](function, tmp_path)
            assert list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", WRITERS)
def test_the_public_function_is_refused_in_the_folder_of_a_pipeline_that_runs_and_lets_none_run_meanwhile(
    verb: str, calls: dict[str, Call], tmp_path: Path
) -> None:
    function = getattr(alm_proxies, verb)
    runs = tmp_path / "runs"
    with alone_in(runs, "run", ""):
        for folder in (runs, runs / verb, runs / verb / "seed=1"):
            with pytest.raises(InputError, match="a pipeline or another command is writing into this folder"):
                calls[verb](function, folder)
        assert not list(runs.iterdir())
        with locked_for_stages(runs):  # a function of the pipeline's own, such as a plug-in, is not refused
            calls[verb](function, runs / verb)


@pytest.mark.parametrize("verb", STAGES)
def test_the_public_function_can_be_sent_to_another_process(verb: str) -> None:
    function = getattr(alm_proxies, verb)
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_recipe_of_a_plug_in_has_its_folder_alone_and_may_call_train_for_it(
    calls: dict[str, Call], tmp_path: Path
) -> None:
    taken: list[bool] = []

    def around(labels: Labels, utterances: Utterances, folder: Path, settings: TrainSettings, **named: Any) -> Trained:
        taken.append(is_taken(folder))
        plain = settings.model_copy(update={"recipe": "features"})
        return alm_proxies.train(labels, utterances, folder, plain, **named)

    register("recipes", "around", around)
    trained = calls["train"](partial(_with_recipe, "around"), tmp_path)
    assert isinstance(trained, Trained)
    assert taken == [True]
    assert not is_taken(tmp_path)


def _with_recipe(
    name: str, labels: Labels, utterances: Utterances, folder: Path, settings: TrainSettings, **named: Any
) -> Trained:
    return alm_proxies.train(labels, utterances, folder, settings.model_copy(update={"recipe": name}), **named)
