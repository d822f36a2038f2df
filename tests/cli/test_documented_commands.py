"""Every command line that the documents print is one: its words are parsed as printed; and help comes soon."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alm_proxies
from alm_proxies.cli.app import VERBS, app, run
from alm_proxies.plugins import plugins
from alm_proxies.stages.registry import STAGES

ROOT = Path(alm_proxies.__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINE = re.compile(r"^(?:    |\$ )?(alm-proxies (?:[a-z].*))$", re.M)


def lines() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for match in LINE.finditer(text):
            line = re.split(r"\s{2,}#|\s->", match.group(1))[0].strip()
            if "..." not in line and "|" not in line:
                yield path.relative_to(ROOT).as_posix(), line


PRINTED = sorted(set(lines()))


def test_the_documents_print_commands() -> None:
    assert len(PRINTED) >= 10


@pytest.mark.parametrize(("where", "line"), PRINTED, ids=[f"{where}: {line[:60]}" for where, line in PRINTED])
def test_it_is_parsed_as_printed(where: str, line: str) -> None:
    words = [word for word in shlex.split(line, comments=True)[1:] if word not in ("[DIR]",)]
    if words[-1:] == ["--help"]:
        words = words[:-1]
        assert words[0] in VERBS
        return
    command, bound, _ = app(words).parse_args(words, exit_on_error=False, print_error=False)
    assert callable(command)
    assert bound is not None


@pytest.mark.parametrize("verb", [*STAGES, *(f"read {name}" for name in plugins("readers"))])
def test_help_of_every_stage_has_its_flags(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        run([*verb.split(), "--help"])
    text = capsys.readouterr().out
    assert "Usage: alm-proxies" in text
    if verb != "read":
        assert "--output" in text
        assert "--settings" in text


def test_help_names_what_is_written_what_is_on_by_default_and_where_nested_keys_are_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    helps = {}
    for verb in STAGES:
        assert run([verb, "--help"]) == 0
        helps[verb] = " ".join(capsys.readouterr().out.split())
    assert [verb for verb, text in helps.items() if " ., " in text] == []
    assert [
        verb for verb in ("annotate", "fuse", "predict", "export") if "folder of recordings" not in helps[verb]
    ] == []
    assert "card allows it. [default: true]" in helps["export"]
    nested = {verb for verb, text in helps.items() if "NAME=VALUE,..." in text}
    assert nested == {verb for verb, text in helps.items() if "reference/settings.html" in text}
    assert {"annotate", "listen", "train"} <= nested


def test_help_shows_what_a_flag_takes_also_where_its_key_is_a_word_of_python(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["read", "table", "--help"]) == 0
    assert "--as VALUE" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["fuse", "annotate", "train", "read table"])
def test_help_imports_neither_tables_nor_what_draws_boxes(verb: str) -> None:
    # how long it takes, beside importing cyclopts and pydantic, is measured by benchmarks/house/help_time.py
    script = (
        "import sys; from alm_proxies.cli.app import run; run(sys.argv[1:])\n"
        "found = {'rich', 'docstring_parser', 'polars', 'numpy', 'alm_proxies.tables', 'jinja2'} & set(sys.modules)\n"
        "assert not found, found"
    )
    command = [sys.executable, "-c", script, *verb.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
