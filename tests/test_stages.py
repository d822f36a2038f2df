"""Every stage agrees with its declaration: signature, flags, needs; and its declaration imports little."""

import inspect
import subprocess
import sys
from typing import get_type_hints

import pytest
from cyclopts import App

from alm_proxies.cli.flags import flags_of, value_of
from alm_proxies.cli.stages import command
from alm_proxies.plugins import plugins
from alm_proxies.stage import load
from alm_proxies.stages.registry import STAGES, stage_of

RUNTIME = {"quiet", "workers", "engine_of"}
HEAVY = ("numpy", "polars", "torch", "librosa", "scipy", "alm_proxies.tables")


@pytest.mark.parametrize("verb", STAGES)
def test_the_function_has_the_signature_that_the_declaration_says(verb: str) -> None:
    stage = stage_of(verb)
    function = load(stage.function)
    takes = dict(inspect.signature(function).parameters)
    assert set(takes) - RUNTIME == set(stage.parameters)
    for name, needed in stage.parameters.items():
        if name != "settings":
            assert (takes[name].default is inspect.Parameter.empty) == needed, name
    assert all(takes[name].default is not inspect.Parameter.empty for name in RUNTIME & set(takes))
    hints = get_type_hints(function, localns={"Engine": object, "AnyTrained": object})
    assert "return" in hints
    assert str(stage.settings.__name__) in str(hints["settings"])


@pytest.mark.parametrize("verb", STAGES)
def test_the_result_has_an_attribute_for_every_output_that_the_runner_writes(verb: str) -> None:
    stage = stage_of(verb)
    result = get_type_hints(load(stage.function), localns={"Engine": object, "AnyTrained": object})["return"]
    names = {*result.__dataclass_fields__, *(name for name in dir(result) if not name.startswith("_"))}
    assert "findings" in names
    if not stage.into_folder:
        assert {*stage.writes, *stage.may_write} <= names


@pytest.mark.parametrize("verb", STAGES)
def test_needs_name_stages_and_outputs_that_there_are_and_none_comes_before_what_it_needs(verb: str) -> None:
    stage, order = stage_of(verb), list(STAGES)
    for need in stage.needs:
        for source, output in need.sources:
            if source in STAGES:
                assert output in {**stage_of(source).writes, **stage_of(source).may_write}
                assert order.index(source) < order.index(verb)
        assert any(source in STAGES for source, _ in need.sources)


def _group(verb: str, name: str) -> App:
    group = command(verb, [verb, name])
    assert isinstance(group, App)
    return group


def commands_of(verb: str) -> list[tuple[str, object]]:
    stage = stage_of(verb)
    if stage.choice is None or not stage.choice.subcommands:
        return [(verb, command(verb))]
    return [(f"{verb} {name}", _group(verb, name)[name].default_command) for name in plugins(stage.choice.kind)]


@pytest.mark.parametrize("verb", STAGES)
def test_every_field_is_a_flag_and_every_flag_is_a_field(verb: str) -> None:
    stage = stage_of(verb)
    for words, function in commands_of(verb):
        named = inspect.signature(function).parameters  # type: ignore[arg-type]  # a function it is
        parameters = {parameter.removeprefix("flag_") for parameter in named}  # flag_as: `as` is a word of Python
        name = words.partition(" ")[2]
        models = [stage.settings, *([stage.settings_for({stage.choice.key: name})] if name and stage.choice else [])]
        keys = {flag.key for model in models for flag in flags_of(model)} - (
            {stage.choice.key} if stage.choice and stage.choice.subcommands else set()
        )
        given = {need for need in parameters if need.startswith("need_") or need.endswith("_")}
        assert parameters - given == keys
        assert given >= {"output_", "settings_", "common_"}
        flags = [flag for parameter in inspect.signature(function).parameters.values() for flag in names_of(parameter)]  # type: ignore[arg-type]
        assert len(set(flags)) == len(flags), "no flag has two meanings"


def names_of(parameter: inspect.Parameter) -> list[str]:
    shown = getattr(parameter.annotation, "__metadata__", ())
    return [name for entry in shown for name in (entry.name or ())]


@pytest.mark.parametrize("verb", STAGES)
def test_every_field_says_what_it_is(verb: str) -> None:
    stage = stage_of(verb)
    models = [stage.settings]
    if stage.choice:
        models += [plugin.load().settings for plugin in plugins(stage.choice.kind).values()]
    for model in models:
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_declarations_import_nothing_heavy() -> None:
    verbs = ", ".join(map(repr, STAGES))
    script = (
        "import sys\nfrom alm_proxies.stages.registry import stage_of\n"
        f"from alm_proxies.cli.stages import command\nfor verb in ({verbs}):\n stage_of(verb), command(verb, [verb])\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (int, ["3"], 3),
        (float | None, [".5"], 0.5),
        (str, ["a,b"], "a,b"),
        (tuple[str, ...], ["a,b", "c"], ["a", "b", "c"]),
        (tuple[int, int], ["3:5"], [3, 5]),
        (dict[str, str], ["a=1,b=2", "c=3"], {"a": "1", "b": "2", "c": "3"}),
        (dict[str, tuple[float, float]], ["valence=1:7"], {"valence": [1, 7]}),
        (dict[str, str] | str | None, ["votes"], "votes"),
        (dict[str, str] | str | None, ["happy=h,sad=s"], {"happy": "h", "sad": "s"}),
        (str | tuple[str, ...] | None, ["angry,happy"], "angry,happy"),
        (dict[str, tuple[str, ...]], ["splits=a,b,more=c"], {"splits": ["a", "b"], "more": ["c"]}),
        (float | tuple[float, ...], ["1,2"], [1, 2]),
        (float | tuple[float, ...], ["1.5"], 1.5),
    ],
)
def test_words_become_the_plain_value_that_a_file_would_say(
    annotation: object, words: list[str], value: object
) -> None:
    assert value_of(annotation, words, "--x") == value
