"""The page on extending: its five examples run as printed, one after another in an empty folder; and `register`."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forked, bash

import alm_proxies.plugins
from alm_proxies import FuseSettings, Labels, SettingsError, Votes, register
from alm_proxies.estimators.dirichlet import Pool
from alm_proxies.estimators.estimator import Estimator
from alm_proxies.plugins import plugin, plugins

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "extend.md"
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
SAID = ("", "60 labels by halfway", "mine/b", "2 votes, 2 cells", "120 of 120 votes cast", "items (train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extend")


@pytest.fixture(autouse=True)
def _forget_what_was_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(alm_proxies.plugins, "_REGISTERED", {})
    yield
    plugins.cache_clear()


@pytest.mark.parametrize(("number", "kind", "text"), [(n, *block) for n, block in enumerate(BLOCKS)])
def test_an_example_runs_as_printed(number: int, kind: str, text: str, folder: Path) -> None:
    done = bash(text, folder) if kind == "bash" else Forked.done("-c", text, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAID[number] in done.stdout


def test_there_are_five_examples_and_what_they_leave_is_used_by_the_rest(folder: Path) -> None:
    assert [kind for kind, _ in BLOCKS] == ["bash", *["python"] * 5]
    assert len(Labels.read(folder / "halfway.parquet")) == 60
    assert set(Votes.read(folder / "loudness" / "votes.parquet").frame["status"]) == {"ok"}


class Mine(Pool):
    """A method of somebody's own."""


def test_what_is_registered_is_known_by_name_and_its_source_is_its_version() -> None:
    register("estimators", "mine_of_tests", Mine)
    assert FuseSettings(method="mine_of_tests").method == "mine_of_tests"
    registered = plugin("estimators", "mine_of_tests")
    assert registered.load() is Mine
    assert registered.origin.startswith("registered ")
    before = registered.version
    register("estimators", "mine_of_tests", Pool)
    assert plugin("estimators", "mine_of_tests").load() is Pool
    assert plugin("estimators", "mine_of_tests").version != before


def test_the_version_of_a_registered_reader_is_the_source_of_its_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alm_proxies.stages.read.settings import Reader, Source

    monkeypatch.syspath_prepend(tmp_path)
    versions = []
    for number, text in enumerate(("return 1", "return 22", "return 22")):
        (tmp_path / "own_reader_of_tests.py").write_text(f"def read_own(source, vocabulary, card):\n    {text}\n")
        sys.modules.pop("own_reader_of_tests", None)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        register("readers", "own_of_tests", Reader(Source, "own_reader_of_tests:read_own"))
        versions.append(plugin("readers", "own_of_tests").version)
        assert number == 0 or (versions[-1] == versions[-2]) == (number == 2)


def test_what_is_registered_has_to_be_of_its_kind() -> None:
    wrong = {"estimators": (lambda votes: votes), "exports": 3, "readers": Mine, "engines": "mine", "recipes": "train"}
    for kind, thing in wrong.items():
        with pytest.raises(SettingsError, match=r"wrong_of_tests' of registered \w+ is .+, not an? .+\. Name an? "):
            register(kind, "wrong_of_tests", thing)
        assert "wrong_of_tests" not in plugins(kind)


def test_an_estimator_without_a_name_is_refused_with_the_line_that_it_lacks() -> None:
    with pytest.raises(SettingsError, match=r'has no name\. Write name: ClassVar\[str\] = "nameless"'):
        register("estimators", "nameless", type("Nameless", (Estimator,), {}))
    assert "nameless" not in plugins("estimators")


def test_names_that_are_taken_and_kinds_that_are_none_are_refused() -> None:
    with pytest.raises(SettingsError, match="estimators has 'gated' already"):
        register("estimators", "gated", Mine)
    with pytest.raises(SettingsError, match="there is no kind of plug-in 'methods'"):
        register("methods", "x", Mine)
    assert plugin("estimators", "gated").distribution == "alm-proxies"
    assert "x" not in plugins("estimators")
