"""The commands of pipelines: run, check, explain and demo."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from alm_proxies.cli.outcome import Common, LeftOut, Outcome, say_too_much, tell
from alm_proxies.errors import SettingsError
from alm_proxies.pipeline.check import check as check_file
from alm_proxies.pipeline.explain import explain as explain_label
from alm_proxies.pipeline.run import Ran
from alm_proxies.pipeline.run import run as run_file
from alm_proxies.printable import counted
from alm_proxies.progress import say

_COMMON = Common()


Changes = Annotated[list[str] | None, Parameter(name="--set")]


def run(
    file: str,
    *,
    folder: Path | None = None,
    settings: Path | None = None,
    changes: Changes = None,
    common: Common = _COMMON,
) -> Outcome:
    """Run a pipeline file; stages that are unchanged are skipped.

    Parameters
    ----------
    file
        A pipeline file, or the name of a shipped one, such as demo.
    folder
        The folder to write to; it overrides `folder` in the file.
    settings
        A TOML file in the form of a pipeline file; its values override the pipeline's.
    changes
        A value that overrides all files: --set fuse.method=pool --set seed=3.
    """
    ran = run_file(file, folder=folder, settings=settings, changes=_changes(changes), quiet=common.quiet)
    return _ran(ran, common)


def check(
    file: str,
    *,
    folder: Path | None = None,
    settings: Path | None = None,
    changes: Changes = None,
    ask: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    defaults: bool = False,
    common: Common = _COMMON,
) -> Outcome:
    """Check a pipeline file and show counts, price and time before anything runs.

    Parameters
    ----------
    file
        A pipeline file, or the name of a shipped one, such as demo.
    folder
        The folder to write to; it overrides `folder` in the file.
    settings
        A TOML file in the form of a pipeline file; its values override the pipeline's.
    changes
        A value that overrides all files: --set fuse.method=pool --set seed=3.
    ask
        Ask each annotator about this number of utterances three times, to measure how many votes a transcript with
        an answer in it turns. This costs what votes cost.
    defaults
        Show settings that have their default too.
    """
    checked = check_file(file, folder=folder, settings=settings, changes=_changes(changes), ask=ask, quiet=common.quiet)
    for fact in checked.facts:
        say(f"  {fact}", quiet=common.quiet)
    for warning in checked.warnings:
        say(f"  warning: {warning}")
    for problem in checked.problems:
        say(f"  wrong: {problem}")
    of_all = "all settings" if defaults else "settings other than the default (all: --defaults)"
    say(f"{of_all}, with their origin:", quiet=common.quiet)
    for place, values in checked.settings.items():
        if text := _effective(values, defaults=defaults):
            say(f"  {place}: {text}", quiet=common.quiet)
    data = {
        "facts": list(checked.facts), "warnings": list(checked.warnings), "problems": list(checked.problems),
        "planned_votes": checked.planned_votes, "cast_votes": checked.cast_votes,
        "paid": checked.paid, "expected_price": checked.expected_price,
        "annotators": {place: dict(entry.data) for place, entry in checked.foreseen.items() if entry.data},
        "settings": {
            place: {key: {"value": value, "origin": origin} for key, (value, origin) in values.items()}
            for place, values in checked.settings.items()
        },
    }  # fmt: skip
    return Outcome(str(checked), data, exit_code=2 if checked.problems else 0, as_json=common.json)


def explain(
    folder: Path,
    utterance: str,
    *,
    number: int = 0,
    votes: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    utterances: Path | None = None,
    common: Common = _COMMON,
) -> Outcome:
    """Show every vote, reply, prompt and weight behind one label, in any folder of results.

    Parameters
    ----------
    folder
        The folder that a pipeline or a command wrote to, or a labels file.
    utterance
        The utterance's id.
    number
        The number of the run of [vary], from 0.
    votes
        The votes files that a labels file was fused from, where they are not in the folder.
    utterances
        The utterances file, or folder of recordings, that fuse was given, if any.
    """
    explanation = explain_label(folder, utterance, number=number, votes=votes or (), utterances=utterances)
    return Outcome("\n".join(explanation.lines()), asdict(explanation), as_json=common.json)


def demo(folder: Path = Path("alm-proxies-demo"), *, common: Common = _COMMON) -> Outcome:
    """Make a small corpus of synthetic speech, run all stages on it and write a report. Start here.

    Parameters
    ----------
    folder
        The folder to write to.
    """
    return _ran(run_file("demo", folder=folder, quiet=common.quiet), common)


def _effective(values: Mapping[str, tuple[Any, str]], *, defaults: bool) -> str:
    """The settings of one stage in one line, each with its origin; those left at the default last, or not at all."""
    by_origin: dict[str, list[str]] = {}
    for key, (value, origin) in sorted(values.items(), key=lambda item: item[1][1] == "default"):
        if defaults or origin != "default":
            by_origin.setdefault(origin, []).append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "; ".join(f"{origin}: {', '.join(pairs)}" for origin, pairs in by_origin.items())


def _changes(given: Sequence[str] | None) -> dict[str, Any]:
    """Parse --set: a key and a TOML value; a bare word is text."""
    changes: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {text!r} is not key=value", fix="Write --set fuse.method=pool.")
        try:
            changes[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.strip()] = value.strip()
    return changes


def _ran(ran: Ran, common: Common) -> Outcome:
    tell(ran.findings, quiet=common.quiet, rest=f"in the findings.parquet of each stage in {ran.folder}")
    stages = len(ran.records)
    unfinished = [record.stage for record in ran.records if not record.complete]
    line = f"{counted(stages - ran.skipped, 'stage')} done, {ran.skipped} unchanged, in {ran.folder}"
    if unfinished:
        line += f"; {', '.join(unfinished)} stopped early; run the same command again to continue"
    entries = {str(record.folder): LeftOut.counted(record.counts) for record in ran.records}
    left_out = {folder: entry for folder, entry in entries.items() if entry.count}
    named = {Path(folder).relative_to(ran.folder).as_posix(): entry for folder, entry in left_out.items()}
    line += LeftOut.together(named)
    too_much = any(entry.is_too_much(common) for entry in left_out.values())
    if too_much:
        say_too_much(common)
    if ran.pages:
        line += f"; open {', '.join(str(page) for page in ran.pages)}"
    data = {
        "folder": str(ran.folder),
        "done": stages - ran.skipped,
        "skipped": ran.skipped,
        "unfinished": unfinished,
        "left_out": {place: entry.count for place, entry in left_out.items()},
        "pages": [str(page) for page in ran.pages],
        "findings": ran.findings.counts(),
    }
    return Outcome(line, data, exit_code=1 if unfinished or too_much else 0, as_json=common.json)
