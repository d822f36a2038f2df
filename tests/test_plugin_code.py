"""Finished stages run again when the code, the values or the data of a plug-in change, and only then."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import Forked

import alm_proxies
from alm_proxies.errors import SettingsError
from alm_proxies.plugin_code import code_of, package_digest
from alm_proxies.plugins import Plugin, register
from tests.test_plugins import package

SCRIPT = """\
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
import numpy as np
import polars as pl
import helper
from alm_proxies import InputError, register, run
from alm_proxies.plugins import plugin
from alm_proxies.stages.train.stage import Trained
from alm_proxies.tables import Findings

def trained(labels, utterances, folder, settings, *, votes=None, quiet=False, scale=1.0, classes=frozenset(), rows=()):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_text(f"{{scale}}")
    with open("trained.txt", "a") as file:
        file.write("once\\n")
    return Trained(folder, pl.DataFrame(), Findings.gather([]))

class Recipe:
    def __init__(self, scale):
        self.scale, self.inner = scale, {{"self": self}}
    def __call__(self, *tables, **named):
        return trained(*tables, **named, scale=self.scale)
    def bound(self, *tables, **named):
        return self(*tables, **named)

SCALE = {scale}

def capturing(scale):
    def recipe(*tables, **named):
        return trained(*tables, **named, scale=scale)
    return recipe

def with_default(*tables, scale=SCALE, **named):
    return trained(*tables, **named, scale=scale)

def with_named_default(*tables, **named):
    return trained(*tables, **named)

with_named_default.__kwdefaults__ = {{"scale": SCALE}}

def reading(*tables, **named):
    return [trained(*tables, **named, scale=SCALE) for _ in range(1)][0]

def scaled():
    return {{"scale": SCALE}}

def calling(*tables, **named):
    return trained(*tables, **named, **scaled())

class Scaled:
    scale = SCALE

class Inheriting(Scaled):
    def __call__(self, *tables, **named):
        return trained(*tables, **named, scale=self.scale)

def helped(*tables, **named):
    return trained(*tables, **named, scale=helper.scale())

classes = {{"angry", "happy", "neutral", "sad", Path("x"), None}}
things = {{
    "closure": capturing(SCALE),
    "closure in closure": capturing(capturing(SCALE)),
    "default": with_default,
    "named default": with_named_default,
    "global": reading,
    "function": calling,
    "base": Inheriting(),
    "module": helped,
    "partial": partial(trained, scale={scale}, classes=classes, rows=np.arange(3)),
    "instance": Recipe({scale}),
    "method": Recipe({scale}).bound,
    "lambda": lambda *tables, **named: trained(*tables, **named, scale={scale}),
}}
for name, thing in things.items():
    register("recipes", name, thing)
    print(name, plugin("recipes", name).version)
if len(sys.argv) > 2:
    register("recipes", "mine", things[sys.argv[1]])
    with suppress(InputError):  # predict finds no model of ours
        run(sys.argv[2], quiet=True)
"""
HELD = """\
from enum import Enum
from functools import partial
import torch
from alm_proxies.files import digest_of
from alm_proxies.plugin_code import code_of

class Mood(Enum):
    LOW = 1
    HIGH = 2

both, weights = ("p", "q"), torch.nn.Linear(2, 3)
with torch.no_grad():
    for weight in weights.parameters():
        weight.fill_(0.5)
for value in (
    {Mood.LOW, Mood.HIGH, None},
    [frozenset({("a", both), ("b", both), ("c", both)}), both],
    weights,
    weights.to(torch.bfloat16).weight,
):
    print(digest_of(code_of(partial(print, value))))
"""
PIPELINE = """\
taxonomy = "happy,sad"
folder = "out"
[[read]]
format = "table"
corpus = "c"
source = "v.csv"
columns = { utterance_id = "clip", annotator = "rater", label = "heard" }
[fuse]
method = "human"
[[train]]
name = "mine"
recipe = "mine"
"""


def say(place: Path, seed: int, *more: str, scale: float = 1.5, script: bool = True) -> dict[str, str]:
    """The versions of recipes in a process that registers them; it hashes texts in its own order."""
    code = SCRIPT.format(scale=scale)
    (place / "mine.py").write_text(code)
    (place / "helper.py").write_text(f"def scale():\n    return {scale}\n")
    environment = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(alm_proxies.__file__).parents[1])}
    done = Forked.done(*(["mine.py"] if script else ["-c", code]), *more, cwd=place, environment=environment)
    assert done.returncode == 0, done.stderr
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("script", [True, False])
def test_the_version_of_a_registered_thing_is_the_same_in_every_process_and_another_with_another_value(
    script: bool, tmp_path: Path
) -> None:
    first, again = (say(tmp_path, seed, script=script) for seed in (1, 2))
    assert len(first) == 12
    assert first == again
    other = say(tmp_path, 1, scale=2.5, script=script)
    assert [name for name in first if other[name] == first[name]] == []


@pytest.mark.parametrize("kind", ["partial", "instance", "closure"])
def test_a_finished_stage_of_a_registered_thing_is_left(kind: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("clip,rater,heard\na,r1,happy\na,r2,sad\nb,r1,happy\n")
    (tmp_path / "p.toml").write_text(PIPELINE)
    trained = tmp_path / "trained.txt"
    for seed in (1, 2):
        say(tmp_path, seed, kind, "p.toml")
        assert trained.read_text() == "once\n"
    say(tmp_path, 1, kind, "p.toml", scale=2.5)
    assert trained.read_text() == "once\n" * 2


def test_a_thing_that_holds_what_has_no_stable_description_is_refused() -> None:
    def recipe(*tables: Any, lock: Any) -> None:
        pass

    with pytest.raises(SettingsError, match=r"the recipe 'locked' cannot be registered: it holds a lock, which has no"):
        register("recipes", "locked", partial(recipe, lock=threading.Lock()))


LOCK = threading.Lock()


def test_a_captured_value_without_a_stable_description_is_refused_and_a_global_one_is_not() -> None:
    lock = threading.Lock()

    def capturing(*tables: Any) -> None:
        lock.acquire()

    def using(*tables: Any) -> None:
        LOCK.acquire()

    with pytest.raises(SettingsError, match="it holds a lock, which has no"):
        code_of(capturing)
    assert code_of(using) == code_of(using)


def test_what_an_installed_function_captures_counts_as_far_as_it_can_be_described() -> None:
    space: dict[str, Any] = {"__name__": "json.tools", "threading": threading}
    exec(
        "def make(scale):\n    lock = threading.Lock()\n    def use():\n        return lock, scale\n    return use",
        space,
    )
    one, two = space["make"](1.0), space["make"](2.0)
    assert code_of(one) == code_of(space["make"](1.0))
    assert code_of(one) != code_of(two)


def test_functions_that_refer_to_themselves_have_a_description() -> None:
    def count(depth: int) -> int:
        return count(depth - 1) if depth else later()

    described = code_of(count)  # later() has no value yet

    def later() -> int:
        return count(0)

    assert code_of(count) != described


def test_the_values_of_arrays_count() -> None:
    assert code_of(partial(print, np.arange(3))) == code_of(partial(print, np.arange(3)))
    assert code_of(partial(print, np.arange(3))) != code_of(partial(print, np.arange(4)))


def test_values_without_an_order_or_with_memory_of_their_own_are_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(HELD)
    said = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(alm_proxies.__file__).parents[1])}
        call = [sys.executable, str(tmp_path / "held.py")]
        said.append(
            subprocess.run(call, capture_output=True, text=True, check=True, env=environment).stdout.split("\n")
        )
    assert len(said[0]) == 5
    assert said[0] == said[1]


def test_the_weights_of_a_model_count() -> None:
    assert code_of(partial(print, torch.zeros(2))) != code_of(partial(print, torch.ones(2)))


def test_what_pickle_writes_by_a_function_beside_the_class_counts() -> None:
    assert code_of(partial(print, re.compile("a+"))) == code_of(partial(print, re.compile("a+")))
    assert code_of(partial(print, re.compile("a+"))) != code_of(partial(print, re.compile("a*")))


def test_the_source_of_a_function_whose_results_are_kept_counts() -> None:
    def once(scale: float) -> float:
        return 1 * scale

    def twice(scale: float) -> float:
        return 2 * scale

    twice.__qualname__ = once.__qualname__
    assert code_of(lru_cache(once)) != code_of(lru_cache(twice))


@pytest.fixture
def plugin_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    place = package(tmp_path, monkeypatch, "speech_with_data", heavy="x = 1\n")

    def state() -> str:
        package_digest.cache_clear()
        return Plugin("estimators", "level", "speech_with_data.heavy:Level", "speech-with-data", "1").state

    return place, state


@pytest.mark.parametrize("name", ["levels.toml", "words/english.txt", "norms.JSON.json"])
def test_a_data_file_of_a_package_counts(name: str, plugin_of: Any) -> None:
    place, state = plugin_of
    versions = [state()]
    path = place / name
    path.parent.mkdir(exist_ok=True)
    for text in ("a", "b"):
        path.write_text(text)
        versions.append(state())
    assert len(set(versions)) == 3
    assert "size" not in versions[-1]


def test_of_a_large_data_file_the_size_counts_and_that_is_stated(plugin_of: Any) -> None:
    place, state = plugin_of
    (place / "small.csv").write_text("a")
    (place / "large.csv").write_text("a" * (2**20 + 1))
    before = state()
    assert before.endswith(", 1 of its data files by size alone")
    (place / "large.csv").write_text("b" * (2**20 + 1))
    assert state() == before
    (place / "large.csv").write_text("b" * (2**20 + 2))
    assert state() != before


def test_what_a_package_writes_beside_its_code_does_not_count(plugin_of: Any) -> None:
    place, state = plugin_of
    before = state()
    for name in ("run.log", "model.bin", "heavy.pyc", ".cache.json"):
        (place / name).write_text("x")
    assert state() == before
